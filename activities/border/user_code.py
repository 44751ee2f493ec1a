"""Running what users write: whatever it raises comes back as an error of the call, and of nothing else.

StopIteration can't pass through a future: whoever waits for it waits for ever. SystemExit and KeyboardInterrupt end a
process's loop. So what is no ordinary exception is carried by one.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from activities.border.context import current_call
from activities.border.washing import name_of, words_of

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(max_workers=10_000, thread_name_prefix="method")
"""The threads of synchronous methods: as many as there are calls. With asyncio's own, which are a few more than the
processors, calls would queue up inside of a worker while other workers are idle.
"""


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
    run = contextvars.copy_context().run
    value, error = await asyncio.get_running_loop().run_in_executor(_THREADS, run, _run, function, args, kwargs)
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


def contain_tasks() -> None:
    """Keep tasks that users start inside their calls from ending the loop, as SystemExit in a task would."""
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        loop.set_task_factory(_contained_task)


def _contained_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    return asyncio.Task(work if current_call() is None else _Contained(work), loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that is as the one inside, but for what it raises."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def __repr__(self) -> str:
        return repr(self._work)

    def send(self, value: Any) -> Any:
        try:
            return self._work.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _carried(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._work.throw(*error)
        except (SystemExit, KeyboardInterrupt) as raised:
            raise _carried(raised) from raised

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._work.__await__()


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
