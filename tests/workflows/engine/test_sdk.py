"""What runs rely on that the SDK does not promise, in workflows of its own kind: no choreographies."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from tests.workflows.histories import count
from workflows.engine.sdk import (
    STOPPED,
    StartTimer,
    declared_handler,
    may_tell,
    raise_if_evicted,
    signals_of,
    take_timers,
    until_all_wait,
    watch_tasks,
    workflow_task,
)

TIMERS = EventType.EVENT_TYPE_TIMER_STARTED

notes: list[str] = []


async def never() -> None:
    """Wait for what does not come."""
    await asyncio.get_running_loop().create_future()


async def called_later(seconds: float) -> None:
    called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, called.set_result, None)
    await called


async def timed_out(seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await never()


async def waited_for(seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(never(), seconds)


async def waited_with_others(seconds: float) -> None:
    _, pending = await workflow.wait([asyncio.ensure_future(never())], timeout=seconds)
    pending.pop().cancel()


async def condition_timed_out(seconds: float) -> None:
    with suppress(TimeoutError):
        await workflow.wait_condition(lambda: False, timeout=seconds, timeout_summary="a name")


WAYS: dict[str, Callable[[float], Awaitable[None]]] = {
    "asyncio.sleep": asyncio.sleep,
    "workflow.sleep": workflow.sleep,
    "call_later": called_later,
    "asyncio.timeout": timed_out,
    "asyncio.wait_for": waited_for,
    "workflow.wait": waited_with_others,
    "wait_condition": condition_timed_out,
}


@workflow.defn(sandboxed=False)
class Waits:
    """Waits in one of the ways that there are, and tells which timers it was asked about."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    @workflow.run
    async def run(self, way: str, what: str) -> list[float]:
        """Leave the timer to the SDK, take it over, or name the end of what is taken over."""
        take_timers({"leave": self.leave, "take": self.take, "start": self.start}[what])
        await WAYS[way](0.25)
        return self.asked

    def leave(self, delay: float, ring: Callable[[], object], start: StartTimer) -> None:
        self.asked.append(delay)

    def take(self, delay: float, ring: Callable[[], object], start: StartTimer) -> asyncio.Handle:
        self.asked.append(delay)
        ring()
        return asyncio.Handle(ring, (), asyncio.get_running_loop())

    def start(self, delay: float, ring: Callable[[], object], start: StartTimer) -> asyncio.Handle:
        self.asked.append(delay)
        return start(delay / 5, ring)


@workflow.defn(sandboxed=False)
class MakesTasks:
    """Makes tasks in all ways, and tells which were seen."""

    @workflow.run
    async def run(self) -> list[str]:
        """Make them."""
        seen: list[str] = []
        watch_tasks(lambda work: seen.append(work.cr_frame.f_locals["name"]))

        async def named(name: str) -> None:
            return None

        await asyncio.create_task(named("create_task"))
        await asyncio.ensure_future(named("ensure_future"))
        await asyncio.gather(named("gather"), named("gather too"))
        async with asyncio.TaskGroup() as group:
            group.create_task(named("TaskGroup"))
        await asyncio.shield(named("shield"))
        await asyncio.wait_for(named("wait_for"), None)
        for work in workflow.as_completed([named("as_completed")]):
            await work
        return seen


@workflow.defn(sandboxed=False)
class Holds:
    """Does not go on, and notes what it is stopped by."""

    @workflow.run
    async def run(self, name: str) -> None:
        """Wait."""
        try:
            await never()
        except STOPPED:
            try:
                raise_if_evicted()
            except BaseException:
                notes.append(f"{name} evicted{', may tell' if may_tell(workflow.info().run_id) else ''}")
                raise
            notes.append(f"{name} cancelled{'' if may_tell(workflow.info().run_id) else ', may not tell'}")
            assert not may_tell("another run's")
            raise
        except GeneratorExit:
            notes.append(f"{name} closed")
            raise


@workflow.defn(sandboxed=False)
class TakesTurns:
    """Notes what comes first."""

    @workflow.run
    async def run(self) -> list[str]:
        """Wait for all to wait, twice."""
        order: list[str] = []
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            for number in range(5):
                await asyncio.sleep(0)
                order.append(f"work {number}")
            await woken
            for number in range(5, 8):
                await asyncio.sleep(0)
                order.append(f"work {number}")

        working = asyncio.create_task(work())
        await until_all_wait(lambda: True)
        order.append("all wait")
        woken.set_result(None)
        await until_all_wait(lambda: True)
        order.append("all wait again")
        await working
        return order


@workflow.defn(sandboxed=False)
class Counts:
    """Counts its workflow tasks."""

    def __init__(self) -> None:
        self.told = False

    @workflow.run
    async def run(self) -> list[list[int]]:
        """Look three times in each of three workflow tasks."""
        found = []
        for _ in range(3):
            numbers = []
            for _ in range(3):
                numbers.append(workflow_task())
                workflow.upsert_memo({"commands": "do not change it"})
                await until_all_wait(lambda: True)
            found.append(numbers)
            await workflow.sleep(0.01)
        return found


