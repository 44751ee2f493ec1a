"""The thread in which litellm works: whatever it does with an answer, and however long, calls go on heartbeating."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

from activities.models.inside import only_prepares

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of that thread; to be cancelled ends it there, and is not waited for."""
    here = asyncio.get_running_loop()
    back = _ways_to.get(here) or _ways_to.setdefault(here, _Way(here))
    there = _way_there()
    errand = _Errand(work, here.create_future(), back)
    there.send(errand.begin)
    try:
        return await errand.done  # type: ignore[no-any-return]  # what the coroutine returns
    except asyncio.CancelledError:
        there.send(errand.end)
        raise


class _Way:
    """The way to the loop of a thread. Waking it costs more than much of what is sent: it is done once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)  # else the dictionary would keep what it is to forget
        self._sent: deque[Callable[[], object]] = deque()
        self._is_woken = False

    def send(self, work: Callable[[], object]) -> None:
        """Have something done there, soon; nothing where the loop is closed."""
        self._sent.append(work)
        loop = self._loop()
        if not self._is_woken and loop is not None:
            self._is_woken = True
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._do_all)

    def _do_all(self) -> None:
        self._is_woken = False  # first, or what is sent meanwhile might wait for ever
        loop = asyncio.get_running_loop()
        while self._sent:
            loop.call_soon(self._sent.popleft())


class _Errand:
    """A coroutine that is run in another thread."""

    def __init__(self, work: Coroutine[Any, Any, Any], done: asyncio.Future[Any], back: _Way) -> None:
        self.done = done
        self._work = work
        self._back = back
        self._context = copy_context()
        self._task: asyncio.Task[Any] | None = None
        self._is_over = False

    def begin(self) -> None:
        """Begin it, there."""
        if self._is_over:
            self._work.close()
            return
        self._task = asyncio.get_running_loop().create_task(self._work, context=self._context)
        self._task.add_done_callback(self._tell)

    def end(self) -> None:
        """Cancel it, there, as nobody waits any more."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    def _tell(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()  # which counts as seen, though nobody may take it
        self._back.send(functools.partial(self._take, task, error))

    def _take(self, task: asyncio.Task[Any], error: BaseException | None) -> None:
        if self.done.done():  # nobody waits any more
            return
        if task.cancelled():
            self.done.cancel()
        elif error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(task.result())


_ways_to: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Way] = weakref.WeakKeyDictionary()
"""Back to those who ask."""


class _Loop(asyncio.SelectorEventLoop):
    """A loop that does at once what need not go to another thread."""

    def run_in_executor(  # type: ignore[override]  # whatever it is that is run
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function in a thread, or here."""
        if not only_prepares(func):
            return super().run_in_executor(executor, func, *args)
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


@functools.cache
def _way_there() -> _Way:
    loop = _Loop()
    threading.Thread(target=loop.run_forever, name="litellm", daemon=True).start()
    return _Way(loop)
