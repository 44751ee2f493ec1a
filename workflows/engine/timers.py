"""The timers of a run's program, which are steps of its journal: what it sleeps, and its timeouts.

So a run that has continued as new sleeps only what was left, and what was cut short is cut short at the same place.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from workflows.engine.happenings import Outcome, Step
from workflows.engine.journal import Journal
from workflows.engine.sdk import StartTimer, take_timers
from workflows.tree.current import in_the_program


def keep_timers(journal: Journal) -> None:
    """Have the timers of the program that is executing kept by its journal; the harness's own are left as they are."""
    numbers = itertools.count(1)

    def take(delay: float, ring: Callable[[], object], start: StartTimer) -> _Timer | None:
        if not in_the_program():
            return None
        timer = _Timer(journal, Step(f"timer {next(numbers)}", "a timer"), delay, ring, start)
        journal.wait_for(timer)
        return timer

    take_timers(take)


class _Timer(asyncio.Handle):
    """A timer: its end is told by the journal, and it is started on the server only if that was not in the past."""

    def __init__(
        self, journal: Journal, step: Step, delay: float, ring: Callable[[], object], start: StartTimer
    ) -> None:
        super().__init__(ring, (), asyncio.get_running_loop())
        self.step = step
        self._journal = journal
        self._set_at = journal.now
        self._delay = delay
        self._ring = ring
        self._start = start
        self._started: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        delay = max(0.0, self._delay - (self._journal.now - self._set_at))
        self._started = self._start(delay, lambda: self._journal.note(self.step, Outcome("")))

    def tell(self, outcome: Outcome) -> None:
        self._ring()

    def cancel(self) -> None:
        super().cancel()
        self._journal.forget(self)
        if self._started is not None:
            self._started.cancel()
