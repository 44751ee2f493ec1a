from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker

from activities.values.converter import data_converter
from console.dev_server import DevServer
from console.history import CallSeen, follow_calls, result_of
from tests.conftest import Ledger, Runs
from tests.console.test_show import Relay, RelayPart, note
from tests.office import note_numbers, one_call

OFFICE = "tests.office"


async def test_every_call_is_seen_when_it_is_made_and_when_it_has_ended(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 4], str(ledger.path), False, {"instances": {"clerk": 1}})
        seen = [(call.summary, call.ended is None, call.value) async for call in follow_calls(run, data_converter)]
    assert seen == [
        ("clerk-1 · 2", True, None),
        ("clerk-1 · 2", False, 2),
        ("clerk-1 · 4", True, None),
        ("clerk-1 · 4", False, 4),
    ]


async def test_a_call_that_failed_tells_why(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "fail_if_odd", [3, str(ledger.path)])
        *_, last = [call async for call in follow_calls(run, data_converter)]
    assert last.method == "Clerk.fail_if_odd"
    assert last.error is not None
    assert last.error.startswith("3 is odd (office.py:")


async def test_a_call_that_was_cancelled_says_so(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "wait", [])
        async for call in follow_calls(run, data_converter):
            if call.ended is None:
                await run.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
    assert call.error == "cancelled"


async def test_a_server_that_is_killed_and_comes_again_is_no_end_of_a_run(tmp_path: Path) -> None:
    db_file, begun, lost = tmp_path / "runs.db", asyncio.Event(), asyncio.Event()
    with DevServer.start(db_file=db_file, ui=False) as server:
        port = int(server.address.rpartition(":")[2])
        runs = Runs(await Client.connect(server.address, data_converter=data_converter))
        async with runs.serving(OFFICE):
            run = await runs.start(one_call, "wait", [])
            seen: list[CallSeen] = []

            async def follow() -> None:
                async for call in follow_calls(run, data_converter, lost.set):
                    seen.append(dataclasses.replace(call))
                    begun.set()

            following = asyncio.create_task(follow())
            result = asyncio.create_task(result_of(run, lost.set))
            async with asyncio.timeout(60):
                await begun.wait()
                os.kill(server.pid, signal.SIGKILL)
                server.stop()  # its file is free again
                await lost.wait()
                with DevServer.start(db_file=db_file, ui=False, port=port):
                    assert not following.done()
                    await asyncio.sleep(1)
                    await run.cancel()
                    await following
                    with pytest.raises(WorkflowFailureError):
                        await result
    assert [(call.method, call.error) for call in seen] == [("Clerk.wait", None), ("Clerk.wait", "cancelled")]


async def test_a_run_is_followed_where_it_continues_as_new(runs: Runs) -> None:
    async with Worker(runs.client, task_queue="relay", workflows=[Relay, RelayPart], activities=[note]):
        run = await runs.client.start_workflow("relay", 3, id="relay-followed", task_queue="relay")
        seen = [call.item async for call in follow_calls(run, data_converter) if call.ended]
    assert seen[-1] == "round 1"
