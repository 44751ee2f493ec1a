"""Programs of `test_replay.py` as somebody has changed them since."""

from __future__ import annotations

from tests.workflows.crew import Worker
from workflows import choreography, scatter


@choreography(worker=3)
async def build(items: list[str], worker: Worker, reviewer: Worker) -> int:
    """Call another method than before."""
    await scatter(items, worker, lambda w, item: w.whoami())
    return 0


@choreography(worker=2)
async def ask_twice(worker: Worker) -> None:
    """Make one call less than before."""
    await worker.whoami()
