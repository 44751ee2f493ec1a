"""Running what users write: whatever it raises comes back as an error of the call, and of nothing else.

StopIteration can't pass through a future: whoever waits for it waits for ever. SystemExit and KeyboardInterrupt end a
process's loop. So what is no ordinary exception is carried by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from activities.washing import name_of, words_of

T = TypeVar("T")


class Escaped(Exception):
    """Carries what a method raised and Python would take for a sign of its own, such as StopIteration or SystemExit.

    Attributes:
        raised: What it was.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(f"{name_of(raised)}: {words_of(raised)}")
        self.raised = raised


def raised_by(error: BaseException) -> BaseException:
    """Return what the user's code raised."""
    return error.raised if isinstance(error, Escaped) else error


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run a synchronous function in a thread of its own.

    Raises:
        Escaped: It raised what is no ordinary exception.
    """
    value, error = await asyncio.to_thread(_run, function, args, kwargs)
    if error is not None:
        raise _carried(error)
    result: T = value
    return result


async def on_the_loop(work: Awaitable[T]) -> T:
    """Await a coroutine of the user's.

    Raises:
        Escaped: It raised what is no ordinary exception.
    """
    task = asyncio.current_task()
    try:
        return await work
    except BaseException as error:
        if is_closed_by(error, task):
            raise
        carried = _carried(error)
        if carried is error:
            raise
        raise carried from error


def is_closed_by(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Whether an error means that a coroutine is closed, rather than that its code has raised something.

    Args:
        error: What came.
        task: The task that ran the coroutine: one that is closed is not running.
    """
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is not task
    except RuntimeError:  # there is no loop any more
        return True


def _run(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, BaseException | None]:
    try:
        return function(*args, **kwargs), None
    except BaseException as error:  # whatever it is, it must not stay in the thread
        return None, error


def _carried(error: BaseException) -> BaseException:
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, (StopIteration, StopAsyncIteration)):
        error = error.__cause__  # what Python makes of it in a coroutine
    elif isinstance(error, asyncio.CancelledError):
        return error
    if isinstance(error, Exception) and not isinstance(error, (StopIteration, StopAsyncIteration)):
        return error
    carried = Escaped(error).with_traceback(error.__traceback__)
    carried.__cause__ = error
    return carried
