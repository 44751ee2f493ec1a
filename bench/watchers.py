"""What it costs a run, its server and the board that people watch it: the same run with and without them, in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.figures import Figure, ratio
from bench.site import Board, Site, cpu_of, right, site
from bench.team import take_at_once

WATCHERS = 50
ITEMS = 1_000
HANDS = 50
SECONDS = 0.5
"""Seconds that an item takes: the run takes ten at least."""

ROUNDS = 3
MOST = 1.1
MOST_CPU = 1.25
MOST_REQUESTS = 1.5
"""Requests to the server with all who watch, for each with one of them: they share what is asked."""


@dataclass(frozen=True)
class Seen:
    """One run, and what went on meanwhile.

    Attributes:
        seconds: How long it took.
        server: Seconds of a processor that the server used for it.
        board: The same of the board.
        requests: What the board asked of the server, each second.
        events: What each who watched was sent, each second.
    """

    seconds: float
    server: float
    board: float
    requests: float
    events: float


async def measure(scale: float) -> list[Figure]:
    """Run it with nobody, with one and with fifty who watch, one round of each in turn."""
    items, rounds = max(HANDS, round(ITEMS * scale)), max(1, round(ROUNDS * scale))
    seen: dict[int, list[Seen]] = defaultdict(list)
    async with site(tuned=True) as here:
        await here.worker("--serve", "choreography")
        await here.worker("--serve", "Hand.take", "--concurrency", str(HANDS))
        board = await here.counted_board()
        await _watched(here, board, HANDS, 1)
        for number in range(rounds):
            for watchers in (0, 1, WATCHERS) if number % 2 == 0 else (WATCHERS, 1, 0):
                seen[watchers].append(await _watched(here, board, items, watchers))
    return _figures(seen, items)


async def _watched(here: Site, board: Board, items: int, watchers: int) -> Seen:
    name = f"watched-{time.monotonic_ns()}"
    server, cpu, asked = cpu_of(here.server.pid), cpu_of(board.pid), board.requests.counts().total()
    watching = [asyncio.create_task(_watch(board, name)) for _ in range(watchers)]
    ran = right(await here.run(take_at_once, items, SECONDS, instances={"hand": HANDS}, name=name), list(range(items)))
    used = cpu_of(here.server.pid) - server, cpu_of(board.pid) - cpu
    requests = board.requests.counts().total() - asked
    events = await asyncio.gather(*watching)
    return Seen(ran.seconds, *used, requests / ran.seconds, sum(events) / max(watchers, 1) / ran.seconds)


async def _watch(board: Board, run: str) -> int:
    """Watch a run to its end; return how many events came."""
    address = urlsplit(board.address)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET /runs/{run}/live HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
    events = 0
    try:
        while b"event: over" not in (said := await reader.read(1 << 20)):
            if not said:
                raise ConnectionError(f"the board has ended what it tells of {run}")
            events += said.count(b"event: ")
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return events


def _figures(seen: dict[int, list[Seen]], items: int) -> list[Figure]:
    run, times = f"run of {items:,} items", {many: [one.seconds for one in some] for many, some in seen.items()}
    figures = [Figure(f"{run}, {many} watch: time", statistics.median(each), "s") for many, each in times.items()]
    for many, some in seen.items():
        figures.append(_median(f"{run}, {many} watch: CPU of the server", [one.server for one in some], "s"))
        if many:
            figures += [
                _median(f"{run}, {many} watch: CPU of the board", [one.board / one.seconds for one in some], "s/s"),
                _median(f"{run}, {many} watch: the board's requests", [one.requests for one in some], "1/s"),
                _median(f"{run}, {many} watch: events to each", [one.events for one in some], "1/s"),
            ]
    asked = {many: [one.requests for one in some] for many, some in seen.items()}
    server = {many: [one.server for one in some] for many, some in seen.items()}
    return [
        *figures,
        ratio(f"{run}: time, {WATCHERS} watch / nobody", times[WATCHERS], times[0], at_most=MOST),
        ratio(f"{run}: CPU of the server, {WATCHERS} watch / nobody", server[WATCHERS], server[0], at_most=MOST_CPU),
        ratio(f"{run}: requests, {WATCHERS} watch / one", asked[WATCHERS], asked[1], at_most=MOST_REQUESTS),
    ]


def _median(name: str, values: list[float], unit: str) -> Figure:
    return Figure(name, statistics.median(values), unit)
