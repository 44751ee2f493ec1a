"""Measure what the harness costs and how far it goes, on dev servers of its own.

    make bench                        everything: about an hour, on a machine that does nothing else
    make bench ONLY=overhead,pools    some cases
    make bench SCALE=0.1              a tenth of it, for trying out
    make bench CHECK=1                fail where a bound is broken

Prints a table and writes bench/results.json and bench/results.png.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from temporalio.client import WorkflowFailureError

from bench import limits, memory, overhead, pools, prompts, recovery, scatters, sharing, watchers, words
from bench.figures import Figure, save, table
from bench.plot import plot
from bench.site import BenchFailed

FOLDER = Path(__file__).parent


def cases(options: argparse.Namespace) -> dict[str, Callable[[], Awaitable[list[Figure]]]]:
    return {
        "overhead": lambda: overhead.measure(options.scale),
        "memory": lambda: memory.measure(options.scale),
        "scatters": lambda: scatters.measure(options.scale),
        "pools": lambda: pools.measure(options.scale, options.workers),
        "prompts": lambda: prompts.measure(options.scale),
        "sharing": lambda: sharing.measure(options.scale),
        "watchers": lambda: watchers.measure(options.scale),
        "recovery": lambda: recovery.measure(options.scale),
        "limits": lambda: limits.measure(options.scale, options.processes),
        "words": lambda: words.measure(options.scale),
    }


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench", description="Measure what the harness costs.")
    made.add_argument(
        "--only",
        metavar="CASE,CASE",
        help="some of: overhead, memory, scatters, pools, prompts, sharing, watchers, recovery, limits, words",
    )
    made.add_argument("--scale", type=float, default=1.0, help="part of the sizes and rounds (default 1)")
    made.add_argument("--workers", type=int, default=2, help="worker processes that serve the pools (default 2)")
    made.add_argument("--processes", type=int, default=20, help="that ask one provider (default 20)")
    made.add_argument("--check", action="store_true", help="fail where a bound is broken")
    return made


async def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return the exit code."""
    options = parser().parse_args(arguments)
    known = cases(options)
    chosen = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in chosen if name not in known]:
        print(f"bench: there is no case {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    failed = False
    for name in chosen:
        start = time.monotonic()
        try:
            measured = await known[name]()
        except (BenchFailed, WorkflowFailureError) as error:
            print(f"\n{name} failed: {getattr(error, 'cause', None) or error}", flush=True)
            failed = True
            continue
        print(f"\n{name} ({time.monotonic() - start:.0f} s)\n{table(measured)}", flush=True)
        figures += measured
    save(figures, FOLDER / "results.json")
    plot(figures, FOLDER / "results.png")
    broken = [figure.name for figure in figures if figure.ok is False]
    print("\nAll bounds are kept." if not broken else "\n  ".join(["\nBroken:", *broken]))
    return int(failed or (options.check and bool(broken)))


if __name__ == "__main__":
    code = asyncio.run(main())
    sys.stdout.flush()
    # The SDK's threads end a plain exit in a segmentation fault now and then.
    os._exit(code)
