"""People who answer with the `temporal` program, whatever died since they were asked."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Slow, Text, ToolCall, Tools
from tests.system.processes import Workers, eventually, recorded, temporal
from tests.workflows.council import decide_and_produce, decide_once, produce_twice

COUNCIL = "tests.workflows.council"
ASKING = ("--bare", "--module", COUNCIL, "--serve", "choreography")  # who asks people alone needs no litellm
PLAN = {"title": "Roses", "pages": 12}
GO = {"verdict": "go", "pages": 12}


async def questions(address: str, run: str) -> list[dict[str, Any]]:
    """Ask a run for its open questions, as a person does."""
    code, told = await temporal(
        address, "workflow", "query", "--workflow-id", run, "--type", "questions", "--output", "json"
    )
    assert code == 0, told
    return json.loads(told)["queryResult"][0] or []  # an empty list is a null to it


async def one_question(address: str, run: str, method: str) -> dict[str, Any]:
    while True:
        found = await questions(address, run)
        if [question["method"] for question in found] == [method]:
            return found[0]
        await asyncio.sleep(0.1)


async def answer(address: str, run: str, question: str, given: Any) -> tuple[int, str]:
    return await temporal(
        address,
        *("workflow", "update", "execute", "--workflow-id", run, "--name", "answer"),
        *("--input", json.dumps({"question": question, "answer": given})),
    )


async def test_an_approval_is_given_after_the_worker_and_the_server_were_killed(
    tmp_path: Path, ledger: Ledger, provider: Provider
) -> None:
    provider.enqueue(Tools((ToolCall("print_out", {"title": "Roses", "ledger": str(ledger.path)}),)), Text("printed"))
    db_file = tmp_path / "runs.db"
    server = DevServer.start(db_file=db_file, ui=False)
    address, port = server.address, int(server.address.rpartition(":")[2])
    workers = Workers(address, tmp_path)
    worker = workers.fork(COUNCIL)
    try:
        client = await Client.connect(address, data_converter=data_converter)
        run = await client.start_workflow(
            decide_and_produce.name, args=[PLAN], id="printing", task_queue=CHOREOGRAPHY_QUEUE
        )
        asked = await one_question(address, run.id, "Owner.decide")
        code, told = await answer(address, run.id, asked["id"], GO)
        assert code == 0, told
        wanted = await one_question(address, run.id, "Press.print_out")

        worker.kill()
        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        server = DevServer.start(db_file=db_file, port=port, ui=False)
        workers.fork(COUNCIL)

        code, told = await answer(address, run.id, wanted["id"], {"approve": "perhaps"})
        assert code != 0
        assert f"The answer to {wanted['id']} (Press.print_out) does not fit: 'approve': Input should be a" in told
        code, told = await answer(address, run.id, asked["id"], GO)
        assert code != 0
        assert f'The question "{asked["id"]}" was answered already. Open: {wanted["id"]}' in told
        assert ledger.lines() == []
        code, told = await answer(address, run.id, wanted["id"], {"approve": True})
        assert code == 0, told
        assert await run.result() == "printed"
        assert ledger.lines() == ["printed Roses as 2/1/0"]
        assert list(provider.counts.values()) == [1, 1]
    finally:
        workers.end()
        server.stop()


async def test_the_command_that_a_question_shows_answers_it(workers: Workers, runs: Runs, server: DevServer) -> None:
    worker = workers.start(*ASKING)
    await worker.serves()
    run = await runs.start(decide_once, PLAN, id="a run's name")
    asked = await one_question(server.address, run.id, "Owner.decide")
    await eventually(lambda: f"asks owner-1: Shall Roses be printed?. {asked['command']}" in worker.errors)
    code, told = await temporal(server.address, *shlex.split(asked["command"])[1:])
    assert code == 0, told
    assert await run.result() == {"verdict": "go", "pages": 1}


async def test_of_two_answers_that_no_worker_was_there_for_one_is_refused(
    workers: Workers, runs: Runs, server: DevServer
) -> None:
    worker = workers.start(*ASKING)
    await worker.serves()
    run = await runs.start(decide_once, PLAN)
    asked = await one_question(server.address, run.id, "Owner.decide")
    worker.kill()

    both = [asyncio.create_task(answer(server.address, run.id, asked["id"], {**GO, "pages": n})) for n in (1, 2)]
    await asyncio.sleep(1)  # until both have been sent
    workers.start(*ASKING)

    (first, second) = await asyncio.gather(*both)
    assert sorted([first[0], second[0]]) == [0, 1], (first, second)
    await run.result()
    assert await updates_accepted(run) == 1


async def updates_accepted(run: WorkflowHandle[Any, Any]) -> int:
    events = (await run.fetch_history()).events
    return sum(event.HasField("workflow_execution_update_accepted_event_attributes") for event in events)


async def test_a_call_that_was_approved_goes_on_when_its_worker_dies(
    workers: Workers, runs: Runs, server: DevServer, ledger: Ledger, provider: Provider
) -> None:
    printing = Tools((ToolCall("print_out", {"title": "Roses", "ledger": str(ledger.path)}),))
    provider.enqueue(printing, Slow(3600, Text("never")), Text("done"), Text("done again"))
    worker = workers.fork(COUNCIL)
    run = await runs.start(produce_twice, "Roses")
    wanted = await one_question(server.address, run.id, "Press.print_out")
    code, told = await answer(server.address, run.id, wanted["id"], True)
    assert code == 0, told
    await recorded(run, "printed Roses as")
    worker.kill()
    workers.fork(COUNCIL)
    assert await run.result() == ["done", "done again"]
    assert ledger.lines() == ["printed Roses as 1/1/0"]
    assert list(provider.counts.values()) == [1, 2, 1]
