"""The journal: what has happened to a run's program so far, in order, so that the program can continue as new.

A run that continues as new runs its program again from the beginning, and tells it what happened before: how its steps
ended and when its timers rang, in the order in which that came. So the program takes the same path up to where it was,
whatever of waiting, claiming and racing lies on it. If it takes another path, the run waits for the program that it was
and tells where; it never goes on with what belongs to something else.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Protocol

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract.names import BREATHE_ACTIVITY
from workflows.engine.happenings import Happening, Outcome, Step, read_pages, write_page
from workflows.engine.sdk import raise_if_evicted, until_all_wait

BREATH_EVERY = 200
"""Happenings that are told in one go: a worker ends a workflow task in which the program computes for two seconds."""


class Awaited(Protocol):
    """Something that the program waits for."""

    @property
    def step(self) -> Step:
        """What it is."""

    def begin(self) -> None:
        """Have it happen; it did not in the past."""

    def tell(self, outcome: Outcome) -> None:
        """Let the program go on with how it ended."""


class Journal:
    """Tells a program what happens: first what happened to it in earlier runs, then what happens now.

    Both are told in the same way, one thing at a time, each as soon as the program can do nothing but wait.

    Attributes:
        difference: Where the program takes another path than before; None as long as it does not.
        now: How far the program is in its time, in seconds since it began.
    """

    def __init__(self, began: float, pages: bytes = b"") -> None:
        """Begin a journal, or go on with one.

        Args:
            began: When the program began, in the workflow's time as seconds since 1970.
            pages: What `page` gave in each of the earlier runs, one after the other.
        """
        self.difference: str | None = None
        self.now = 0.0
        self._began = began
        self._pages = pages
        self._past = deque(read_pages(pages))
        self._past_is_told = not self._past
        self._present: deque[tuple[Step, Outcome]] = deque()
        self._awaited: dict[str, Awaited] = {}
        self._written: list[Happening] = []
        self._told = 0
        self._told_before: dict[str, int] = {}
        """How much was told when each step was begun."""

    @property
    def has_news(self) -> bool:
        """Whether something was told that is on no page yet, and nothing is left to be told."""
        return bool(self._written) and not self._present and self._past_is_told

    @property
    def time(self) -> float:
        """How far the program is in its time, as seconds since 1970."""
        return self._began + self.now

    @property
    def is_past(self) -> bool:
        """Whether the program is only being told what happened to it in earlier runs."""
        return not self._past_is_told

    async def step(self, step: Step, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Return the outcome that the step had before, or do its work.

        Who is cancelled meanwhile waits nevertheless for how the step ends, be it that it was cancelled.
        """
        self._told_before.setdefault(step.id, self._told)
        doing = _Work(self, step, work)
        self.wait_for(doing)
        return await doing.outcome()

    def wait_for(self, awaited: Awaited) -> None:
        """Tell how something ends, as it did in the past, or else as it does when it is begun."""
        self._awaited[awaited.step.id] = awaited
        if self._past_is_told:
            awaited.begin()

    def forget(self, awaited: Awaited) -> None:
        """Tell nothing of it: the program waits for it no more."""
        self._awaited.pop(awaited.step.id, None)

    def note(self, step: Step, outcome: Outcome) -> None:
        """Note how something has ended; it is told when its turn comes."""
        self._present.append((step, outcome))

    async def tell(self) -> None:
        """Tell the program what happens, until it takes another path than before."""
        for number in range(1, len(self._past) + 1):
            await until_all_wait(lambda: True)
            if number % BREATH_EVERY == 0:
                await _breathe()
            self.now = self._past[0].at
            if not self._tell_past(self._past[0]):
                return
            self._past.popleft()
        await until_all_wait(lambda: True)
        self._end_past()
        while True:
            await until_all_wait(lambda: bool(self._present))
            step, outcome = self._present.popleft()
            self.now = workflow.now().timestamp() - self._began
            if self._is_told(step, outcome):
                self._written.append(Happening(self.now, step, outcome))

    def ended(self) -> None:
        """Note that the program has ended: a difference if it was not told everything."""
        if self._past and self.difference is None:
            self._differs(self._past[0].step, "the program ended before that")

    def page(self) -> bytes:
        """Return what was told since this run began."""
        return write_page(self._written)

    def before(self, step_id: str) -> list[Happening] | None:
        """Return what the program had been told when it began a step, or the first inside of one; None if none was."""
        told = [told for id, told in self._told_before.items() if id == step_id or id.startswith(f"{step_id}.")]
        return [*read_pages(self._pages), *self._written][: min(told)] if told else None

    def _tell_past(self, happening: Happening) -> bool:
        """Tell something that happened; return whether the program waits for it, as it did."""
        expected = happening.step
        found = self._awaited[expected.id].step if expected.id in self._awaited else expected
        if not found.is_as(expected):
            self._differs(expected, found.what + (" with other arguments" if found.what == expected.what else ""))
            return False
        if not self._is_told(expected, happening.outcome):
            self._differs(expected, self._something_else())
            return False
        return True

    def _is_told(self, step: Step, outcome: Outcome) -> bool:
        """Tell how something ended; return whether the program waits for it."""
        awaited = self._awaited.pop(step.id, None)
        if awaited is None:
            return False
        awaited.tell(outcome)
        self._told += 1
        return True

    def _end_past(self) -> None:
        """Begin what did not happen in the past."""
        if not self._past_is_told:
            self._past_is_told = True
            self.now = workflow.now().timestamp() - self._began
            for awaited in list(self._awaited.values()):
                awaited.begin()

    def _differs(self, expected: Step, found: str) -> None:
        self.difference = f"step {expected.id} expected {expected.what}, found {found}"

    def _something_else(self) -> str:
        """Say what the program waits for that it did not wait for in the past."""
        past = {happening.step.id for happening in self._past}
        steps = [one.step for id, one in self._awaited.items() if id in self._told_before and id not in past]
        return f"{steps[0].what} at step {steps[0].id}" if steps else "a program that does not wait for it"


class _Work:
    """The work of a step."""

    def __init__(self, journal: Journal, step: Step, work: Callable[[], Awaitable[Outcome]]) -> None:
        self.step = step
        self._journal = journal
        self._work = work
        self._told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._is_cancelled = False
        self._doing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._is_cancelled:
            self._journal.note(self.step, Outcome())
        else:
            self._doing = asyncio.create_task(self._do(), context=contextvars.Context())

    def tell(self, outcome: Outcome) -> None:
        self._told.set_result(outcome)

    async def outcome(self) -> Outcome:
        """Wait for how it ends; whoever is cancelled meanwhile cancels the work."""
        while not self._told.done():
            try:
                await asyncio.shield(self._told)
            except asyncio.CancelledError:
                raise_if_evicted()
                self._is_cancelled = True
                if self._doing is not None:
                    self._doing.cancel()
        return self._told.result()

    async def _do(self) -> None:
        try:
            outcome = await self._work()
        except asyncio.CancelledError:
            raise_if_evicted()
            outcome = Outcome()
        except Exception as error:
            outcome = Outcome(error=(type(error).__name__, str(error)), cause=error)
        self._journal.note(self.step, outcome)


async def _breathe() -> None:
    await workflow.execute_local_activity(
        BREATHE_ACTIVITY,
        start_to_close_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
    )