class Takes:
    """Takes a message of each kind."""

    @workflow.signal(description="A signal.")
    def note(self) -> None:
        """Take a signal."""

    @workflow.signal(name="other")
    def by_another_name(self) -> None:
        """Take another."""

    @workflow.query(description="A query.")
    def status(self) -> str:
        """Answer."""
        return "well"

    @workflow.update(description="An update.")
    def change(self) -> None:
        """Take an update."""

    @change.validator
    def _check(self) -> None:
        """Refuse nothing."""

    def plain(self) -> None:
        """Take nothing."""


WORKFLOWS = [Waits, MakesTasks, Holds, TakesTurns, Counts]

Start = Callable[..., Awaitable[WorkflowHandle[Any, Any]]]


async def start_on(client: Client, queue: str, kind: type[Any], *args: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        kind.__name__,
        args=args,
        id=f"{kind.__name__}-{uuid.uuid4().hex[:8]}",
        task_queue=queue,
        execution_timeout=timedelta(seconds=30),
    )


@pytest.fixture(scope="module")
async def start(client: Client) -> AsyncIterator[Start]:
    """A way to start these workflows, which a worker serves."""
    queue = f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS):
        yield lambda kind, *args: start_on(client, queue, kind, *args)


@pytest.mark.parametrize("way", WAYS)
async def test_every_timer_can_be_taken_over(start: Start, way: str) -> None:
    run = await start(Waits, way, "take")
    assert await run.result() == [pytest.approx(0.25)]
    assert await count(run, TIMERS) == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_timer_that_is_left_to_the_sdk_is_set_as_ever(start: Start, way: str) -> None:
    run = await start(Waits, way, "leave")
    assert await run.result() == [pytest.approx(0.25)]
    assert await count(run, TIMERS) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_timer_that_is_taken_over_can_be_started_with_another_time(start: Start, way: str) -> None:
    run = await start(Waits, way, "start")
    assert await run.result() == [pytest.approx(0.25)]
    [timer] = [e for e in (await run.fetch_history()).events if e.event_type == TIMERS]
    kept = timer.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
    assert kept == timedelta(seconds=0.05)
    assert (b"a name" in timer.user_metadata.summary.data) == (way == "wait_condition")


async def test_every_task_is_seen_before_it_begins(start: Start) -> None:
    seen = await (await start(MakesTasks)).result()
    assert [name for name in seen if name != "wait_for"] == [
        "create_task",
        "ensure_future",
        "gather",
        "gather too",
        "TaskGroup",
        "shield",
        "as_completed",
    ]


async def test_conditions_are_looked_at_when_all_tasks_wait(start: Start) -> None:
    assert await (await start(TakesTurns)).result() == [
        *(f"work {number}" for number in range(5)),
        "all wait",
        *(f"work {number}" for number in range(5, 8)),
        "all wait again",
    ]


async def test_a_workflow_task_has_one_number_and_the_next_one_another(start: Start) -> None:
    found = await (await start(Counts)).result()
    assert [len(set(numbers)) for numbers in found] == [1, 1, 1]
    assert len({numbers[0] for numbers in found}) == 3


async def noted(note: str) -> None:
    async with asyncio.timeout(20):
        while note not in notes:
            gc.collect()
            await asyncio.sleep(0.02)


async def test_a_cancelled_run_is_not_taken_for_one_that_is_evicted(start: Start) -> None:
    run = await start(Holds, "one")
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await run.result()
    await noted("one cancelled")
    assert [note for note in notes if note.startswith("one")] == ["one cancelled"]


async def test_a_run_that_is_evicted_can_tell(client: Client) -> None:
    queue = f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS, max_cached_workflows=0):
        run = await start_on(client, queue, Holds, "two")
        await noted("two evicted")
    await run.terminate()


async def test_a_run_that_is_open_when_its_worker_ends_is_closed_by_the_collector(client: Client) -> None:
    queue = f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=WORKFLOWS):
        run = await start_on(client, queue, Holds, "three")
        async with asyncio.timeout(20):
            while (await run.describe()).history_length < 4:
                await asyncio.sleep(0.02)
    await noted("three closed")
    assert [note for note in notes if note.startswith("three")] == ["three closed"]
    await run.terminate()


@pytest.mark.parametrize(
    ("name", "noted_in", "shown"),
    [
        ("note", "__temporal_signal_definition", ("note", "A signal.")),
        ("by_another_name", "__temporal_signal_definition", ("other", None)),
        ("status", "__temporal_query_definition", ("status", "A query.")),
        ("change", "_defn", ("change", "An update.")),
    ],
)
def test_what_a_method_was_declared_to_take_can_be_declared_of_another(
    name: str, noted_in: str, shown: tuple[str, str | None]
) -> None:
    declared = declared_handler(getattr(Takes, name))
    assert declared is not None

    def another(self: object) -> None:
        """Do something else."""

    noted = getattr(declared.decorate(another), noted_in)
    assert (noted.name, noted.description) == shown
    assert (declared.validator is not None) == (name == "change")


def test_a_plain_method_was_declared_to_take_nothing() -> None:
    assert declared_handler(Takes.plain) is None


def test_the_signals_of_a_workflow_class_are_known() -> None:
    assert signals_of(Takes) == ["other", "note"]
