"""Workers that run together: where one of them ends, all do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Self

from temporalio.worker import Worker

logger = logging.getLogger(__name__)

MORE_THAN_GRACE_S = 10.0
"""Seconds beside the grace of calls in which a worker ends.

One with a call that goes on although it was cancelled does not end by itself, and now and then one to which a call came
again as it stopped.
"""


class Running:
    """Workers, for as long as a block lasts.

    Attributes:
        tasks: One for each worker; one is done inside of the block only if its worker has failed.
        failures: What workers failed of, afterwards.
    """

    def __init__(self, workers: Sequence[Worker], grace: float) -> None:
        """Prepare to run them.

        Args:
            workers: The workers.
            grace: Seconds that calls in flight may go on when they stop.
        """
        self._workers = workers
        self._end_within = grace + MORE_THAN_GRACE_S
        self.tasks: list[asyncio.Task[None]] = []
        self.failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self.tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        return self

    async def __aexit__(self, *_: object) -> None:
        ending = [*self.tasks, *(asyncio.create_task(worker.shutdown()) for worker in self._workers)]
        left = (await asyncio.wait(ending, timeout=self._end_within))[1]
        for worker, task in zip(self._workers, self.tasks, strict=True):
            if task in left:
                logger.error(
                    "the worker of %s has not ended within %g s, and is left: calls of it go on elsewhere",
                    worker.task_queue,
                    self._end_within,
                )
            elif not task.cancelled() and (error := task.exception()) is not None:
                self.failures.append(error)
        for task in left:
            task.cancel()
