"""How often a provider that is away is asked meanwhile, and whether all calls are answered afterwards.

    python -m bench.outage [--minutes 10] [--processes 1] [--calls 40] [--limits openai/*=60000rpm]

Calls are under way when it goes away; then one process tries for all. Prints a line, and fails if a call is lost, or if
all processes together asked more than 20 times after the first second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from typing import Any

from bench.site import site
from bench.team import ask_at_once
from tests.provider import Fault, Provider, Reply, Request, Slow, Text

MOST = 20
"""Requests of all processes in ten minutes, beside those that were under way."""

BEFORE_S = 3.0


async def measure(minutes: float, processes: int, calls: int, limits: str) -> dict[str, Any]:
    """Let a provider be away for some minutes while calls are made."""
    away = [float("inf"), float("inf")]

    def respond(_: Request) -> Reply:
        return Fault(503) if away[0] <= time.monotonic() < away[1] else Slow(0.5, Text("Done."))

    with Provider(respond) as provider:
        async with site(tuned=True) as here:
            await here.worker("--serve=choreography")
            environment = {"LOOPBACK": provider.url, "OPENAI_API_KEY": "any", "MODEL_LIMITS": limits}
            for _ in range(processes):
                await here.worker("--serve=Asker", "--concurrency=10", **environment)
            run = asyncio.create_task(here.run(ask_at_once, "many", calls, instances={"asker": 10 * processes}))
            await asyncio.sleep(BEFORE_S)
            away[:] = time.monotonic(), time.monotonic() + 60 * minutes
            answered = len(provider.requests)
            ran = await run
    at = [request.at for request in provider.requests if away[0] <= request.at < away[1]]
    at_first, soon = (sum(moment < away[0] + seconds for moment in at) for seconds in (1, 5))
    return {
        "processes": processes,
        "minutes": minutes,
        "answered before": answered,
        "asked meanwhile": len(at),
        "of these in the first second": at_first,
        "in the next four": soon - at_first,
        "answered": sum(answer == "Done." for answer in ran.result),
        "of": calls,
        "over after": round(time.monotonic() - away[1], 1),
    }


async def main(options: argparse.Namespace) -> int:
    """Measure; return the exit code."""
    seen = await measure(options.minutes, options.processes, options.calls, options.limits)
    print(", ".join(f"{name}: {value}" for name, value in seen.items()), flush=True)
    tries = seen["asked meanwhile"] - seen["of these in the first second"]
    return int(seen["answered"] < seen["of"] or tries > MOST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it is away (default 10)")
    parser.add_argument("--processes", type=int, default=1, help="that ask it (default 1)")
    parser.add_argument("--calls", type=int, default=400, help="that are made (default 400)")
    parser.add_argument("--limits", default="", metavar="MODEL=…", help="as MODEL_LIMITS sets them; none by default")
    code = asyncio.run(main(parser.parse_args()))
    sys.stdout.flush()
    os._exit(code)
