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
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from activities import Agent, task
from activities.contract import CHOREOGRAPHY_QUEUE
from console.dev_server import DevServer
from workflows import choreography, continue_with
from workflows.serving import open_client

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


def start_worker(address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "worker.py", "--bare", "--module", "bench.long_runs", "--log-level", "error"],
        env={**os.environ, "TEMPORAL_ADDRESS": address},
        stdout=subprocess.DEVNULL,
    )


async def chain(handle: WorkflowHandle[Any, Any], client: Any) -> list[int]:
    """Return the events of each history that a run consists of."""
    found = []
    run_id = handle.first_execution_run_id
    while run_id:
        described = await client.get_workflow_handle(handle.id, run_id=run_id).describe()
        found.append(described.history_length)
        history = await client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
        run_id = history.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return found


async def measure(server: DevServer, ledger: Path, choreography: str, rounds: int, *more: int) -> bool:
    """Run a loop while one of two workers is killed; return whether all went right."""
    client = await open_client(target_host=server.address)
    workers = [start_worker(server.address) for _ in range(2)]
    try:
        began = time.monotonic()
        handle = await client.start_workflow(
            choreography, args=[rounds, *more], id=choreography, task_queue=CHOREOGRAPHY_QUEUE
        )
        while sum(1 for line in ledger.open() if line.startswith(f"{choreography} ")) < 3 * rounds / 2:
            await asyncio.sleep(1)
        workers[0].kill()
        workers[0].wait()
        workers[0] = start_worker(server.address)
        total = await handle.result()
        seconds = time.monotonic() - began
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
    lengths = await chain(handle, client)
    calls = Counter(line.strip() for line in ledger.open() if line.startswith(f"{choreography} "))
    repeated = sum(calls.values()) - 3 * rounds
    right = total == rounds * (rounds - 1) // 2
    print(
        f"{choreography}: {rounds} rounds in {seconds:.0f} s ({1000 * seconds / rounds:.1f} ms each), "
        f"{len(lengths)} histories, at most {max(lengths)} events; right: {right}; calls made again: {repeated}",
        flush=True,
    )
    # Those that ran when the worker was killed may be made again.
    return right and repeated <= 3 and max(lengths) <= 15_000


async def main(rounds: int, endless: int, every: int) -> int:
    with tempfile.TemporaryDirectory() as folder, DevServer.start(ui=False) as server:
        ledger = Path(folder) / "ledger"
        ledger.touch()
        os.environ[LEDGER] = str(ledger)
        right = [await measure(server, ledger, "long_loop", rounds)] if rounds else []
        if endless:
            right.append(await measure(server, ledger, "endless_loop", endless, every))
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
