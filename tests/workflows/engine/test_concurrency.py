from __future__ import annotations

import asyncio
import heapq
from collections import deque

import pytest

from workflows.engine.concurrency import LEAST, ConcurrencyLimit

ENOUGH = 600
"""Calls after which a limit has found its size."""


async def after(slots: int, took: float, *, at_first: int = 90, unserved: float = 0.0) -> float:
    """Return the size of a limit whose calls are worked on in so many slots, so many seconds each.

    Args:
        slots: Calls that are worked on at a time.
        took: Seconds that one takes.
        at_first: The size that the limit has.
        unserved: Seconds until anybody works on them.
    """
    limit = ConcurrencyLimit(90)
    limit.size = float(at_first)
    queue, ends, now = deque[float](), list[tuple[float, float]](), 0.0
    line = [asyncio.create_task(limit.__aenter__()) for _ in range(ENOUGH)]
    entered = 0
    while ends or sum(place.done() for place in line) > entered or not entered:
        await asyncio.sleep(0)
        for _ in range(sum(place.done() for place in line) - entered):
            entered += 1
            queue.append(now)
        while queue and len(ends) < slots:
            since = queue.popleft()
            began = max(now, unserved)
            heapq.heappush(ends, (began + took, began - since))
        now, waited = heapq.heappop(ends)
        limit.observe(waited, took, now)
        await limit.__aexit__(None, None, None)
        if entered == ENOUGH:
            break
    return limit.size


@pytest.mark.parametrize("slots", [2, 4, 20])
async def test_as_many_calls_wait_as_are_worked_on(slots: int) -> None:
    assert await after(slots, took=5.0) == pytest.approx(2 * slots, rel=0.25)


async def test_a_run_that_has_slots_enough_uses_all_its_places() -> None:
    assert await after(100, took=5.0, at_first=LEAST) == 90


async def test_short_calls_may_wait_for_half_a_second() -> None:
    # A hundred calls a second, each for 0.5 s and for the 0.1 s that it takes.
    assert await after(10, took=0.1) == pytest.approx(60, rel=0.25)


async def test_a_queue_that_nobody_served_for_an_hour_is_used_again() -> None:
    assert await after(100, took=1.0, unserved=3_600.0) > 60


def test_a_run_that_waits_for_nothing_but_itself_learns_nothing() -> None:
    limit = ConcurrencyLimit(90)
    for second in range(ENOUGH):
        limit.observe(0.0, 0.1, float(second))
    assert limit.size == 90


async def entered(
    limit: ConcurrencyLimit, names: str, inside: list[str], leave: asyncio.Event
) -> list[asyncio.Task[None]]:
    """Have some enter a limit one after the other, and stay."""

    async def stay(name: str) -> None:
        async with limit:
            inside.append(name)
            await leave.wait()

    tasks = [asyncio.create_task(stay(name)) for name in names]
    await asyncio.sleep(0.01)
    return tasks


async def test_places_are_given_in_the_order_of_coming() -> None:
    limit, inside, leave = ConcurrencyLimit(2), list[str](), asyncio.Event()
    tasks = await entered(limit, "abcd", inside, leave)
    assert inside == ["a", "b"]
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert inside == ["a", "b", "c"]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == ["a", "b", "c", "d"]


async def test_who_gives_up_waiting_takes_no_place() -> None:
    limit, inside, leave = ConcurrencyLimit(1), list[str](), asyncio.Event()
    tasks = await entered(limit, "abc", inside, leave)
    tasks[1].cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == ["a", "c"]


async def test_a_window_that_has_become_smaller_lets_those_inside_go_on() -> None:
    limit, inside, leave = ConcurrencyLimit(4), list[str](), asyncio.Event()
    tasks = await entered(limit, "abcdef", inside, leave)
    for second in range(0, 10 * ENOUGH, 10):
        limit.observe(3_600.0, 1.0, float(second))
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert inside == ["a", "b", "c", "d"]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(inside) == ["a", "b", "c", "d", "e", "f"]
