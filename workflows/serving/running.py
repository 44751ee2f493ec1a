"""Workers that run together: where one of them ends, all do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self

from temporalio.worker import Worker


class Running:
    """Workers, for as long as a block lasts.

    Attributes:
        tasks: One for each worker; one is done inside of the block only if its worker has failed.
        failures: What workers failed of, afterwards.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self.tasks: list[asyncio.Task[None]] = []
        self.failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.shutdown() for worker in self._workers), return_exceptions=True)
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.failures = [result for result in ended if isinstance(result, Exception)]
