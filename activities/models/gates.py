"""Gates, one before each model at each address: who may ask it now, shared by all calls of the process.

An outage or a rate limit closes a gate for everybody; then one request at a time tries whether it is over, ever less
often. Where the model's limits are known and matter, its `throttle` says whose turn it is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from activities.border.context import current_call
from activities.errors import ModelUnavailable
from activities.models.throttle import Throttle

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
"""Seconds between two tries whether a model is back; doubled from the first to the longest."""

_SOON_S = 5.0
"""The longest delay where the provider itself says when to come back, and says it wrongly again and again."""

_LONG_TRY_S = 30.0
"""Seconds after which another request may try although the one before it has not come back: answers take their time."""

_FIRST_AFTER_LIMIT = 2
"""Requests at a time when a rate limit has just ended; each answer makes room for one more."""

_MORE_AFTER_S = 5.0
"""Seconds in which there is room for one more, though none is answered."""

_TOLD_APART_S = 60.0
"""Seconds between two notices to one run that calls wait for their turn: they are answered, one after the other."""


@dataclass(frozen=True)
class Notice:
    """What a run is told of a model that its calls wait for.

    Attributes:
        about: The model, with its address where that is set.
        step: The call that waits, for all of the run's.
        text: Since when, why, and when it is tried again; empty when that is over.
    """

    about: str
    step: str
    text: str = ""


Tell = Callable[[Notice], Awaitable[None]]


@dataclass(frozen=True)
class Teller:
    """A call that has told its run what it waits for."""

    gate: Gate
    run_id: str
    step: str

    def forget(self) -> None:
        """Let another call of the run tell it, as this one has ended."""
        self.gate.forget(self.run_id, self.step)


@dataclass(frozen=True)
class Ticket:
    """What a gate knew when a request was let in."""

    period: int
    answers: int


class Gate:
    """The gate before one model at one address.

    Attributes:
        model: The model.
        about: The model, with its address where that is set.
        limited: Whether it was closed, the last time, since too much was asked of the model.
        answers: How many requests were answered.
    """

    def __init__(self, model: str, address: str | None) -> None:
        self.about = f"{model} at {address}" if address else model
        self.model = model
        self._period = 0  # counts its closings and openings
        self._since: datetime | None = None  # when it was closed; None while it is open
        self._reason = ""
        self._failures = 0
        self.limited = False
        self._next_try = 0.0
        self._room: int | None = None
        self._opened = 0.0
        self._inside = 0
        self.answers = 0
        self._throttles: dict[str | None, Throttle] = {}
        self._told: dict[str, tuple[str, Tell, Context]] = {}
        self._told_at: dict[str, float] = {}
        self._messages: set[asyncio.Task[None]] = set()
        self._waiting = 0

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Know, for as long as a block lasts, that a call waits until a request may be sent."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @property
    def is_closed(self) -> bool:
        """Whether the model is not to be had."""
        return self._since is not None

    def admits(self) -> bool:
        """Whether a request may be sent now."""
        if self._since is not None:
            return time.monotonic() >= self._next_try
        if self._room is None:
            return True
        return self._inside < self._room + (time.monotonic() - self._opened) / _MORE_AFTER_S

    def enter(self, failed_at: int | None = None) -> Ticket:
        """Let a request in; it comes out by `answered`, `failed` or `leave`.

        Args:
            failed_at: How many answers there were when the same failed the last time.
        """
        self._inside += 1
        if self._since is not None:  # it tries for all
            self._next_try = time.monotonic() + _LONG_TRY_S
        return Ticket(self._period, self.answers if failed_at is None else failed_at)

    def leave(self, ticket: Ticket) -> None:
        """Let a request out of which nothing came."""
        if ticket.period == self._period:
            self._inside -= 1
            if self._since is not None:
                self._next_try = time.monotonic()

    def answered(self, ticket: Ticket) -> None:
        """Let a request out that was answered: the model is there."""
        self.answers += 1
        if ticket.period == self._period:
            self._inside -= 1
        if self._since is not None:
            logger.warning("%s is there again; it was away %s", self.about, self.in_words())
            self._period += 1
            self._since, self._inside = None, 0
            self._room, self._opened = (_FIRST_AFTER_LIMIT if self.limited else None), time.monotonic()
            self._tell_the_end()
        elif self._room is not None:
            self._room += 1
            if self._room > _MANY:
                self._room = None

    def failed(self, ticket: Ticket, error: ModelUnavailable) -> bool:
        """Let a request out that was not answered, and close; not if others were answered meanwhile.

        Returns:
            Whether it is to wait with all others.
        """
        now = time.monotonic()
        if ticket.period != self._period:  # it was sent before the gate was closed, or opened again
            if error.retry_after is not None and self._since is not None:
                self._next_try = max(self._next_try, now + error.retry_after)
            return True
        self._inside -= 1
        others_are_answered = error.stalled or self.answers > ticket.answers
        if self._since is None and others_are_answered and not error.limited:
            return False
        if self._since is None:
            self._period += 1
            self._since, self._failures, self._inside = datetime.now(UTC), 0, 0
            logger.warning("%s is not to be had, calls wait for it: %s", self.about, error)
        self._failures += 1
        self.limited = error.limited
        self._reason = str(error).partition(". ")[0].removeprefix(f"{self.model} ")
        self._next_try = now + delay(self._failures, error.retry_after)
        return True

    def seconds_to_next_try(self) -> float:
        """Return how long it is until the next request may try."""
        return max(self._next_try - time.monotonic(), 0.0) if self._since is not None else 0.0

    def in_words(self) -> str:
        """Say since when it is closed, and why."""
        return f"since {self._since:%H:%M:%S} UTC ({self._reason})" if self._since else "others are asking it"

    async def tell(self, tell: Tell, text: str = "") -> Teller | None:
        """Tell the run of a call that waits, unless one of its calls has done so that is still under way.

        Args:
            tell: Tells it.
            text: What is waited for; why the gate is closed where there is none.

        Returns:
            Who has told it; None if nobody was told.
        """
        call = current_call()
        if call is None or call.run_id in self._told or not (text or self._since):
            return None
        if text and time.monotonic() < self._told_at.get(call.run_id, -math.inf) + _TOLD_APART_S:
            return None
        now = time.monotonic()
        self._told[call.run_id] = (call.step, tell, copy_context())
        self._told_at = {run: at for run, at in self._told_at.items() if now < at + _TOLD_APART_S} | {call.run_id: now}
        if not text:
            next_try = datetime.now(UTC) + timedelta(seconds=self.seconds_to_next_try())
            text = f"{self.in_words()}; next try at {next_try:%H:%M:%S} UTC, then every {LONGEST_DELAY_S:g} s or sooner"
        await tell(Notice(self.about, call.step, text))
        return Teller(self, call.run_id, call.step)

    def forget(self, run_id: str, step: str) -> None:
        """Let another call of a run tell of the waiting, as this one has ended."""
        if self._told.get(run_id, ("",))[0] == step:
            del self._told[run_id]

    def throttle_of(self, key: str | None) -> Throttle:
        """Return what may be sent with a key; None is that of the environment.

        Raises:
            SettingInvalid: The setting of limits can't be read.
        """
        if key not in self._throttles:
            self._throttles[key] = Throttle(self.model, self._nobody_waits_in_line, lambda: self._waiting > 0)
        return self._throttles[key]

    def _nobody_waits_in_line(self) -> None:
        if self._since is None and self._told:
            self._tell_the_end()

    def _tell_the_end(self) -> None:
        for step, tell, context in self._told.values():
            # In the context of the call that has told its run, as it is that run which is told.
            message = asyncio.get_running_loop().create_task(_told(tell, Notice(self.about, step)), context=context)
            self._messages.add(message)
            message.add_done_callback(self._messages.discard)
        self._told.clear()


async def _told(tell: Tell, notice: Notice) -> None:
    await tell(notice)


_MANY = 1_000
"""Requests at a time from which on a gate counts them no more."""

_gates: dict[tuple[str, str | None], Gate] = {}


def gate_of(name: str, address: str | None) -> Gate:
    """Return the gate before a model at an address; None is its provider's usual one."""
    return _gates.setdefault((name, address), Gate(name, address))


def delay(failures: int, retry_after: float | None) -> float:
    """Return the seconds until the next try.

    Args:
        failures: How many have failed so far.
        retry_after: What the provider asks for, where it does.
    """
    grown = min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 20), LONGEST_DELAY_S)
    if retry_after is None:
        return grown * random.uniform(0.9, 1.0)
    return retry_after if failures == 1 else max(retry_after, min(grown / 2, _SOON_S))
