"""How much of a pool's time goes to its models, if each instance could think all the time: 10 to 1,000 of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench.figures import Figure
from bench.histories import history_of
from bench.site import Ran, Site, right, site
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
    runs = await _runs(here, pool, processes, rounds, pool.items)
    failed = await _failed_tasks(here, runs)
    efficiency = pool.items * pool.seconds / statistics.median(run.seconds for run in runs)
    what = _named(pool, processes)
    return [
        Figure(f"{what}: ideal time / time", efficiency, "ratio", at_least=pool.at_least),
        Figure(f"{what}: failed workflow tasks", failed, "tasks", at_most=0),
    ]


async def _untuned(here: Site, pool: Pool, processes: int) -> list[Figure]:
    runs = await _runs(here, pool, processes, 1, 2)
    failed = await _failed_tasks(here, runs)
    return [Figure(f"{_named(pool, processes)}: failed workflow tasks, server as it comes", failed, "tasks", at_most=0)]


async def _runs(here: Site, pool: Pool, processes: int, rounds: int, items: int) -> list[Ran]:
    for _ in range(processes):
        await here.worker(
            *("--serve", "choreography", "--serve", "Thinker.think", "--concurrency", str(pool.instances)),
            THINKING_S=str(pool.seconds),
        )
    instances = {"thinker": pool.instances}
    await here.run(think_at_once, 10 * processes, instances=instances)
    count = pool.instances * items
    return [right(await here.run(think_at_once, count, instances=instances), ["Done."] * count) for _ in range(rounds)]


async def _failed_tasks(here: Site, runs: list[Ran]) -> int:
    return max([(await history_of(here.client, run.workflow_id)).failed_tasks for run in runs])


def _named(pool: Pool, processes: int) -> str:
    return f"{pool.instances:,} instances, {pool.seconds} s model, {processes} workers"
