"""Loops that outgrow any history: by themselves, and with `continue_with`; a worker is killed on the way.

    python -m bench.long_runs [--rounds 5000] [--endless 50000] [--every 1000]

Each round makes three calls. Prints a line per loop, and fails if a result is wrong, a call was made twice that should
not have been, or a history is longer than 15,000 events.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from activities import Agent, task
from activities.contract.names import CHOREOGRAPHY_QUEUE
from bench.histories import history_of
from bench.site import Site, site
from workflows import choreography, continue_with

LEDGER = "LONG_RUNS_LEDGER"


class Clerk(Agent):
    """You count."""

    @task
    async def add(self, total: int, number: int) -> int:
        """Add, and write down that it was done."""
        with Path(os.environ[LEDGER]).open("a") as file:
            file.write(f"{self.call.workflow_id if self.call else ''} {total} {number}\n")
        return total + number


@choreography(clerk=3)
async def long_loop(rounds: int, clerk: Clerk) -> int:
    """Count rounds, by three calls each."""
    total = 0
    for n in range(rounds):
        parts = await asyncio.gather(clerk.add(total, n), clerk.add(total, 0), clerk.add(0, n))
        total = parts[1] + parts[2]
        assert parts[0] == total
    return total


@choreography(clerk=3)
async def endless_loop(rounds: int, every: int, clerk: Clerk, done: int = 0, total: int = 0) -> int:
    """Do the same, beginning afresh now and then."""
    for n in range(done, min(done + every, rounds)):
        parts = await asyncio.gather(clerk.add(total, n), clerk.add(total, 0), clerk.add(0, n))
        total = parts[1] + parts[2]
        assert parts[0] == total
    if done + every >= rounds:
        return total
    return continue_with(rounds, every, done=done + every, total=total)


async def measure(here: Site, ledger: Path, choreography: str, rounds: int, *more: int) -> bool:
    """Run a loop while one of two workers is killed; return whether all went right."""
    workers = [await _worker(here, ledger) for _ in range(2)]
    began = time.monotonic()
    handle = await here.client.start_workflow(
        choreography, args=[rounds, *more], id=choreography, task_queue=CHOREOGRAPHY_QUEUE
    )
    while len(_calls(ledger, choreography)) < 3 * rounds / 2:
        await asyncio.sleep(1)
    workers[0].kill()
    await _worker(here, ledger)
    total = await handle.result()
    seconds = time.monotonic() - began
    history = await history_of(here.client, choreography)
    repeated = len(_calls(ledger, choreography)) - 3 * rounds
    right = total == rounds * (rounds - 1) // 2
    print(
        f"{choreography}: {rounds} rounds in {seconds:.0f} s ({1000 * seconds / rounds:.1f} ms each), "
        f"{history.workflows} histories, at most {history.most_events} events; right: {right}; "
        f"calls made again: {repeated}",
        flush=True,
    )
    # Those that ran when the worker was killed may be made again.
    return right and repeated <= 3 and history.most_events <= 15_000


async def _worker(here: Site, ledger: Path) -> subprocess.Popen[bytes]:
    return await here.program(
        *("worker.py", "--bare", "--module", "bench.long_runs", "--log-level", "error"), **{LEDGER: str(ledger)}
    )


def _calls(ledger: Path, choreography: str) -> list[str]:
    return [line for line in ledger.open() if line.startswith(f"{choreography} ")]


async def main(rounds: int, endless: int, every: int) -> int:
    """Measure both loops, each on a server of its own; return the exit code."""
    loops = {"long_loop": (rounds,), "endless_loop": (endless, every)}
    right = []
    for name, (count, *more) in loops.items():
        if count:
            async with site(tuned=True) as here:
                ledger = here.folder / "ledger"
                ledger.touch()
                right.append(await measure(here, ledger, name, count, *more))
    return 0 if all(right) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5_000)
    parser.add_argument("--endless", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=1_000)
    options = parser.parse_args()
    code = asyncio.run(main(options.rounds, options.endless, options.every))
    sys.stdout.flush()
    os._exit(code)
