"""Where the soak goes on: a server and workers that are killed, a provider that fails, and what of them is measured."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from console.dev_server import DevServer
from testing.loopback import Exchange
from tests.provider import Fault, Provider, Reply, Request, Slow, Text, ToolCall, Tools
from tests.system.processes import ROOT, Process, free_port, is_alive

WORKERS = 3
"""The first is never killed, so that its memory is seen over the whole time."""

FAULTS = 0.2
"""The share of requests that a provider fails."""

RECORDED_S = 1.0
"""An answer is on the server by then; one that is older than this when something dies must not be asked for again."""


class Cut:
    """A connection that ends without an answer."""

    def send(self, to: Exchange) -> None:
        to.close_connection = True


class Junk:
    """An answer that is none."""

    def send(self, to: Exchange) -> None:
        to.send(200, "{<html>")


@dataclass(frozen=True)
class Noted:
    """A reply, of which it is noted when it was given."""

    reply: Reply
    answers: list[float]

    def send(self, to: Exchange) -> None:
        self.reply.send(to)
        self.answers.append(time.time())


@dataclass
class Faulty:
    """What the provider says: what is right, and in a fifth of all cases something else.

    Attributes:
        faults: How often it failed in which way.
        answers: When it answered each request, by what that was about and its digest.
    """

    chance: random.Random
    share: float = FAULTS
    faults: Counter[str] = field(default_factory=Counter)
    answers: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def __call__(self, request: Request) -> Reply:
        right = Slow(self.chance.uniform(0.05, 0.5), _right(request))
        noted = Noted(right, self.answers.setdefault((_about(request), request.digest), []))
        if self.chance.random() >= self.share:
            return noted
        faults: list[tuple[str, Reply]] = [
            ("429", Fault(429, retry_after=1)),
            ("500", Fault(500)),
            ("503", Fault(503, retry_after=0.5)),
            ("cut", Cut()),
            ("junk", Junk()),
            ("slow", Slow(3.0, noted)),
        ]
        kind, fault = self.chance.choice(faults)
        self.faults[kind] += 1
        return fault


def _right(request: Request) -> Reply:
    word, about = request.last_user.partition(" ")[0], _about(request)
    tools = {"Think": "look", "Print": "put_out"}
    if word in tools and request.messages[-1]["role"] != "tool":
        return Tools((ToolCall(tools[word], {"at" if word == "Think" else "title": about}),))
    return Text(said(word, about), prompt_tokens=1000, completion_tokens=1000)


def _about(request: Request) -> str:
    return request.last_user.rstrip(".").partition(" ")[2].removeprefix("about ")


def said(word: str, about: str) -> str:
    """Return what a model says to a prompt that begins with a word and is about something."""
    return f"{word.lower()}: {about}"


@dataclass
class Memory:
    """The memory of one process over time: minutes since the beginning, and MiB.

    Attributes:
        seen: What was measured.
    """

    seen: list[tuple[float, float]] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """MiB of the last quarter of the time over those of the second, each by its mean; 0 if it was short."""
        quarter = len(self.seen) // 4
        if quarter < 3:
            return 0.0
        second = [size for _, size in self.seen[quarter : 2 * quarter]]
        last = [size for _, size in self.seen[-quarter:]]
        return sum(last) / quarter - sum(second) / quarter


class SoakSite:
    """A server, workers and a provider, for as long as the context lasts.

    Attributes:
        deaths: When something died, and from when on all was there again.
        kills: How often a worker and the server were killed.
        memory: By process: `worker 1` is never killed, `server` is measured over all its lives.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.faulty = Faulty(random.Random(seed + 1))
        self.deaths: list[tuple[float, float]] = []
        self.kills: Counter[str] = Counter()
        self.memory: dict[str, Memory] = {}
        self.notes = folder / "notes.jsonl"
        self._folder = folder
        self._numbers = itertools.count(1)
        self._began = time.monotonic()

    def __enter__(self) -> SoakSite:
        self.notes.touch()
        self.provider = Provider(self.faulty)
        self.provider.__enter__()
        # Not Temporal's own port: while the server is down, another one on this machine would take it.
        self.server = DevServer.start(db_file=self._folder / "temporal.db", port=int(free_port()), ui=False)
        self.workers = [self._worker() for _ in range(WORKERS)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        self.server.stop()
        self.provider.__exit__()

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of the soak are started with."""
        return {
            **self.provider.environment,
            "MODEL": "openai/gpt-4o-mini",
            "TEMPORAL_ADDRESS": self.server.address,
            "WORKSPACES": str(self._folder / "workspaces"),
            "SOAK_NOTES": str(self.notes),
            "PYTHONPATH": str(ROOT),
        }

    def _worker(self) -> Process:
        options = ["--bare", "--module", "bench.soak_team", "--concurrency", "20", "--log-level", "error"]
        return Process(
            *(sys.executable, "worker.py", *options),
            folder=self._folder / f"worker-{next(self._numbers)}",
            cwd=ROOT,
            environment=self.environment,
        )

    async def kill_a_worker(self) -> None:
        """Kill one of the workers but for the first, and start another one in its place."""
        index = self.chance.randrange(1, WORKERS)
        died = time.time()
        self.workers[index].kill()
        self.workers[index] = await asyncio.to_thread(self._worker)
        self.deaths.append((died, died))
        self.kills["worker"] += 1

    async def kill_the_server(self) -> None:
        """Kill the server, and start it again from its file."""
        died = time.time()
        os.kill(self.server.pid, signal.SIGKILL)
        while is_alive(self.server.pid):
            await asyncio.sleep(0.01)
        port = int(self.server.address.rpartition(":")[2])
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(self.chance.uniform(0, 1))
        self.server = await asyncio.to_thread(
            DevServer.start, db_file=self._folder / "temporal.db", port=port, ui=False
        )
        self.deaths.append((died, time.time()))
        self.kills["server"] += 1

    def look_after_workers(self) -> list[str]:
        """Start a worker in the place of each that ended by itself; return what these said."""
        told = []
        for index, worker in enumerate(self.workers):
            if not worker.is_running:
                told.append(f"worker {index + 1} ended by itself: {worker.errors[-1500:]}")
                self.workers[index] = self._worker()
        return told

    def measure(self) -> None:
        """Measure the memory of all processes."""
        minutes = (time.monotonic() - self._began) / 60
        pids = {f"worker {index + 1}": worker.pid for index, worker in enumerate(self.workers)}
        for name, pid in {**pids, "server": self.server.pid}.items():
            if size := _resident(pid):
                self.memory.setdefault(name, Memory()).seen.append((minutes, size))

    def was_hurt(self, begin: float, end: float) -> bool:
        """Whether something died, or was away, between two times."""
        return any(died < end and begin < back + RECORDED_S for died, back in self.deaths)

    def paid_twice(self) -> list[str]:
        """Return the requests that were answered again though nothing had died by the time the answer was on record."""
        return [
            f"{about}, answered {len(answers)} times, first at {answers[0]:.1f}"
            for (about, _), answers in self.faulty.answers.items()
            if any(not self.was_hurt(first - RECORDED_S, first + RECORDED_S) for first in answers[:-1])
        ]

    def done_twice(self) -> list[str]:
        """Return the tools that ran again though nothing had died by the time their result was on record."""
        runs: dict[str, list[float]] = {}
        for line in self.notes.read_text().splitlines():
            noted = json.loads(line)
            runs.setdefault(noted["done"], []).append(noted["at"])
        return [
            f"{done}, {len(times)} times, first at {times[0]:.1f}"
            for done, times in runs.items()
            if any(not self.was_hurt(first - RECORDED_S, first + RECORDED_S) for first in times[:-1])
        ]

    def asked_again(self, but_for: tuple[str, ...]) -> int:
        """Return how often an answer that was given was asked for once more, but for what is about some."""
        return sum(
            len(answers) - 1
            for (about, _), answers in self.faulty.answers.items()
            if answers and not about.startswith(but_for)
        )


def _resident(pid: int) -> float:
    try:
        lines: Iterator[str] = iter(Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
