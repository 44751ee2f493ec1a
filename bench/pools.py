"""How much of a pool's time goes to its work, if each instance could work all the time: 10 to 1,000 of them.

The work is a task that takes as long as the model would, so that what is measured is the harness and the engine. Beside
it stands the same as a prompt, through litellm and HTTP to a model that thinks as long, as a task that asks that model
by HTTP alone, and the same in the bare SDK.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from bench import bare
from bench.figures import Figure
from bench.histories import history_of
from bench.site import Ran, Site, right, site
from bench.team import fetch_at_once, take_at_once, think_at_once

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
    sides = {"a task": _take, "a prompt": _think, "a task over HTTP": _fetch}
    runs: dict[str, list[Ran]] = {kind: [] for kind in sides}
    cpu: dict[str, list[float]] = {kind: [] for kind in sides}
    for _ in range(rounds):  # in turn, as the machine may be slower at one time than at another
        for kind, work in sides.items():
            before = here.cpu_of_workers()
            runs[kind].append(await work(here, pool, pool.items))
            cpu[kind].append(1_000 * (here.cpu_of_workers() - before) / pool.calls)
    failed = await _failed_tasks(here, runs["a task"])
    tasks, prompts, fetches = ([pool.efficiency(ran) for ran in runs[kind]] for kind in runs)
    what = _named(pool, processes)
    return [
        Figure(f"{what}: ideal time / time", statistics.median(tasks), "ratio", at_least=pool.at_least),
        Figure(f"{what}: the same in the bare SDK", pool.efficiency(await _bare(here, pool)), "ratio"),
        Figure(f"{what}: the same through litellm", statistics.median(prompts), "ratio"),
        Figure(f"{what}: through litellm / without", _beside(prompts, tasks), "ratio", at_least=0.9),
        Figure(f"{what}: through litellm / over HTTP alone", _beside(prompts, fetches), "ratio"),
        Figure(f"{what}: over HTTP alone / without", _beside(fetches, tasks), "ratio"),
        *(Figure(f"{what}: processor's time of {kind}", statistics.median(each), "ms") for kind, each in cpu.items()),
        Figure(f"{what}: failed workflow tasks", failed, "tasks", at_most=0),
    ]


def _beside(upper: list[float], lower: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(upper, lower, strict=True))


async def _untuned(here: Site, pool: Pool, processes: int) -> list[Figure]:
    await _serve(here, pool, processes)
    failed = await _failed_tasks(here, [await _take(here, pool, 2)])
    return [Figure(f"{_named(pool, processes)}: failed workflow tasks, server as it comes", failed, "tasks", at_most=0)]


async def _serve(here: Site, pool: Pool, processes: int) -> None:
    """Start the model and the workers, and have each of them work once."""
    address = await here.model(pool.seconds)
    for _ in range(processes):
        await here.worker(
            *(f"--serve={name}" for name in ("choreography", "Hand.take", "Hand.fetch", "Thinker.think")),
            f"--concurrency={pool.instances}",
            LOOPBACK=address,
            OPENAI_API_KEY="any",
        )
    await here.run(take_at_once, 10 * processes, pool.seconds, instances={"hand": pool.instances})
    await here.run(think_at_once, 10 * processes, instances={"thinker": pool.instances})
    await here.run(fetch_at_once, 10 * processes, instances={"hand": pool.instances})


async def _take(here: Site, pool: Pool, items: int) -> Ran:
    count = pool.instances * items
    ran = await here.run(take_at_once, count, pool.seconds, instances={"hand": pool.instances})
    return right(ran, list(range(count)))


async def _think(here: Site, pool: Pool, items: int) -> Ran:
    ran = await here.run(think_at_once, pool.instances * items, instances={"thinker": pool.instances})
    return right(ran, ["Done."] * pool.instances * items)


async def _fetch(here: Site, pool: Pool, items: int) -> Ran:
    ran = await here.run(fetch_at_once, pool.instances * items, instances={"hand": pool.instances})
    return right(ran, ["Done."] * pool.instances * items)


async def _bare(here: Site, pool: Pool) -> Ran:
    await here.program("-m", "bench.bare", CONCURRENCY=str(pool.instances), SECONDS=str(pool.seconds))
    ran = await here.run_workflow("bare_at_once", "take", pool.calls, pool.instances, queue=bare.QUEUE)
    return right(ran, list(range(pool.calls)))


async def _failed_tasks(here: Site, runs: list[Ran]) -> int:
    return max([(await history_of(here.client, run.workflow_id)).failed_tasks for run in runs])


def _named(pool: Pool, processes: int) -> str:
    return f"{pool.instances:,} instances, {pool.seconds} s calls, {processes} workers"
