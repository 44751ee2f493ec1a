"""A server and two workers that are killed at chosen moments while a run goes on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from console.dev_server import DevServer
from tests.provider import Provider
from tests.system.processes import ROOT, Process, free_port, is_alive

WORKERS = 2
HURTS_WITHIN_S = 0.03
"""A moment that is waited for lasts about as long: what comes to it is killed so many seconds later at most."""

NO_SERVER = "No Temporal server answers"
"""What a worker says that is started while there is none: it ends, and whoever runs it starts it again."""

Moment = Literal["busy", "commit", "continue-as-new"]


@dataclass(frozen=True)
class Kill:
    """What is killed, and when."""

    victim: Literal["worker", "server", "both"]
    moment: Moment

    @staticmethod
    def plan(which: Literal["workers", "server"], chance: random.Random, kills: int) -> list[Kill]:
        """Choose the moments: three of four kills hit a worker that has a call in flight, or the server meanwhile."""
        moments: list[Moment] = ["busy" if number % 4 else "commit" for number in range(kills)]
        for number in range(4, kills, 12):
            moments[number] = "continue-as-new"
        chance.shuffle(moments)
        if which == "workers":
            return [Kill("worker", moment) for moment in moments]
        return [Kill("both" if chance.random() < 0.25 else "server", moment) for moment in moments]


@dataclass
class Stage:
    """What is killed, and killed again.

    Attributes:
        kills: How often something was killed.
        in_flight: How many of these hit a call that was in flight.
        deaths: When each worker died, by its process id.
        outages: From when to when there was no server.
        doubts: What happened that nobody did.
    """

    folder: Path
    provider: Provider
    seed: int
    kills: int = 0
    in_flight: int = 0
    deaths: dict[int, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    _started: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        # Not Temporal's own port: while the server is down, another one on this machine would take it.
        self.server = DevServer.start(db_file=self.folder / "temporal.db", port=int(free_port()), ui=False)
        self.workers = [self._start_worker() for _ in range(WORKERS)]

    def _start_worker(self) -> Process:
        self._started += 1
        environment = {
            "TEMPORAL_ADDRESS": self.server.address,
            "MODEL": "openai/scripted",
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_BASE": self.provider.url,
            "WORKSPACES": str(self.folder / "workspaces"),
            "CHAOS": str(self.folder),
            "PYTHONPATH": str(ROOT),
        }
        # One call at a time in each queue: then there is one in flight that a kill may cost.
        options = ["--bare", "--module", "tests.system.chaos_team", "--concurrency", "1"]
        return Process(
            *(sys.executable, "worker.py", *options),
            folder=self.folder / f"worker-{self._started}",
            cwd=ROOT,
            environment=environment,
        )

    def was_out(self, begin: float, end: float) -> bool:
        """Whether there was no server at some time between two."""
        return any(down < end and begin < up for down, up in self.outages)

    async def fire(self, run: WorkflowHandle[Any, Any], finished: asyncio.Future[Any], kills: Sequence[Kill]) -> None:
        """Kill until the run ends or everything was killed that was to be."""
        for kill in kills:
            await asyncio.wait([finished], timeout=self.chance.uniform(0.5, 2.5))
            if finished.done():
                return
            hit = await self._strike(run, finished, kill)
            self.kills += hit
            self._look_after_workers()

    def end(self) -> None:
        """End everything."""
        self._look_after_workers()
        for worker in self.workers:
            worker.kill()
        self.server.stop()

    async def _strike(self, run: WorkflowHandle[Any, Any], finished: asyncio.Future[Any], kill: Kill) -> bool:
        """Kill what is to be killed at its moment, and start another in its place; return whether it was."""
        if kill.moment == "busy":
            worker = await self._busy(run, finished)
        else:
            worker = await self._order(kill, finished)
        if worker is None:
            return False
        victims = {"worker": [worker], "server": [self.server.pid], "both": [worker, self.server.pid]}[kill.victim]
        for victim in victims:
            if is_alive(victim):
                os.kill(victim, signal.SIGKILL)
        while any(map(is_alive, victims)):
            await asyncio.sleep(0.002)
        self.in_flight += kill.moment != "continue-as-new"
        await self._replace(victims)
        return True

    async def _busy(self, run: WorkflowHandle[Any, Any], finished: asyncio.Future[Any]) -> int | None:
        """Wait until a worker has a call in flight; return its process id."""
        while not finished.done():
            with suppress(RPCError):
                pending = (await run.describe()).raw_description.pending_activities
                begun = [call for call in pending if call.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED]
                makers = {int(call.last_worker_identity.partition("@")[0]) for call in begun}
                if busy := [worker.pid for worker in self.workers if worker.pid in makers and worker.is_running]:
                    return self.chance.choice(busy)
            await asyncio.sleep(0.02)
        return None

    async def _order(self, kill: Kill, finished: asyncio.Future[Any]) -> int | None:
        """Have a worker that comes to a moment kill itself, or the server; return its process id."""
        orders = self.folder / kill.moment
        waits = self.chance.random() < 0.3  # then it is killed before it does anything
        victim = 0 if kill.victim == "worker" else self.server.pid
        order = {
            "pid": victim,
            "after": self.chance.uniform(0, HURTS_WITHIN_S),
            "before": HURTS_WITHIN_S * 2 if waits else 0.0,
        }
        draft = orders.with_suffix(".draft")
        draft.write_text(json.dumps(order))
        draft.rename(orders)
        while orders.exists():
            if finished.done():
                with suppress(FileNotFoundError):
                    orders.unlink()
                    return None
            await asyncio.sleep(0.005)
        [struck] = self.folder.glob(f"{kill.moment}-struck-by-*")
        pid = int(struck.name.rpartition("-")[2])
        struck.unlink()
        while is_alive(victim or pid):
            await asyncio.sleep(0.002)
        return pid

    async def _replace(self, victims: Sequence[int]) -> None:
        now = time.time()
        for index, worker in enumerate(self.workers):
            if worker.pid in victims:
                worker.kill()
                self.deaths[worker.pid] = now
                self.workers[index] = self._start_worker()
        if self.server.pid in victims:
            port = int(self.server.address.rpartition(":")[2])
            await asyncio.to_thread(self.server.stop)
            await asyncio.sleep(self.chance.uniform(0, 1))
            self.server = await asyncio.to_thread(
                DevServer.start, db_file=self.folder / "temporal.db", port=port, ui=False
            )
            self.outages.append((now, time.time()))

    def _look_after_workers(self) -> None:
        for index, worker in enumerate(self.workers):
            if worker.is_running:
                continue
            if NO_SERVER not in worker.errors:
                self.doubts.append(f"a worker ended by itself: {worker.output[-500:]} {worker.errors[-1000:]}")
            self.workers[index] = self._start_worker()
