"""A worker that is killed while prompts below prompts are answered: none of them is asked for twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.provider import Provider
from tests.system.processes import Workers, eventually
from tests.workflows.engine.test_inside import drafted, in_short, reply, sent, transcript

PLACES = "in-turn at-once in-a-tool deep-six"


async def test_what_was_answered_inside_is_paid_once_counted_once_and_readable(tmp_path: Path) -> None:
    with Provider(reply) as provider, DevServer.start(ui=False) as server:
        settings: dict[str, Any] = {
            "MODEL": "openai/any",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_BASE": provider.url,
        }
        workers = Workers(server.address, tmp_path)
        try:
            doomed = workers.fork("tests.workflows.offices", DIE_WITH=PLACES, **settings)
            client = await Client.connect(server.address, data_converter=data_converter)
            run = await client.start_workflow("all_at_once", id="run", task_queue=CHOREOGRAPHY_QUEUE)
            await eventually(lambda: not doomed.is_running)
            asked_before = len(provider.requests)
            workers.fork("tests.workflows.offices", **settings)
            result = await run.result()
            used = (await run.query("progress"))["usage"]
            said = [in_short(await transcript(client, f"run/writer-{number}")) for number in (1, 2, 3, 4)]
        finally:
            workers.end()
    assert result == [
        ["Draft one done", "Draft two done"],
        ["Draft three done", "Draft four done", "Send five done"],
        "Send six done",
        "Write seven done",
    ]
    assert asked_before >= 12
    assert set(provider.counts.values()) == {1}
    assert used["model_calls"] == len(provider.requests)
    assert said == [
        [drafted("one"), drafted("two")],
        [drafted("three"), drafted("four"), sent("five")],
        [sent("six")],
        ["Write seven.", "post", "Send seven done", "Write seven done", sent("seven")],
    ]
