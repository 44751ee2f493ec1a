"""The ledger: what has happened to a run's program so far, in order, so that the program can continue as new.

A run that continues as new runs its program again from the beginning, and is told what happened before: the outcomes of
its steps and its timers, in the order in which they came, and together where they came together. So the program takes
the same path, up to its last state, whatever of waiting, claiming and racing lies on it. If it takes another path, the
run fails and tells where; it never goes on with what belongs to something else.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gzip
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract import BREATHE_ACTIVITY
from workflows.scope import in_the_program

BREATH_EVERY = 200
"""Happenings that are told in one go: a worker ends a workflow task in which the program computes for two seconds."""


class Step(NamedTuple):
    """A piece of work that the program waits for.

    Attributes:
        id: Its place in the program.
        what: What it is, for people.
        digest: What it depends on, to tell it from other work at the same place.
    """

    id: str
    what: str
    digest: str = ""

    @classmethod
    def of(cls, id: str, what: str, content: bytes) -> Step:
        """Make a step whose work depends on some content."""
        return cls(id, what, blake2b(content, digest_size=6).hexdigest())


@dataclass(frozen=True)
class Outcome:
    """How a step ended: with data, with an error's kind and reason, or cancelled.

    Attributes:
        data: JSON.
        error: Kind and reason.
        cause: What the error came from; it is not written down.
    """

    data: str | None = None
    error: tuple[str, str] | None = None
    cause: BaseException | None = None


class Happening(NamedTuple):
    """Something that the program was waiting for and that happened.

    Attributes:
        turn: Which happenings came together, by an increasing number.
        at: Seconds since the program began.
        step: What happened.
        outcome: How it ended.
    """

    turn: int
    at: float
    step: Step
    outcome: Outcome


class Ledger:
    """Tells a program what happened to it before, and writes down what happens to it now."""

    def __init__(self, began: float, pages: bytes = b"") -> None:
        """Begin a ledger, or go on with one.

        Args:
            began: When the program began, in the workflow's time as seconds since 1970.
            pages: What `page` gave in each of the earlier runs, one after the other.
        """
        self.difference: str | None = None
        self._began = began
        self._past = deque(_read(pages))
        self._known = {happening.step.id for happening in self._past}
        self._asked: dict[str, tuple[Step, asyncio.Future[Outcome]]] = {}
        self._beyond: list[Step] = []
        self._told = asyncio.get_running_loop().create_future()
        self._written: list[Happening] = []
        self._turn = self._past[-1].turn if self._past else 0
        self._at_event = -1
        self._timers = 0
        self._unset_timers: dict[str, _Timer] = {}
        self._now = 0.0
        if not self._past:
            self._told.set_result(None)

    @property
    def is_telling(self) -> bool:
        """Whether the program has yet to come to where it was."""
        return not self._told.done()

    @property
    def has_news(self) -> bool:
        """Whether something happened that is on no page yet."""
        return bool(self._written)

    async def step(self, step: Step, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Return the outcome that the step had before, when its turn comes; or do its work, and write it down."""
        if step.id in self._known:
            return await self._recollected(step)
        if self.is_telling:
            self._beyond.append(step)
            await asyncio.shield(self._told)
        outcome = await work()
        self._write(step, outcome)
        return outcome

    async def tell(self) -> None:
        """Tell the program what happened before: each time that it waits, what came next."""
        if not self.is_telling:
            return
        turns = 0
        while self._past:
            await _until_all_wait()
            turns += 1
            if turns % BREATH_EVERY == 0:
                await _breathe()
            turn, self._now = self._past[0].turn, self._past[0].at
            while self._past and self._past[0].turn == turn:
                if not self._happens(self._past[0]):
                    return
                self._past.popleft()
        await _until_all_wait()
        self._told.set_result(None)
        gone = workflow.now().timestamp() - self._began
        for timer in self._unset_timers.values():
            timer.set(max(0.0, timer.due - gone))
        self._unset_timers.clear()

    def ended(self) -> None:
        """Note that the program has ended: a difference if it was not told everything."""
        if self._past and self.difference is None:
            self._differs(self._past[0].step, "the program ended before that")

    def page(self) -> bytes:
        """Return what was written since this run began."""
        lines = [
            json.dumps([h.turn, round(h.at, 3), *h.step, h.outcome.data, h.outcome.error], separators=(",", ":"))
            for h in self._written
        ]
        return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)

    def keep_timers(self) -> None:
        """Make what the program sleeps, and its timeouts, happenings like others."""
        loop: Any = asyncio.get_running_loop()
        set_timer = loop._timer_impl  # through which all of them go, asyncio's and the SDK's

        def timer(delay: float, options: Any, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
            if not in_the_program():
                return set_timer(delay, options, callback, *args, context=context)
            self._timers += 1
            made = _Timer(self, f"timer {self._timers}", callback, args, loop, context)
            made.set_real = lambda delay: set_timer(delay, options, made.ring, context=context)
            if self.is_telling:
                made.due = self._now + delay
                self._unset_timers[made.id] = made
            else:
                made.set(delay)
            return made

        loop._timer_impl = timer

    def rang(self, timer: _Timer) -> None:
        """Note that a timer of the program rang."""
        self._write(Step(timer.id, "a timer"), Outcome(""))

    def unset(self, timer: _Timer) -> None:
        """Note that a timer of the program was cancelled."""
        self._unset_timers.pop(timer.id, None)

    async def _recollected(self, step: Step) -> Outcome:
        told = asyncio.get_running_loop().create_future()
        self._asked[step.id] = (step, told)
        try:
            await asyncio.wait([told])
        except asyncio.CancelledError:
            # Who is cancelled meanwhile waits nevertheless for how the step ended, as it did for the activity.
            while not told.done():
                with suppress(asyncio.CancelledError):
                    await workflow.wait_condition(told.done)  # unlike a future's wait it ends when the run is evicted
        outcome: Outcome = told.result()
        return outcome

    def _happens(self, happening: Happening) -> bool:
        """Let something happen again; return whether the program waits for it."""
        expected = happening.step
        if timer := self._unset_timers.pop(expected.id, None):
            timer.happen()
            return True
        found, told = self._asked.pop(expected.id, (None, None))
        if found == expected and told is not None:
            self._known.discard(expected.id)
            told.set_result(happening.outcome)
            return True
        if found is not None:
            other = " with other arguments" if found.what == expected.what else ""
            self._differs(expected, f"{found.what}{other}")
        elif self._beyond:
            self._differs(expected, f"{self._beyond[0].what} at step {self._beyond[0].id}")
        else:
            self._differs(expected, "the program does not ask for it")
        return False

    def _differs(self, expected: Step, found: str) -> None:
        self.difference = (
            f"the program takes another path than before it continued as new. Step {expected.id}: expected "
            f"{expected.what}, found {found}. Was it changed, or does it depend on the clock or on chance? "
            "Serve the version that it was started with, or start it anew."
        )

    def _write(self, step: Step, outcome: Outcome) -> None:
        event = workflow.info().get_current_history_length()
        if event != self._at_event:
            self._at_event = event
            self._turn += 1
        self._written.append(Happening(self._turn, workflow.now().timestamp() - self._began, step, outcome))


class _Timer(asyncio.Handle):
    """A timer of the program: one that the server keeps, or one that is told of."""

    set_real: Callable[[float], asyncio.TimerHandle]

    def __init__(
        self, ledger: Ledger, id: str, callback: Callable[..., Any], args: Any, loop: Any, context: Any
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.id = id
        self.due = 0.0
        self._ledger = ledger
        self._ring = functools.partial(callback, *args)
        self._happen = functools.partial(loop.call_soon, callback, *args, context=context or contextvars.copy_context())
        self._real: asyncio.TimerHandle | None = None

    def set(self, delay: float) -> None:
        """Have the server keep it."""
        self._real = self.set_real(delay)

    def ring(self) -> None:
        """Do what it is for, and write it down."""
        self._ledger.rang(self)
        self._ring()

    def happen(self) -> None:
        """Do what it is for, as it did before."""
        self._happen()

    def cancel(self) -> None:
        """Never ring."""
        super().cancel()
        self._ledger.unset(self)
        if self._real is not None:
            self._real.cancel()


async def _until_all_wait() -> None:
    # The loop looks at conditions when nothing else is left to do.
    await workflow.wait_condition(lambda: True)


async def _breathe() -> None:
    await workflow.execute_local_activity(
        BREATHE_ACTIVITY,
        start_to_close_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
    )


def _read(pages: bytes) -> Iterator[Happening]:
    if pages:
        for line in gzip.decompress(pages).splitlines():
            turn, at, id, what, digest, data, error = json.loads(line)
            yield Happening(turn, at, Step(id, what, digest), Outcome(data, tuple(error) if error else None))
