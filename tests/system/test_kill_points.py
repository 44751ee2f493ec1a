from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.provider import Provider, Request, Text, ToolCall, Tools
from tests.system.processes import Workers, eventually

POINTS = ("answer received", "tool result recorded", "answer recorded", "call committed")


@dataclass(frozen=True)
class Outcome:
    """What came of a run whose worker died at one point."""

    result: Any
    repeated: int
    roles: list[str]


def reply(request: Request) -> Text | Tools:
    """Call a tool, then answer."""
    if request.messages[-1]["role"] == "tool":
        return Text(f"done after {len(request.messages)} messages")
    return Tools((ToolCall("note", {"word": request.last_user}),))


async def run_with_a_death(point: str, folder: Path) -> Outcome:
    """Run two calls; the worker dies at a point of the first one, and another goes on."""
    with Provider(reply) as provider, DevServer.start(ui=False) as server:
        settings: dict[str, Any] = {
            "MODEL": "openai/any",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_BASE": provider.url,
        }
        workers = Workers(server.address, folder)
        try:
            doomed = workers.fork("tests.system.dying", DIE_AT=point, **settings)
            client = await Client.connect(server.address, data_converter=data_converter)
            handle = await client.start_workflow(
                "think_twice", args=["one", "two"], id="run", task_queue=CHOREOGRAPHY_QUEUE
            )
            await eventually(lambda: not doomed.is_running)
            workers.fork("tests.system.dying", **settings)
            result = await handle.result()
            page = await client.get_workflow_handle("run/thinker-1").query("transcript")
        finally:
            workers.end()
        repeated = sum(count - 1 for count in provider.counts.values())
        return Outcome(result, repeated, [entry["role"] for entry in page["entries"]])


@pytest.fixture(scope="module")
async def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What came of a death at each point; they die side by side, as each waits long for its heartbeat timeout."""
    folders = [tmp_path_factory.mktemp("death") / "workers" for _ in POINTS]
    return dict(zip(POINTS, await asyncio.gather(*map(run_with_a_death, POINTS, folders)), strict=True))


@pytest.mark.parametrize("point", POINTS)
async def test_a_call_whose_worker_died_between_two_steps_ends_right(outcomes: dict[str, Outcome], point: str) -> None:
    assert outcomes[point].result == ["done after 4 messages", "done after 8 messages"]
    assert outcomes[point].roles == ["user", "assistant", "tool", "assistant"] * 2


async def test_an_answer_that_was_not_recorded_is_asked_for_once_more(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["answer received"].repeated == 1


@pytest.mark.parametrize("point", POINTS[1:])
async def test_a_recorded_answer_is_never_asked_for_again(outcomes: dict[str, Outcome], point: str) -> None:
    assert outcomes[point].repeated == 0
