"""Processes that are killed: the run goes on where it was."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Slow, Text, ToolCall, Tools
from tests.system.crowd import ask, squares
from tests.system.processes import Workers, eventually, recorded

CROWD = ("--bare", "--module", "tests.system.crowd")
HANDS = (*CROWD, "--serve", "choreography", "--serve", "Hand")  # no prompts: nothing waits for litellm
FOR_EVER = "3600"


async def test_a_killed_workers_calls_run_elsewhere(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    numbers = list(range(20))
    doomed = workers.start(*CROWD, "--serve", "Hand", "--concurrency", "2", WORKER="doomed", PACE=FOR_EVER)
    await doomed.serves()
    run = await runs.start(squares, numbers, str(ledger.path))
    workers.start(*CROWD, "--serve", "choreography")
    await eventually(lambda: len(ledger.lines("began ")) == 2)
    workers.start(*CROWD, "--serve", "Hand", WORKER="other", PACE="0.01")
    await eventually(lambda: len(ledger.lines("did ")) == len(numbers) - 2)

    doomed.kill()

    assert await run.result() == [n * n for n in numbers]
    assert Counter(ledger.lines("did ")) == Counter(f"{n} other" for n in numbers)


async def test_a_model_call_goes_on_from_its_last_recorded_turn(
    workers: Workers, runs: Runs, ledger: Ledger, provider: Provider
) -> None:
    notes = [ToolCall("note", {"what": what, "ledger": str(ledger.path)}) for what in ("one", "two", "three")]
    provider.enqueue(Tools((notes[0], notes[1])), Tools((notes[2],)), Slow(3600, Text("never")), Text("That is all."))
    only = workers.fork("tests.system.crowd")
    run = await runs.start(ask, "ducks")
    await eventually(lambda: len(provider.requests) == 3)
    await recorded(run, "noted three")

    only.kill()
    workers.fork("tests.system.crowd")

    assert await run.result() == "That is all."
    assert list(provider.counts.values()) == [1, 1, 2]
    assert ledger.lines("noted ") == ["one", "two", "three"]


async def test_a_killed_server_goes_on_from_its_file(tmp_path: Path, ledger: Ledger) -> None:
    numbers = list(range(40))
    db_file = tmp_path / "runs.db"
    server = DevServer.start(db_file=db_file, ui=False)
    port = int(server.address.rpartition(":")[2])
    workers = Workers(server.address, tmp_path)
    worker = workers.start(*HANDS, PACE="0.05")
    try:
        await worker.serves()
        client = await Client.connect(server.address, data_converter=data_converter)
        run = await client.start_workflow(
            "squares", args=[numbers, str(ledger.path)], id="squares", task_queue=CHOREOGRAPHY_QUEUE
        )
        await eventually(lambda: len(ledger.lines("did ")) >= 10)

        os.kill(server.pid, signal.SIGKILL)
        server.stop()
        assert len(ledger.lines("did ")) < len(numbers)
        server = DevServer.start(db_file=db_file, port=port, ui=False)

        assert await run.result() == [n * n for n in numbers]
        assert worker.is_running
    finally:
        workers.end()
        server.stop()
