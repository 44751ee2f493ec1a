"""How long a killed worker's calls wait until others run them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path

from activities.contract.names import CHOREOGRAPHY_QUEUE
from bench.figures import Figure
from bench.site import Site, site
from bench.team import note_at_once

ROUNDS = 3
CALLS = 20


async def measure(scale: float) -> list[Figure]:
    """Kill one of two workers, some times."""
    async with site(tuned=False) as here:
        waits = [await _kill(here, number) for number in range(max(1, round(ROUNDS * scale)))]
    return [
        Figure("SIGKILL of a worker to its first call elsewhere", statistics.median(first for first, _ in waits), "s"),
        Figure("SIGKILL of a worker to all its calls elsewhere", statistics.median(last for _, last in waits), "s"),
    ]


async def _kill(here: Site, number: int) -> tuple[float, float]:
    """Return how long the first and the last of the killed worker's calls waited."""
    ledger = here.folder / f"ledger-{number}"
    ledger.touch()
    await here.worker("--serve", "choreography")
    workers = [await here.worker("--serve", "Hand.note", "--concurrency", str(CALLS)) for _ in range(2)]
    run = await here.client.start_workflow(
        note_at_once.name,
        args=[CALLS, 3600.0, str(ledger), {"instances": {"hand": CALLS}}],
        id=f"kill-{number}",
        task_queue=CHOREOGRAPHY_QUEUE,
    )
    begun = await _lines(ledger, CALLS)
    shares = Counter(int(pid) for _, pid, _ in begun)
    doomed = max(workers, key=lambda worker: shares[worker.pid])
    await asyncio.sleep(2)  # they heartbeat by now
    killed_at = time.time()
    doomed.kill()
    again = (await _lines(ledger, CALLS + shares[doomed.pid]))[CALLS:]
    await run.terminate("it is measured")
    here.end()
    waits = [float(began_at) - killed_at for _, _, began_at in again]
    return min(waits), max(waits)


async def _lines(ledger: Path, count: int) -> list[list[str]]:
    """Wait for a number of lines in the ledger."""
    while len(lines := ledger.read_text().splitlines()) < count:
        await asyncio.sleep(0.02)
    return [line.split() for line in lines]
