from __future__ import annotations

import asyncio

import pytest

from workflows.window import LEAST, Window

ROUNDS = 400


def after(slots: float, took: float, *, at_first: float = 90.0) -> float:
    """Return the size of a window whose calls are worked on in so many slots, so many seconds each."""
    window = Window(90)
    window.size = at_first
    for _ in range(ROUNDS):
        window.observe(max(window.size / slots - 1, 0.0) * took, took)
    return window.size


@pytest.mark.parametrize("slots", [2, 4, 20])
def test_as_many_calls_wait_as_are_worked_on(slots: int) -> None:
    assert after(slots, took=5.0) == pytest.approx(2 * slots, rel=0.05)


def test_a_run_that_has_slots_enough_uses_all_its_places() -> None:
    assert after(100, took=5.0, at_first=LEAST) == 90


def test_short_calls_may_wait_for_half_a_second() -> None:
    assert after(10, took=0.1) == pytest.approx(60, rel=0.05)  # a hundred calls a second, for 0.5 s and for 0.1 s


def test_calls_of_a_queue_that_nobody_served_leave_some_places() -> None:
    window = Window(90)
    for _ in range(ROUNDS):
        window.observe(3_600.0, 1.0)
    assert window.size == LEAST


async def entered(window: Window, names: str, inside: list[str], leave: asyncio.Event) -> list[asyncio.Task[None]]:
    """Have some enter a window one after the other, and stay."""

    async def stay(name: str) -> None:
        async with window:
            inside.append(name)
            await leave.wait()

    tasks = [asyncio.create_task(stay(name)) for name in names]
    await asyncio.sleep(0.01)
    return tasks


async def test_places_are_given_in_the_order_of_coming() -> None:
    window, inside, leave = Window(2), list[str](), asyncio.Event()
    tasks = await entered(window, "abcd", inside, leave)
    assert inside == ["a", "b"]
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert inside == ["a", "b", "c"]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == ["a", "b", "c", "d"]


async def test_who_gives_up_waiting_takes_no_place() -> None:
    window, inside, leave = Window(1), list[str](), asyncio.Event()
    tasks = await entered(window, "abc", inside, leave)
    tasks[1].cancel()
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert inside == ["a", "c"]


async def test_a_window_that_has_become_smaller_lets_those_inside_go_on() -> None:
    window, inside, leave = Window(4), list[str](), asyncio.Event()
    tasks = await entered(window, "abcdef", inside, leave)
    for _ in range(ROUNDS):
        window.observe(3_600.0, 1.0)
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    assert inside == ["a", "b", "c", "d"]
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(inside) == ["a", "b", "c", "d", "e", "f"]
