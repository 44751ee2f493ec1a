from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from temporalio.api.sdk.v1 import WorkflowMetadata

from console.dev_server import DevServer
from console.watch import watching
from tests.conftest import Runs
from tests.system.processes import Process, eventually, free_port
from tests.workflows.crew import Worker, diary
from workflows import choreography, phase, scatter
from workflows.shown.progress import Progress


@choreography(worker=30)
async def work_on(count: int, quick: int, worker: Worker) -> int:
    """Work on items, of which the first are done at once and the others wait for the test."""
    with phase("work"):
        done = await scatter(
            [f"item {n}" for n in range(count)],
            worker,
            lambda w, item: w.work(item, 0.0) if int(item[5:]) < quick else w.wait(item),
        )
    return len(done)


@choreography
async def fail(worker: Worker) -> None:
    """Fail."""
    await worker.fail("no luck")


@pytest.fixture(autouse=True)
def address(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watcher is told by the environment."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)


class Watcher:
    """Somebody who watches runs, on something that is no terminal or on one."""

    def __init__(self, *workflow_ids: str, terminal: bool = False) -> None:
        self._said = io.StringIO()
        screen = Console(file=self._said, force_terminal=terminal, width=150, height=60, color_system=None)
        self._watching = asyncio.create_task(watching(workflow_ids, every=0.1, console=screen))

    @property
    def said(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._said.getvalue())

    @property
    def lines(self) -> list[str]:
        """What was said, without the time of day."""
        return [line[9:] for line in self.said.splitlines()]

    async def says(self, text: str) -> None:
        await eventually(lambda: text in self.said, lambda: f"{text!r} in {self.said}", seconds=30)

    async def exit_code(self) -> int:
        async with asyncio.timeout(30):
            return await self._watching

    async def leave(self) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])


async def test_watch_query_and_the_uis_details_tell_the_same_of_200_items(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(work_on, 200, 120)
        await diary.wait_for(run.id, "begin", 150)
        counts = "120 of 200 done, 30 running, 50 waiting"
        plain, live = Watcher(run.id), Watcher(run.id, terminal=True)
        await plain.says(counts)
        await live.says(counts)
        progress: Progress = await run.query("progress", result_type=Progress)
        metadata: Any = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        [scatter] = progress.scatters
        assert (scatter.done, scatter.running, scatter.waiting) == (120, 30, 50)
        for told in (plain.said, live.said, metadata.current_details):
            assert scatter.in_words() == counts
            assert counts in told
            assert progress.headline() == "running: work"
            assert progress.headline() in told
            assert progress.calls_in_words() == "120 calls done, 30 running"
            assert progress.calls_in_words() in told
        assert progress.working[0].item in metadata.current_details
        assert progress.working[0].item in live.said
        diary.gate(run.id).set()
        assert await plain.exit_code() == 0
        assert await live.exit_code() == 0
    assert plain.lines[-1] == f"{run.id}: done; Worker.work: 200 of 200 done; 200 calls done, 0 running"


async def test_a_watcher_may_come_and_go(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(work_on, 3, 1)
        first = Watcher(run.id)
        await first.says("1 of 3 done")
        await first.leave()
        second = Watcher(run.id)
        await second.says("1 of 3 done")
        diary.gate(run.id).set()
        assert await second.exit_code() == 0
        assert await Watcher(run.id).exit_code() == 0


async def test_several_runs_are_watched_until_the_last_has_ended_and_a_failure_is_told(runs: Runs) -> None:
    async with runs.serving(__name__):
        good, bad = await runs.start(work_on, 2, 0), await runs.start(fail)
        watcher = Watcher(good.id, bad.id)
        await watcher.says("RuntimeError: no luck")
        await diary.wait_for(good.id, "begin", 2)
        diary.gate(good.id).set()
        assert await watcher.exit_code() == 1
    assert f"{good.id}: done" in watcher.said
    assert f"{bad.id}: failed" in watcher.said


async def test_a_line_is_said_only_when_something_has_changed(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(work_on, 1, 0)
        await diary.wait_for(run.id, "begin", 1)
        watcher = Watcher(run.id)
        await watcher.says("0 of 1 done, 1 running")
        await asyncio.sleep(1)
        assert len(watcher.lines) == 1
        await watcher.leave()


async def test_a_run_that_is_terminated_is_said_to_be(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(work_on, 1, 0)
        watcher = Watcher(run.id)
        await watcher.says("1 running")
        await run.terminate()
        assert await watcher.exit_code() == 1
    assert watcher.lines[-1].startswith(f"{run.id}: terminated")


# What is in the way


async def test_a_run_that_is_not_there_yet_is_waited_for(runs: Runs) -> None:
    watcher = Watcher("later")
    await watcher.says("later: not seen yet; there is no run of this id (yet)")
    async with runs.serving(__name__):
        await runs.start(work_on, 1, 1, id="later")
        assert await watcher.exit_code() == 0


async def test_a_run_that_no_worker_answers_for_is_watched_again_when_one_does(runs: Runs) -> None:
    run = await runs.start(work_on, 1, 1)
    watcher = Watcher(run.id)
    await watcher.says("no worker answers for it; it goes on when one serves the queue 'choreography'")
    async with runs.serving(__name__):
        assert await watcher.exit_code() == 0


async def test_what_is_no_run_of_a_choreography_is_said_to_be_none(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start("conversation")
        watcher = Watcher(run.id)
        await watcher.says("a workflow of type 'conversation' is no choreography's run")
        await watcher.leave()


async def test_a_server_that_is_not_there_is_waited_for(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
    watcher = Watcher("late")
    await watcher.says(f"late: not seen yet; No Temporal server answers at 127.0.0.1:{port}")
    with DevServer.start(ui=False, port=int(port)):
        await watcher.says("there is no run of this id (yet)")
        await watcher.leave()


async def test_the_command_line_ends_with_the_run(runs: Runs, tmp_path: Path) -> None:
    async with runs.serving(__name__):
        run = await runs.start(work_on, 3, 3)
        process = Process(*(sys.executable, "-m", "console", "watch", run.id), folder=tmp_path / "watch")
        assert await process.exit_code() == 0, process.errors
    assert "3 of 3 done" in process.output
