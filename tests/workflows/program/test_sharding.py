from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError

import workflows.engine.lifetime
import workflows.engine.shard
import workflows.program.sharding
from activities import Agent, task
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import histories
from workflows import choreography, scatter
from workflows.errors import ItemFailed

pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide scatters of more than 20 items into shards of at most 10."""
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 20)
    monkeypatch.setattr(workflows.program.sharding, "CALLS_PER_SHARD", 10)


async def shards_of(client: Client, run_id: str) -> list[str]:
    """Return the workflow ids of a run's shards."""
    query = f"WorkflowType = 'scatter_shard' AND ParentWorkflowId = '{run_id}'"
    return sorted([found.id async for found in client.list_workflows(query)])


class Careful(Agent):
    """Does small things to numbers."""

    @task(retries=0)
    async def half(self, number: int) -> int:
        """Halve an even number."""
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    @task
    async def long_text(self, number: int, length: int) -> str:
        """Return a long text that can't be compressed much."""
        import random

        return f"{number}:" + random.Random(number).randbytes(length // 2).hex()


@choreography(worker=4)
async def double_all(count: int, worker: Worker) -> list[int]:
    """Double every number."""
    return await scatter(range(count), worker, lambda w, n: w.double(n))


@pytest.mark.parametrize("count", [20, 21, 30, 57])
async def test_results_are_right_and_in_order_whether_divided_or_not(runs: Runs, count: int) -> None:
    assert await runs.execute(double_all, count) == [2 * n for n in range(count)]


async def test_a_large_scatter_is_divided_over_child_workflows(runs: Runs) -> None:
    run = await runs.start(double_all, 30)
    await run.result()
    async with asyncio.timeout(20):
        while len(found := await shards_of(runs.client, run.id)) < 3:  # the list lags behind
            await asyncio.sleep(0.1)
    readable = [id.rpartition("-")[0] for id in found]
    assert readable == [f"{run.id}/1.1-10", f"{run.id}/1.11-20", f"{run.id}/1.21-30"]


async def test_a_wide_pool_is_divided_too_and_all_its_instances_work_at_once(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "CALLS_IN_FLIGHT", 3)
    run = await runs.start(wait_all, 8, {"instances": {"worker": 8}})
    await diary.wait_for(run.id, "begin", 8)
    diary.gate(run.id).set()
    assert sorted(await run.result()) == [f"worker-{n}" for n in range(1, 9)]


@choreography(worker=4)
async def wait_all(count: int, worker: Worker) -> list[str]:
    """Wait with every item."""
    return await scatter(range(count), worker, lambda w, n: w.wait(str(n)))


@choreography(worker=3)
async def mixed(count: int, worker: Worker, careful: Careful) -> list[Any]:
    """Treat items differently: by bare calls of several methods, by a body, by name, by another role."""

    async def body(w: Worker, number: int) -> int:
        return await w.double(await w.double(number))

    def do(w: Worker, number: int) -> Any:
        match number % 5:
            case 0:
                return w.double(number)
            case 1:
                return w.work(str(number), 0.0)
            case 2:
                return body(w, number)
            case 3:
                return w.work(w.name, 0.0)
            case _:
                return careful.half(number * 2)

    return await scatter(range(count), worker, do)


async def test_items_that_are_no_bare_calls_are_done_all_the_same(runs: Runs) -> None:
    results = await runs.execute(mixed, 40)
    for number, result in enumerate(results):
        match number % 5:
            case 0:
                assert result == 2 * number
            case 1 | 3:
                assert result.startswith("worker-")
            case 2:
                assert result == 4 * number
            case _:
                assert result == number


@choreography(careful=4)
async def halve_all(numbers: list[int], careful: Careful) -> list[int]:
    """Halve every number."""
    return await scatter(numbers, careful, lambda c, n: c.half(n))


async def test_the_first_error_ends_the_scatter_and_names_item_and_instance(runs: Runs) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await runs.execute(halve_all, [*range(0, 50, 2), 7, *range(50, 100, 2)])
    message = str(caught.value.cause)
    assert "item 25 (7) on careful-" in message
    assert "Careful.half (careful-" in message
    assert "step 1.26.1, 7) failed: ValueError: 7 is odd" in message


@choreography(careful=4)
async def halve_what_can_be(numbers: list[int], careful: Careful) -> list[int | str]:
    """Halve the even numbers, and tell of the others."""
    results = await scatter(numbers, careful, lambda c, n: c.half(n), on_error="collect")
    return [f"{r.index} {r.item}" if isinstance(r, ItemFailed) else r for r in results]


async def test_errors_are_collected_in_their_items_places(runs: Runs) -> None:
    assert await runs.execute(halve_what_can_be, list(range(30))) == [
        f"{n} {n}" if n % 2 else n // 2 for n in range(30)
    ]


async def test_a_cancelled_run_cancels_the_calls_of_its_shards(runs: Runs) -> None:
    run = await runs.start(wait_all, 30)
    await diary.wait_for(run.id, "begin", 4)
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await run.result()
    assert len(diary.items(run.id, "cancelled")) == 4


@choreography(careful=3)
async def long_texts(count: int, length: int, careful: Careful) -> list[int]:
    """Get texts that are together more than a workflow may return."""
    texts = await scatter(range(count), careful, lambda c, n: c.long_text(n, length))
    assert [text.partition(":")[0] for text in texts] == [str(n) for n in range(count)]
    return [len(text) for text in texts]


@pytest.mark.timeout(300)  # 18 MB through a server that others have work for, too
async def test_results_that_are_together_too_large_come_in_parts(runs: Runs) -> None:
    run = await runs.start(long_texts, 30, 600_000)
    lengths = await run.result()
    assert min(lengths) >= 600_000
    events = [event.event_type for history in await histories(runs.client, run) for event in history.events]
    assert events.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) > 10
    assert events.count(EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0


@choreography(careful=3)
async def long_arguments(count: int, length: int, worker: Worker, careful: Careful) -> list[int]:
    """Give texts that are together more than a workflow may be started with."""
    results = await scatter(range(count), careful, lambda c, n: c.half(n * 2) if n < 0 else c.long_text(n, 10))
    names = await scatter(range(count), worker, lambda w, n: w.work(f"{n}" + "x" * length, 0.0))
    return [len(results), len(names)]


async def test_arguments_that_are_together_too_large_are_divided(runs: Runs) -> None:
    assert await runs.execute(long_arguments, 25, 700_000) == [25, 25]


async def test_a_divided_scatter_comes_out_right_when_its_run_continues_as_new(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 40)
    run = await runs.start(double_then_work, 100)
    assert await run.result() == [2 * n for n in range(100)]
    described = await run.describe()
    assert described.raw_description.workflow_execution_info.first_run_id != described.run_id
    assert Counter(diary.items(run.id, "end")) == Counter(str(n) for n in range(100))


@choreography(worker=2)
async def double_then_work(count: int, worker: Worker) -> list[int]:
    """Do two large scatters."""
    numbers = await scatter(range(count), worker, lambda w, n: w.double(n))
    await scatter(range(count), worker, lambda w, n: w.work(str(n), 0.0))
    return numbers


@choreography(worker=4)
async def both_at_once(count: int, worker: Worker) -> list[list[int]]:
    """Have two large scatters share a pool."""
    return list(
        await asyncio.gather(
            scatter(range(count), worker, lambda w, n: w.double(n)),
            scatter(range(count), worker, lambda w, n: w.double(-n)),
        )
    )


async def test_two_large_scatters_share_a_pool(runs: Runs) -> None:
    assert await runs.execute(both_at_once, 40) == [[2 * n for n in range(40)], [-2 * n for n in range(40)]]
