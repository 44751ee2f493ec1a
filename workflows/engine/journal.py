"""The journal: what has happened to a run's program so far, in order, so that the program can continue as new.

A run that continues as new runs its program again from the beginning, and tells it what happened before: the outcomes
of its steps and its timers, in the order in which they came. So the program takes the same path up to where it was,
whatever of waiting, claiming and racing lies on it. If it takes another path, the run waits for the program that it was
and tells where; it never goes on with what belongs to something else.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract.names import BREATHE_ACTIVITY
from workflows.engine.packing import pack, unpack
from workflows.engine.sdk import StartTimer, raise_if_evicted, take_timers, until_all_wait
from workflows.tree.current import in_the_program

BREATH_EVERY = 200
"""Happenings that are told in one go: a worker ends a workflow task in which the program computes for two seconds."""


class Step(NamedTuple):
    """A piece of work that the program waits for.

    Attributes:
        id: Its place in the program.
        what: What it is, for people.
        digest: What is asked, to tell it from other work at the same place.
    """

    id: str
    what: str
    digest: str = ""

    def is_as(self, other: Step) -> bool:
        """Whether it is the same work at the same place."""
        return (self.id, self.digest) == (other.id, other.digest)


@dataclass(frozen=True)
class Outcome:
    """How a step ended: with data, with an error's kind and reason, or cancelled.

    Attributes:
        data: JSON.
        error: Kind and reason.
        cause: What the error came from; it is not written down.
        past: Whether it was so in an earlier run, and is accounted for.
    """

    data: str | None = None
    error: tuple[str, str] | None = None
    cause: BaseException | None = None
    past: bool = False


class Happening(NamedTuple):
    """Something that the program was waiting for and that happened.

    Attributes:
        at: Seconds since the program began.
        step: What happened.
        outcome: How it ended.
    """

    at: float
    step: Step
    outcome: Outcome


class Journal:
    """Tells a program what happens: first what happened to it in earlier runs, then what happens now.

    Both are told in the same way, one thing at a time, each as soon as the program can do nothing but wait.
    """

    def __init__(self, began: float, pages: bytes = b"") -> None:
        """Begin a journal, or go on with one.

        Args:
            began: When the program began, in the workflow's time as seconds since 1970.
            pages: What `page` gave in each of the earlier runs, one after the other.
        """
        self.difference: str | None = None
        self._began = began
        self._given = pages
        self._told = 0
        self._made: dict[str, int] = {}
        """How much was told when each step was begun."""
        self._past = deque(read_pages(pages))
        self._past_ids = {happening.step.id for happening in self._past}
        self._present: deque[tuple[Step, Outcome]] = deque()
        self._written: list[Happening] = []
        self._waiting: dict[str, tuple[Step, asyncio.Future[Outcome]]] = {}
        self._beyond: list[Step] = []
        self._past_told = asyncio.get_running_loop().create_future()
        if not self._past:
            self._past_told.set_result(None)
        self._timers: dict[str, _Timer] = {}
        self._timers_made = 0
        self._now = 0.0

    @property
    def is_telling_the_past(self) -> bool:
        """Whether the program has yet to come to where it was."""
        return not self._past_told.done()

    @property
    def has_news(self) -> bool:
        """Whether something was told that is on no page yet, and nothing is left to be told."""
        return bool(self._written) and not self._present and not self.is_telling_the_past

    async def step(self, step: Step, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Return the outcome that the step had before, or do its work.

        Who is cancelled meanwhile waits nevertheless for how the step ends, be it that it was cancelled.
        """
        self._made.setdefault(step.id, self._told)
        doing = None
        if step.id not in self._past_ids:
            doing = asyncio.create_task(self._do(step, work), context=contextvars.Context())
        while True:
            told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            self._waiting[step.id] = (step, told)
            try:
                return await told
            except asyncio.CancelledError:
                if told.done() and not told.cancelled():
                    return told.result()
                raise_if_evicted()  # else it can't be waited for how the step ends
                if doing:
                    doing.cancel()

    async def tell(self) -> None:
        """Tell the program what happens, until it takes another path than before."""
        told = 0
        while self.difference is None:
            await until_all_wait(self._has_something_to_tell)
            if self._past:
                told += 1
                if told % BREATH_EVERY == 0:
                    await _breathe()
                self._tell_past(self._past[0])
            elif self.is_telling_the_past:
                self._end_past()
            else:
                self._tell_present(*self._present.popleft())

    def ended(self) -> None:
        """Note that the program has ended: a difference if it was not told everything."""
        if self._past and self.difference is None:
            self._differs(self._past[0].step, "the program ended before that")

    def page(self) -> bytes:
        """Return what was told since this run began."""
        return write_page(self._written)

    def before(self, step_id: str) -> list[Happening] | None:
        """Return what the program had been told when it began a step, or the first inside of one; None if none was."""
        told = [told for id, told in self._made.items() if id == step_id or id.startswith(f"{step_id}.")]
        return [*read_pages(self._given), *self._written][: min(told)] if told else None

    def keep_timers(self) -> None:
        """Make what the program sleeps, and its timeouts, happenings like others."""
        take_timers(self._take_timer)

    def _take_timer(self, delay: float, ring: Callable[[], object], start: StartTimer) -> _Timer | None:
        if not in_the_program():
            return None
        self._timers_made += 1
        made = _Timer(f"timer {self._timers_made}", self._now + delay, ring)
        made.forget = functools.partial(self._timers.pop, made.id, None)
        rings = functools.partial(self._present.append, (Step(made.id, "a timer"), Outcome("")))
        made.set = lambda delay: start(delay, rings)
        self._timers[made.id] = made
        if not self.is_telling_the_past:
            made.start(delay)
        return made

    async def _do(self, step: Step, work: Callable[[], Awaitable[Outcome]]) -> None:
        if self.is_telling_the_past:
            self._beyond.append(step)
            await asyncio.shield(self._past_told)
        try:
            outcome = await work()
        except asyncio.CancelledError:
            raise_if_evicted()
            outcome = Outcome()
        except Exception as error:
            outcome = Outcome(error=(type(error).__name__, str(error)), cause=error)
        self._present.append((step, outcome))

    def _has_something_to_tell(self) -> bool:
        return bool(self._past or self._present) or self.is_telling_the_past

    def _tell_present(self, step: Step, outcome: Outcome) -> None:
        if self._let_happen(step, outcome):
            self._written.append(Happening(workflow.now().timestamp() - self._began, step, outcome))

    def _tell_past(self, happening: Happening) -> None:
        self._now = happening.at
        expected = happening.step
        found = self._waiting.get(expected.id, (expected,))[0]
        if not found.is_as(expected):
            self._differs(expected, found.what + (" with other arguments" if found.what == expected.what else ""))
        elif self._let_happen(expected, happening.outcome):
            self._past.popleft()
        elif self._beyond:
            self._differs(expected, f"{self._beyond[0].what} at step {self._beyond[0].id}")
        else:
            self._differs(expected, "a program that does not wait for it")

    def _let_happen(self, step: Step, outcome: Outcome) -> bool:
        """Let something happen to the program; return whether it waits for that."""
        if timer := self._timers.pop(step.id, None):
            timer.happen()
            self._told += 1
            return True
        if step.id not in self._waiting:
            return False
        _, told = self._waiting.pop(step.id)
        told.set_result(outcome)
        self._told += 1
        return True

    def _end_past(self) -> None:
        self._past_told.set_result(None)
        self._past_ids.clear()
        self._now = workflow.now().timestamp() - self._began
        for timer in list(self._timers.values()):
            timer.start(max(0.0, timer.due - self._now))

    def _differs(self, expected: Step, found: str) -> None:
        self.difference = f"step {expected.id} expected {expected.what}, found {found}"


