from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata

import workflows.serving.queue_watch
from activities import Agent, task
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import Handle, events
from workflows import choreography, scatter
from workflows.engine.calls import CALLS_IN_FLIGHT


@choreography(worker=4)
async def double_all(numbers: list[int], worker: Worker) -> list[int]:
    """Double every number."""
    return await scatter(numbers, worker, lambda w, n: w.double(n))


@choreography(worker=2)
async def work_then_wait(items: list[str], worker: Worker) -> list[str]:
    """Do something that ends, and then something that takes its time."""
    await worker.work("first")
    return await scatter(items, worker, lambda w, item: w.wait(item))


@choreography(worker=2)
async def wait_in_a_body(items: list[str], worker: Worker) -> list[str]:
    """Do for each item what is more than a bare call."""

    async def body(w: Worker, item: str) -> str:
        return await w.wait(item)

    return await scatter(items, worker, body)


EVERYBODY = ("choreography", "Worker")


async def until(run: Handle, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return a run's progress as soon as something holds of it."""
    async with asyncio.timeout(20):
        while True:
            progress: dict[str, Any] = await run.query("progress")
            if holds(progress):
                return progress
            await asyncio.sleep(0.02)


async def details(run: Handle) -> str:
    """Return what the UI shows as the run's current details."""
    metadata: WorkflowMetadata = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def test_a_run_tells_how_far_it_is(runs: Runs) -> None:
    async with runs.serving(__name__, serve=EVERYBODY):
        run = await runs.start(work_then_wait, ["a", "b", "c"])
        await diary.wait_for(run.id, "begin", 3)
        progress = await run.query("progress")
    assert [progress["status"], progress["calls_done"], progress["calls_running"]] == ["running", 1, 2]
    assert progress["waits_for"] == []
    assert progress["usage"]["model_calls"] == 0


async def test_a_run_has_only_so_many_calls_in_the_queues_at_a_time(runs: Runs) -> None:
    items = [str(n) for n in range(CALLS_IN_FLIGHT + 30)]
    async with runs.serving(__name__, serve=EVERYBODY, concurrency=("200",)):
        run = await runs.start(wait_in_a_body, items, {"instances": {"worker": len(items)}})
        await until(run, lambda progress: progress["calls_running"] == CALLS_IN_FLIGHT)
        await diary.wait_for(run.id, "begin", CALLS_IN_FLIGHT)
        pending = (await run.describe()).raw_description.pending_activities
        diary.gate(run.id).set()
        await run.result()
    assert len(pending) == CALLS_IN_FLIGHT


# Queues that nobody serves


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that look ever again whether somebody serves the queues of their runs."""
    monkeypatch.setattr(workflows.serving.queue_watch, "LOOK_EVERY_S", 0.1)


class Outsider(Agent):
    """Is not there: the server takes a queue for served until a while after its last worker has gone."""

    @task
    def come_late(self, number: int) -> int:
        """Return the number."""
        return number

    @task
    def never_come(self, number: int) -> int:
        """Return the number."""
        return number


@choreography(outsider=4)
async def ask_the_late(outsider: Outsider) -> list[int]:
    """Ask somebody who is not there yet."""
    return await scatter(range(4), outsider, lambda o, n: o.come_late(n))


@choreography
async def ask_the_absent(outsider: Outsider) -> int:
    """Ask somebody who never comes."""
    return await outsider.never_come(1)


@choreography(worker=2)
async def ask_the_absent_again(worker: Worker, outsider: Outsider) -> int:
    """Give up a call at once, and make it again while another one takes its time."""
    given_up = asyncio.ensure_future(outsider.never_come(1))
    await asyncio.sleep(0)
    given_up.cancel()
    slow = asyncio.ensure_future(worker.wait("slow"))
    await worker.work("short", 0.5)
    await outsider.never_come(2)
    await slow
    return 0


ADVICE = (
    "nobody serves the task queue Outsider.come_late: 4 calls wait in it. "
    "Start a worker for it: python worker.py --serve Outsider.come_late"
)


async def test_a_queue_that_nobody_serves_is_looked_at_within_a_minute() -> None:
    assert workflows.serving.queue_watch.LOOK_EVERY_S < 60


@pytest.mark.usefixtures("impatient")
async def test_a_queue_that_nobody_serves_is_reported_until_somebody_does(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async with runs.serving(__name__, serve=("choreography",)):
        run = await runs.start(ask_the_late)
        with caplog.at_level(logging.WARNING):
            progress = await until(run, lambda progress: progress["waits_for"])
        assert progress["waits_for"] == [ADVICE]
        assert progress["status"] == "waits: nobody serves the task queue Outsider.come_late: 4 calls wait in it"
        async with asyncio.timeout(20):
            while ADVICE not in caplog.text:
                await asyncio.sleep(0.05)
        assert ADVICE in await details(run)
        async with runs.serving(__name__, serve=("Outsider.come_late",)):
            assert await run.result() == [0, 1, 2, 3]
        assert (await run.query("progress"))["waits_for"] == []
        assert "nobody serves" not in await details(run)


@pytest.mark.usefixtures("impatient")
async def test_a_queue_is_not_reported_any_more_when_its_calls_are_cancelled(runs: Runs) -> None:
    async with runs.serving(__name__, serve=("choreography",)):
        run = await runs.start(ask_the_absent)
        await until(run, lambda progress: progress["waits_for"])
        await run.cancel()
        await until(run, lambda progress: progress["calls_running"] == 0)
        assert (await run.query("progress"))["waits_for"] == []
        assert "nobody serves" not in await details(run)


@pytest.mark.usefixtures("impatient")
async def test_a_queue_is_reported_also_while_the_run_trusts_another_one(runs: Runs) -> None:
    async with runs.serving(__name__, serve=EVERYBODY):
        run = await runs.start(ask_the_absent_again)
        progress = await until(run, lambda progress: progress["waits_for"])
    assert "nobody serves the task queue Outsider.never_come: 1 calls wait in it" in progress["waits_for"][0]


@pytest.mark.usefixtures("impatient")
async def test_a_call_that_is_only_slow_is_not_reported(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    async with runs.serving(__name__, serve=EVERYBODY):
        run = await runs.start(work_then_wait, ["slow"])
        await diary.wait_for(run.id, "begin", 1)
        await asyncio.sleep(1)
        progress = await run.query("progress")
        diary.gate(run.id).set()
        await run.result()
    assert progress["waits_for"] == []
    assert "nobody serves" not in caplog.text


async def test_watching_the_queues_adds_no_event_to_the_history_of_a_run(runs: Runs) -> None:
    async with runs.serving(__name__, serve=EVERYBODY):
        run = await runs.start(double_all, list(range(40)))
        await run.result()
    kinds = [event.event_type for event in await events(run)]
    assert EventType.EVENT_TYPE_TIMER_STARTED not in kinds
    assert EventType.EVENT_TYPE_MARKER_RECORDED not in kinds
