"""The thread in which litellm works: whatever it does with an answer, and however long, calls go on heartbeating."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from activities.models.inside import only_prepares

T = TypeVar("T")


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of that thread; to be cancelled ends it there, and is not waited for."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _loop()))


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
def _loop() -> asyncio.AbstractEventLoop:
    loop = _Loop()
    threading.Thread(target=loop.run_forever, name="litellm", daemon=True).start()
    return loop
