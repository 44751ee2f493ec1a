"""How well two workers share what there is to do, if one of them takes four times as long for everything."""

from __future__ import annotations

import itertools
import statistics

from bench.figures import Figure
from bench.site import right, site
from bench.team import take_at_once

ROUNDS = 3
SECONDS = 0.25
SLOWNESS = 4
AT_A_TIME = 4
"""Calls that each of the two workers makes at a time."""
ITEMS = 200
MOST = 1.15


async def measure(scale: float) -> list[Figure]:
    """Compare the time of a run with the least in which these two could do it."""
    items = max(10, round(ITEMS * scale))
    async with site(tuned=False) as here:
        await here.worker("--serve", "choreography")
        for slowness in (1, SLOWNESS):
            await here.worker("--serve", "Hand.take", "--concurrency", str(AT_A_TIME), SLOWNESS=str(slowness))
        # Twice as many instances as can be at work: each worker finds a call in the queue when it has done one.
        instances = {"hand": 4 * AT_A_TIME}
        runs = [
            right(await here.run(take_at_once, items, SECONDS, instances=instances), list(range(items)))
            for _ in range(max(1, round(ROUNDS * scale)))
        ]
    time = statistics.median(run.seconds for run in runs)
    return [
        Figure("a fast and a slow worker: time", time, "s"),
        Figure("a fast and a slow worker: ideal time", ideal(items), "s"),
        Figure("a fast and a slow worker: time / ideal time", time / ideal(items), "ratio", at_most=MOST),
    ]


def ideal(items: int) -> float:
    """Return the least time in which the two could do it: no call is divided."""
    for beats in itertools.count(1):
        if AT_A_TIME * (beats + beats // SLOWNESS) >= items:
            return beats * SECONDS
    raise AssertionError
