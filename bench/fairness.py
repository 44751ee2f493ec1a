"""How long a small run takes behind a large one: 20 items started when another run of 5,000 is under way.

    python -m bench.fairness [--slots 4 20 100] [--seconds 0.5]

Both runs' calls go through one queue, which a worker process serves with so many slots. The large run has a pool of
100 instances. The small one is measured alone first, with one instance per item and with four instances, then behind
the large one: on a server as it comes, where the window of calls in flight bounds the wait, and on one whose settings
honour fairness keys. Prints a line per case, and fails if a ratio breaks its bound.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from temporalio.client import Client, WorkflowHandle

from activities import Agent, task
from activities.contract.names import CHOREOGRAPHY_QUEUE
from bench.site import site
from workflows import choreography, scatter

ITEMS, FEW = 5_000, 20
INSTANCES = 100

BOUNDS = {False: 5.0, True: 3.0}
"""Times its time alone that a small run may take: on a server as it comes, and on one with fairness."""

REPEATS = 3

_WORKER = ("worker.py", "--bare", "--module", "bench.fairness", "--grace", "0")


class Hand(Agent):
    """Takes its time."""

    @task
    async def work(self, item: int, seconds: float) -> int:
        """Do something that takes some seconds."""
        await asyncio.sleep(seconds)
        return item


@choreography
async def work_on(items: int, seconds: float, hand: Hand) -> int:
    """Work on so many items."""
    return len(await scatter(range(items), hand, lambda h, item: h.work(item, seconds)))


class Case(NamedTuple):
    """What was measured."""

    fair: bool
    slots: int
    instances: int
    alone: float
    behind: float

    @property
    def ratio(self) -> float:
        return self.behind / self.alone

    @property
    def ok(self) -> bool:
        return self.ratio <= BOUNDS[self.fair]

    def __str__(self) -> str:
        settings = "fairness on" if self.fair else "as it comes"
        return (
            f"{settings:>12} {self.slots:>6} {self.instances:>10} {self.alone:>8.2f} {self.behind:>8.2f} "
            f"{self.ratio:>6.2f} {BOUNDS[self.fair]:>6.1f} {'ok' if self.ok else 'BROKEN'}"
        )


async def measure(client: Client, fair: bool, slots: int, instances: int, seconds: float) -> Case:
    """Time a small run alone, then behind a large one that has filled its window."""
    await small(client, instances, 0.0)  # whatever the first run of a worker pays for
    alone = statistics.median([await small(client, instances, seconds) for _ in range(REPEATS)])
    large = await start(client, ITEMS, INSTANCES, seconds)
    try:
        await settled(large)
        behind = statistics.median([await small(client, instances, seconds) for _ in range(REPEATS)])
    finally:
        await large.terminate("measured")
    await asyncio.sleep(1)
    return Case(fair, slots, instances, alone, behind)


async def settled(large: WorkflowHandle[Any, Any]) -> None:
    """Wait until its windows have found their sizes: each learns from about as many calls as it lets through."""
    while (await large.query("progress"))["calls_done"] < 3 * INSTANCES:
        await asyncio.sleep(0.2)


async def small(client: Client, instances: int, seconds: float) -> float:
    """Return how long a small run takes."""
    before = time.monotonic()
    await (await start(client, FEW, instances, seconds)).result()
    return time.monotonic() - before


async def start(client: Client, items: int, instances: int, seconds: float) -> WorkflowHandle[Any, Any]:
    options = {"instances": {"hand": instances}}
    name = f"{items}-items-{uuid.uuid4().hex[:8]}"
    return await client.start_workflow(
        "work_on", args=[items, seconds, options], id=name, task_queue=CHOREOGRAPHY_QUEUE
    )


async def main(slots: Sequence[int], seconds: float) -> int:
    """Measure all cases; return the exit code."""
    print(f"{'server':>12} {'slots':>6} {'instances':>10} {'alone/s':>8} {'behind/s':>8} {'ratio':>6} {'bound':>6}")
    cases = []
    for fair in (False, True):
        for number in slots:
            async with site(tuned=fair) as here:
                await here.program(*_WORKER, "--serve", "choreography")
                await here.program(*_WORKER, "--serve", "Hand", "--concurrency", str(number))
                for instances in (FEW, 4):
                    cases.append(await measure(here.client, fair, number, instances, seconds))
                    print(cases[-1], flush=True)
    return int(not all(case.ok for case in cases))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--slots", nargs="+", type=int, default=[4, 20, 100], help="calls that the worker takes at a time"
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="that a call takes")
    options = parser.parse_args()
    code = asyncio.run(main(options.slots, options.seconds))
    sys.stdout.flush()
    os._exit(code)
