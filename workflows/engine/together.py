"""Several things at the same time, of which none outlives the others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

R = TypeVar("R")


async def together(coroutines: Sequence[Coroutine[Any, Any, R]]) -> list[R]:
    """Await all; at the first error cancel the others, wait for them, and raise it."""
    first: list[BaseException] = []

    def note(task: asyncio.Task[R]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not first:
            first.append(error)
            for other in tasks:
                other.cancel()

    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(note)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if first:
        raise first[0]
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)  # type: ignore[arg-type]
