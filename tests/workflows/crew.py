"""A crew without models: what the tests of the workflows wing run."""

from __future__ import annotations

import asyncio

from activities import Agent, task
from workflows import choreography, scatter


class Worker(Agent):
    """Does as it is told."""

    @task
    async def double(self, number: int) -> int:
        """Return twice the number."""
        await asyncio.sleep(0.01)
        return 2 * number

    @task
    def whoami(self) -> str:
        """Return the instance's name."""
        return self.name

    @task(retries=0)
    def fail(self, why: str) -> None:
        """Raise an error."""
        raise RuntimeError(why)


@choreography(worker=4)
async def double_all(numbers: list[int], worker: Worker) -> list[int]:
    """Double every number."""
    return await scatter(numbers, worker, lambda w, n: w.double(n))


@choreography
async def fail_once(why: str, worker: Worker) -> None:
    """Call what fails."""
    await worker.fail(why)
