"""The thread in which litellm works: what is asked there comes back, also when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from activities.models.asking import apart

_who: ContextVar[str] = ContextVar("who", default="nobody")


async def double(number: int) -> tuple[int, str, str]:
    await asyncio.sleep(0)
    return 2 * number, _who.get(), threading.current_thread().name


async def test_many_at_once_come_back_each_to_who_has_asked() -> None:
    _who.set("me")

    assert await asyncio.gather(*(apart(double(number)) for number in range(500))) == [
        (2 * number, "me", "litellm") for number in range(500)
    ]


async def test_an_error_is_raised_where_it_was_asked() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await apart(fail())
    assert (await apart(double(1)))[0] == 2


async def test_what_is_cancelled_ends_there_and_is_not_waited_for() -> None:
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asking = asyncio.create_task(apart(wait()))
    assert await asyncio.to_thread(began.wait, 30)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await asyncio.to_thread(ended.wait, 30)


async def test_what_is_cancelled_before_it_began_never_begins() -> None:
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    asking = asyncio.create_task(apart(begin()))
    blocked, go_on = threading.Event(), threading.Event()

    async def block() -> None:
        blocked.set()
        go_on.wait(30)

    blocking = asyncio.create_task(apart(block()))
    await asyncio.to_thread(blocked.wait, 30)
    late = asyncio.create_task(apart(begin()))
    await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    go_on.set()
    await blocking
    await asking
    await apart(double(1))

    assert begun == [1]


def test_each_loop_has_its_answers() -> None:
    for number in range(20):
        assert asyncio.run(apart(double(number)))[0] == 2 * number


def test_a_loop_that_is_closed_before_its_answer_harms_nobody() -> None:
    go_on = threading.Event()

    async def fail() -> None:
        await asyncio.to_thread(go_on.wait, 30)
        raise ValueError("nobody hears it")

    async def leave() -> None:
        asking = asyncio.create_task(apart(fail()))
        await asyncio.sleep(0)
        asking.cancel()

    asyncio.run(leave())
    go_on.set()

    assert asyncio.run(apart(double(1)))[0] == 2