class _Timer(asyncio.Handle):
    """A timer of the program: one that the server keeps, or one that is told of."""

    set: Callable[[float], asyncio.TimerHandle]
    forget: Callable[[], object]

    def __init__(self, id: str, due: float, ring: Callable[[], object]) -> None:
        super().__init__(ring, (), asyncio.get_running_loop())
        self.id = id
        self.due = due
        self.happen = ring
        self._real: asyncio.TimerHandle | None = None

    def start(self, delay: float) -> None:
        """Have the server keep it."""
        self._real = self.set(delay)

    def cancel(self) -> None:
        """Never happen."""
        super().cancel()
        self.forget()
        if self._real is not None:
            self._real.cancel()


async def _breathe() -> None:
    await workflow.execute_local_activity(
        BREATHE_ACTIVITY,
        start_to_close_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
    )


def write_page(happenings: Iterable[Happening]) -> bytes:
    """Write down what happened."""
    return pack([round(h.at, 3), *h.step, h.outcome.data, h.outcome.error] for h in happenings)


def read_pages(pages: bytes) -> Iterator[Happening]:
    """Read what was written, page after page."""
    for at, id, what, digest, data, error in unpack(pages):
        yield Happening(at, Step(id, what, digest), Outcome(data, tuple(error) if error else None, past=True))
