"""How much of a pool's time goes to its work, if each instance could work all the time: 10 to 1,000 of them.

The work is a task that takes as long as the model would, so that what is measured is the harness and the engine. Beside
it stands the same through litellm, which takes 2 ms of a processor for each call, and the same in the bare SDK.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench import bare
from bench.figures import Figure
from bench.histories import history_of
from bench.site import Ran, Site, right, site
from bench.team import take_at_once, think_at_once

ROUNDS = 3


@dataclass(frozen=True)
class Pool:
    """A pool that is measured.

    Attributes:
        instances: How many there are.
        seconds: How long a call takes.
        items: Calls for each instance.
        at_least: The least efficiency.
    """

    instances: int
    seconds: int
    items: int
    at_least: float | None

    @property
    def calls(self) -> int:
        return self.instances * self.items

    def efficiency(self, ran: Ran) -> float:
        """Return the ideal time / the time that a run took."""
        return self.items * self.seconds / ran.seconds


POOLS = (Pool(10, 1, 20, None), Pool(100, 1, 20, 0.9), Pool(200, 1, 20, 0.8), Pool(1_000, 10, 3, 0.8))


async def measure(scale: float, processes: int) -> list[Figure]:
    """Measure each pool with a number of worker processes: its efficiency on a tuned server, then on one as it comes.

    A server as it comes hands out some 100 tasks a second, whoever asks; there it is only looked whether tasks fail.
    """
    figures: list[Figure] = []
    for pool in POOLS:
        if pool.instances <= max(10, 1_000 * scale):
            async with site(tuned=True) as here:
                figures += await _efficiency(here, pool, processes, max(1, round(ROUNDS * scale)))
            async with site(tuned=False) as here:
                figures += await _untuned(here, pool, processes)
    return figures


async def _efficiency(here: Site, pool: Pool, processes: int, rounds: int) -> list[Figure]:
    await _serve(here, pool, processes)
    runs = [await _take(here, pool, pool.items) for _ in range(rounds)]
    failed = await _failed_tasks(here, runs)
    efficiency = statistics.median(map(pool.efficiency, runs))
    what = _named(pool, processes)
    return [
        Figure(f"{what}: ideal time / time", efficiency, "ratio", at_least=pool.at_least),
        Figure(f"{what}: the same in the bare SDK", pool.efficiency(await _bare(here, pool)), "ratio"),
        Figure(f"{what}: the same through litellm", pool.efficiency(await _think(here, pool)), "ratio"),
        Figure(f"{what}: failed workflow tasks", failed, "tasks", at_most=0),
    ]


async def _untuned(here: Site, pool: Pool, processes: int) -> list[Figure]:
    await _serve(here, pool, processes)
    failed = await _failed_tasks(here, [await _take(here, pool, 2)])
    return [Figure(f"{_named(pool, processes)}: failed workflow tasks, server as it comes", failed, "tasks", at_most=0)]


async def _serve(here: Site, pool: Pool, processes: int) -> None:
    """Start the workers, and have each of them work once."""
    for _ in range(processes):
        await here.worker(
            *(f"--serve={name}" for name in ("choreography", "Hand.take", "Thinker.think")),
            f"--concurrency={pool.instances}",
            THINKING_S=str(pool.seconds),
        )
    await here.run(take_at_once, 10 * processes, pool.seconds, instances={"hand": pool.instances})


async def _take(here: Site, pool: Pool, items: int) -> Ran:
    count = pool.instances * items
    ran = await here.run(take_at_once, count, pool.seconds, instances={"hand": pool.instances})
    return right(ran, list(range(count)))


async def _think(here: Site, pool: Pool) -> Ran:
    await here.run(think_at_once, 20, instances={"thinker": pool.instances})
    ran = await here.run(think_at_once, pool.calls, instances={"thinker": pool.instances})
    return right(ran, ["Done."] * pool.calls)


async def _bare(here: Site, pool: Pool) -> Ran:
    await here.program("-m", "bench.bare", CONCURRENCY=str(pool.instances), SECONDS=str(pool.seconds))
    ran = await here.run_workflow("bare_at_once", "take", pool.calls, pool.instances, queue=bare.QUEUE)
    return right(ran, list(range(pool.calls)))


async def _failed_tasks(here: Site, runs: list[Ran]) -> int:
    return max([(await history_of(here.client, run.workflow_id)).failed_tasks for run in runs])


def _named(pool: Pool, processes: int) -> str:
    return f"{pool.instances:,} instances, {pool.seconds} s calls, {processes} workers"
