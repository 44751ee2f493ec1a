"""How far one scatter goes: 100 to 100,000 items by a pool of 100."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure
from bench.histories import History, history_of
from bench.site import Ran, Site, right, site
from bench.team import nothing_at_once

POOL = 100
SIZES = (100, 1_000, 10_000, 1_000, 100_000, 1_000, 100)
"""In this order: the small ones before and after the large ones, as the machine changes."""

MOST_EVENTS = 15_000
MOST_BYTES = 10_000_000
MOST_MEMORY_MB = 500
MOST_GROWTH = 1.3


UNTUNED_SIZES = (100, 1_000, 10_000)
"""On a server as it comes, which hands out some 100 tasks a second."""


async def measure(scale: float) -> list[Figure]:
    """Scatter over ever more items, on a tuned server and on one as it comes."""
    most = max(100_000 * scale, 1_000)
    async with site(tuned=True) as here:
        figures = await _measure(here, [size for size in SIZES if size <= most], "scatter")
    async with site(tuned=False) as here:
        untuned = [size for size in UNTUNED_SIZES if size <= most]
        return figures + await _measure(here, untuned, "server as it comes: scatter")


async def _measure(here: Site, sizes: Sequence[int], name: str) -> list[Figure]:
    choreographer = await here.worker("--serve", "choreography")
    await here.worker("--serve", "Hand.nothing")
    await _scatter(here, POOL)
    seconds: dict[int, list[float]] = {}
    figures: list[Figure] = []
    for size in sizes:
        ran = await _scatter(here, size)
        first = size not in seconds
        seconds.setdefault(size, []).append(ran.seconds)
        if first:
            history = await history_of(here.client, ran.workflow_id)
            figures += _figures(f"{name} of {size:,}", size, history, _most_memory_mb(choreographer))
    return [*_times(name, seconds), *figures]


async def _scatter(here: Site, size: int) -> Ran:
    return right(await here.run(nothing_at_once, size, instances={"hand": POOL}), list(range(size)))


def _times(name: str, seconds: dict[int, list[float]]) -> list[Figure]:
    medians = {size: statistics.median(times) for size, times in seconds.items()}
    each = {size: time / size for size, time in medians.items()}
    figures = [Figure(f"{name} of {size:,}: time", time, "s") for size, time in medians.items()]
    figures += [Figure(f"{name} of {size:,}: per item", time * 1000, "ms") for size, time in each.items()]
    if len(each) > 1 and max(each) > 1_000:
        grown = each[max(each)] / each[1_000]
        ratio = f"{name}: per item, {max(each):,} / 1,000"
        figures.append(Figure(ratio, grown, "ratio", at_most=MOST_GROWTH))
    return figures


def _figures(what: str, size: int, history: History, memory_mb: float) -> list[Figure]:
    return [
        Figure(f"{what}: workflows", history.workflows, ""),
        Figure(f"{what}: events per item", history.events / size, "events"),
        Figure(f"{what}: history per item", history.size / size, "bytes"),
        Figure(f"{what}: most events of a workflow", history.most_events, "events", at_most=MOST_EVENTS),
        Figure(f"{what}: longest history of a workflow", history.most_bytes, "bytes", at_most=MOST_BYTES),
        Figure(f"{what}: failed workflow tasks", history.failed_tasks, "tasks", at_most=0),
        Figure(f"{what}: memory of the choreography's worker", memory_mb, "MB", at_most=MOST_MEMORY_MB),
    ]


def _most_memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Return the most memory that a process has had so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [most] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(most) / 1024
