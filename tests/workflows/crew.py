"""A crew without models, and a diary of what it did: what the tests of the workflows wing run."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import suppress
from typing import NamedTuple

from activities import Agent, task
from activities.border.context import CallContext

_PRINTABLE = {code: 33 + code % 90 for code in range(256)}


class Entry(NamedTuple):
    """Something that an instance began or ended."""

    instance: str
    what: str
    item: str


class Diary:
    """What the crew did in each run, in the order in which it happened, and who has to wait for the test."""

    def __init__(self) -> None:
        self.entries: defaultdict[str, list[Entry]] = defaultdict(list)
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def note(self, call: CallContext | None, what: str, item: str) -> None:
        assert call is not None
        self.entries[call.workflow_id].append(Entry(call.instance, what, item))

    def items(self, run: str, what: str) -> list[str]:
        """Return the items of which something happened."""
        return [entry.item for entry in self.entries[run] if entry.what == what]

    def most_at_once(self, run: str, *instances: str) -> int:
        """Return how many calls of some instances ran at the same time."""
        running = most = 0
        for entry in self.entries[run]:
            if entry.instance in instances:
                running += {"begin": 1, "end": -1, "cancelled": -1}.get(entry.what, 0)
            most = max(most, running)
        return most

    async def wait_for(self, run: str, what: str, count: int = 1) -> None:
        """Wait until something has happened often enough."""
        async with asyncio.timeout(20):
            while len(self.items(run, what)) < count:
                await asyncio.sleep(0.005)

    def gate(self, run: str) -> asyncio.Event:
        """Return what holds the run's `wait` calls until the test opens it."""
        return self._gates[run]


diary = Diary()


class Worker(Agent):
    """Does as it is told."""

    @task
    async def double(self, number: int) -> int:
        """Return twice the number."""
        return 2 * number

    @task
    def whoami(self) -> str:
        """Return the instance's name."""
        return self.name

    @task
    async def work(self, item: str, seconds: float = 0.01) -> str:
        """Take some time over an item, and say who did it."""
        diary.note(self.call, "begin", item)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            diary.note(self.call, "cancelled", item)
            raise
        diary.note(self.call, "end", item)
        return self.name

    @task
    def noise(self, seed: int, length: int) -> str:
        """Return a text that can't be made much shorter."""
        return random.Random(seed).randbytes(length).decode("latin-1").translate(_PRINTABLE)

    @task
    async def wait(self, item: str) -> str:
        """Work on an item until the test opens the gate, or until the call is cancelled."""
        assert self.call is not None
        diary.note(self.call, "begin", item)
        try:
            await diary.gate(self.call.workflow_id).wait()
        except asyncio.CancelledError:
            diary.note(self.call, "cancelled", item)
            raise
        diary.note(self.call, "end", item)
        return self.name

    @task
    async def finish_nevertheless(self, item: str) -> str:
        """Work on an item until the call is cancelled, and then end it well."""
        diary.note(self.call, "begin", item)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        diary.note(self.call, "end", item)
        return self.name

    @task(retries=0)
    def fail(self, why: str) -> None:
        """Raise an error."""
        raise RuntimeError(why)
