from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio import workflow
from temporalio.worker import Worker as TemporalWorker

from activities.contract.names import CHOREOGRAPHY_QUEUE
from console.dev_server import DevServer
from console.history import read_run
from console.show import show
from console.trouble import nobody_answers, troubles_of
from tests.conftest import Runs
from tests.console.stubborn import fail_again, fail_eight_times, fail_in_a_shard
from tests.console.test_watch import Watcher
from tests.workflows.histories import Handle

TEAM = "tests.console.stubborn"


@pytest.fixture(autouse=True)
def address(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watcher is told by the environment."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)


async def troubles(runs: Runs, run: Handle) -> list[str]:
    """Return what is in the way of a run, as soon as something is."""
    async with asyncio.timeout(30):
        while not (told := await troubles_of(runs.client, await run.describe())):
            await asyncio.sleep(0.1)
    return told


# Calls that are tried again


async def test_a_call_that_is_tried_again_tells_why_since_when_and_how_often(runs: Runs) -> None:
    async with runs.serving(TEAM):
        run = await runs.start(fail_again, "no luck")
        [told] = await troubles(runs, run)
        watcher = Watcher(run.id)
        await watcher.says("Stubborn.fail (step 1) is tried again since")
        await watcher.leave()
        seen = await read_run(runs.client, run.id)
    assert told.startswith("Stubborn.fail (step 1) is tried again since ")
    assert ": attempt 2 comes at " in told or ": attempt 2 runs since " in told
    assert "The last one: no luck (stubborn.py:" in told
    assert seen.troubles[0].startswith("Stubborn.fail (step 1) is tried again since ")


async def test_of_many_calls_that_are_tried_again_some_are_told(runs: Runs) -> None:
    async with runs.serving(TEAM):
        run = await runs.start(fail_eight_times)
        async with asyncio.timeout(30):
            while len(told := await troubles(runs, run)) < 6:
                await asyncio.sleep(0.1)
    assert told[-1].endswith("more calls are tried again")


async def test_a_call_of_a_shard_that_is_tried_again_is_told(runs: Runs) -> None:
    async with runs.serving(TEAM, concurrency=("100",)):
        run = await runs.start(fail_in_a_shard)
        told = await troubles(runs, run)
    assert told[0].startswith("Stubborn.fail_first (step 1.1.1) is tried again")


async def test_a_run_on_which_all_is_well_has_no_troubles(runs: Runs) -> None:
    async with runs.serving(TEAM):
        run = await runs.start(fail_in_a_shard)
        await asyncio.sleep(0)
        described = await run.describe()
        assert await troubles_of(runs.client, described) == []


# Runs that no worker can go on with


async def test_a_type_with_a_typo_is_said_with_what_there_is(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    async with runs.serving(TEAM):
        run = await runs.start("fail_agian", "no luck")
        [told] = await troubles(runs, run)
        watcher = Watcher(run.id)
        await watcher.says("did you mean fail_again?")
        await watcher.leave()
        assert await asyncio.to_thread(show, run.id, as_mermaid=False) == 0
    assert told.startswith("there is no choreography 'fail_agian' on the worker; did you mean fail_again? There are: ")
    assert "fail_eight_times" in told
    assert "conversation" not in told
    assert "no worker answers" not in watcher.said
    assert "did you mean fail_again?" in " ".join(capsys.readouterr().out.split())


@workflow.defn(name="broken", sandboxed=False)
class Broken:
    """A workflow whose task fails."""

    @workflow.run
    async def run(self) -> None:
        raise RuntimeError("a bug that is to be mended")


async def test_why_a_workers_task_fails_is_said_as_it_is(runs: Runs) -> None:
    async with TemporalWorker(runs.client, task_queue="broken", workflows=[Broken]):
        run = await runs.client.start_workflow("broken", id="broken", task_queue="broken")
        [told] = await troubles(runs, run)
        await run.terminate()
    assert told.startswith("workers fail to go on with it, since ")
    assert told.endswith(": a bug that is to be mended")


# Queues that no choreographies are served on


@asynccontextmanager
async def started_on(runs: Runs, queue: str) -> AsyncIterator[Handle]:
    run: Any = await runs.client.start_workflow("fail_again", "no", id=f"on-{queue}", task_queue=queue)
    try:
        yield run
    finally:
        await run.terminate()


async def test_a_run_that_was_started_on_an_agents_queue_is_said_to_be(runs: Runs) -> None:
    async with runs.serving(TEAM), started_on(runs, "Stubborn.fail") as run:
        watcher = Watcher(run.id)
        await watcher.says("it was started on the task queue 'Stubborn.fail', on which workers serve calls of agents")
        await watcher.says("start it on the queue of the choreographies: --task-queue choreography")
        await watcher.leave()


async def test_a_run_on_a_queue_that_nobody_serves_is_said_to_be(runs: Runs) -> None:
    async with runs.serving(TEAM), started_on(runs, "nowhere") as run:
        told = await nobody_answers(runs.client, await run.describe())
    assert told.startswith("it was started on the task queue 'nowhere', on which no worker serves choreographies.")


async def test_a_run_on_the_right_queue_waits_for_a_worker(runs: Runs) -> None:
    run = await runs.start(fail_again, "no")
    told = await nobody_answers(runs.client, await run.describe())
    assert told == f"no worker answers for it; it goes on when one serves the queue '{CHOREOGRAPHY_QUEUE}'"
