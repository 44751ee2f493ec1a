from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.workflow import NondeterminismError

from tests.conftest import Runs
from tests.workflows import changed
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import Handle
from workflows import choreography, fan_out, instance, scatter
from workflows.program.choreography import Choreography
from workflows.serving.workers import replayer

pytestmark = pytest.mark.usefixtures("served")


@choreography(worker=3)
async def build(items: list[str], worker: Worker, reviewer: Worker) -> int:
    """Plan, write and review until nothing is left to mend."""
    await worker.work("plan")
    await scatter(items, worker, lambda w, item: w.work(item, 0.0))
    rounds = 0
    todo = items
    while todo:
        rounds += 1
        await scatter(todo, worker, lambda w, item: mend(w, item, reviewer))
        todo = todo[1:]
    return rounds


async def mend(worker: Worker, item: str, reviewer: Worker) -> None:
    await asyncio.gather(worker.work(item, 0.0), reviewer.work(item, 0.0))
    await worker.double(1)


@choreography(worker=2)
async def ask_twice(worker: Worker) -> None:
    """Ask two things in turn."""
    await worker.whoami()
    await worker.whoami()


@choreography(worker=2, reviewer=2)
async def fan(items: list[str], worker: Worker, reviewer: Worker) -> list[list[str]]:
    """Have groups worked on at the same time, and one instance by its name."""
    await instance(worker, "worker-2").whoami()
    return await fan_out([(items, worker, lambda w, i: w.work(i)), (items, reviewer, lambda w, i: w.work(i))])


@choreography(worker=3)
async def fail(on_error: str, worker: Worker) -> int:
    """Have one of many items fail."""
    results = await scatter(
        ["a", "bad", "b", "c"],
        worker,
        lambda w, item: work_or_fail(w, item, on_error),
        on_error=on_error,  # type: ignore[call-overload]
    )
    return len(results)


async def work_or_fail(worker: Worker, item: str, on_error: str) -> None:
    if item == "bad":
        await worker.fail("no luck")
    elif on_error == "collect":
        await worker.work(item)
    else:
        await worker.wait(item)


@choreography(worker=3)
async def wait(items: list[str], worker: Worker) -> list[str]:
    """Wait until the test goes on."""
    return await scatter(items, worker, lambda w, item: w.wait(item))


@choreography(worker=5)
async def send_much(worker: Worker) -> int:
    """Send more at the same time than one workflow task may hold."""
    return len(await scatter(range(5), worker, lambda w, n: w.work("x" * 1_000_000, 0.0)))


async def replay(run: Handle, *choreographies: Choreography[..., Any]) -> None:
    await replayer(*choreographies).replay_workflow(await run.fetch_history())


@pytest.mark.parametrize(
    ("program", "inputs"),
    [
        (build, [["a", "b", "c", "d"]]),
        (fan, [["a", "b", "c"]]),
        (fail, ["raise"]),
        (fail, ["collect"]),
        (send_much, []),
    ],
    ids=str,
)
async def test_a_run_that_has_ended_replays(runs: Runs, program: Choreography[..., Any], inputs: list[Any]) -> None:
    run = await runs.start(program, *inputs)
    try:
        await run.result()
    except WorkflowFailureError:
        assert inputs == ["raise"]
    await replay(run, program)


async def test_a_run_that_is_under_way_replays(runs: Runs) -> None:
    run = await runs.start(wait, ["a", "b", "c", "d"])
    await diary.wait_for(run.id, "begin", 3)
    await replay(run, wait)


async def test_a_run_that_was_cancelled_replays(runs: Runs) -> None:
    run = await runs.start(wait, ["a", "b", "c", "d"])
    await diary.wait_for(run.id, "begin", 3)
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await run.result()
    await replay(run, wait)


@pytest.mark.parametrize(("program", "inputs"), [(build, [["a", "b"]]), (ask_twice, [])], ids=str)
async def test_a_program_that_was_changed_does_not_replay(
    runs: Runs, program: Choreography[..., Any], inputs: list[Any]
) -> None:
    run = await runs.start(program, *inputs)
    await run.result()
    with pytest.raises(NondeterminismError):
        await replay(run, vars(changed)[program.name])
