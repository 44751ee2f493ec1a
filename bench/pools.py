"""How much of a pool's time goes to its models, if each instance could think all the time: 10 to 1,000 of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.figures import Figure
from bench.histories import history_of
from bench.site import Site, right, site
from bench.team import think_at_once

ROUNDS = 3


@dataclass(frozen=True)
class Pool:
    """A pool that is measured.

    Attributes:
        instances: How many there are.
        seconds: How long the model takes.
        items: Calls for each instance.
        at_least: The least efficiency.
    """

    instances: int
    seconds: int
    items: int
    at_least: float | None


POOLS = (Pool(10, 1, 10, None), Pool(100, 1, 10, 0.9), Pool(200, 1, 10, 0.8), Pool(1_000, 10, 3, 0.8))


async def measure(scale: float, processes: int) -> list[Figure]:
    """Measure each pool with a number of worker processes."""
    figures: list[Figure] = []
    for pool in POOLS:
        if pool.instances <= max(10, 1_000 * scale):
            async with site(tuned=False) as here:
                figures += await _efficiency(here, pool, processes, max(1, round(ROUNDS * scale)))
    return figures


async def _efficiency(here: Site, pool: Pool, processes: int, rounds: int) -> list[Figure]:
    for _ in range(processes):
        await here.worker(
            *("--serve", "choreography", "--serve", "Thinker.think", "--concurrency", str(pool.instances)),
            THINKING_S=str(pool.seconds),
        )
    instances = {"thinker": pool.instances}
    await here.run(think_at_once, 10 * processes, instances=instances)
    count = pool.instances * pool.items
    runs = [right(await here.run(think_at_once, count, instances=instances), ["Done."] * count) for _ in range(rounds)]
    failed = [(await history_of(here.client, run.workflow_id)).failed_tasks for run in runs]
    ideal = pool.items * pool.seconds
    efficiency = ideal / statistics.median(run.seconds for run in runs)
    what = f"{pool.instances:,} instances, {pool.seconds} s model, {processes} workers"
    return [
        Figure(f"{what}: ideal time / time", efficiency, "ratio", at_least=pool.at_least),
        Figure(f"{what}: failed workflow tasks", max(failed), "tasks", at_most=0),
    ]
