"""Waiting for a model that is not to be had now: a matter of time, shared by all calls of the process.

Each model at each address has a gate. An outage or a rate limit closes it for everybody; then one request at a time
tries whether it is over, ever less often. A call waits inside its activity: it heartbeats, uses up neither attempts nor
its time limit, and fails only when its patience is used up.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from activities.border.context import current_call
from activities.errors import AgentError, ModelUnavailable, PatienceExhausted
from activities.measures.catalogue import WAITS
from activities.measures.measures import observe
from activities.models import measured, model

logger = logging.getLogger(__name__)

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
"""Seconds between two tries whether a model is back; doubled from the first to the longest."""

_SOON_S = 5.0
"""The longest delay where the provider itself says when to come back, and says it wrongly again and again."""

_LONG_TRY_S = 30.0
"""Seconds after which another request may try although the one before it has not come back: answers take their time."""

_TOLD_S = 5.0
"""Seconds that a call waits before its run is told."""

_OWN_FAULTS = 3
"""Failures of one request, while others are answered, after which it is taken for the request's own fault."""

_FIRST_AFTER_LIMIT = 2
"""Requests at a time when a rate limit has just ended; each answer makes room for one more."""

_MORE_AFTER_S = 5.0
"""Seconds in which there is room for one more, though none is answered."""

_LOOK_S = 0.2, 1.0
"""The shortest and the longest time between two looks at the gate of a call that waits."""


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


async def complete(request: model.ModelRequest) -> model.Answer:
    """Ask a model as `model.complete` does, and again for as long as it is not to be had, with the call's patience.

    Outside of a run nobody waits: an error is raised at once.

    Raises:
        PatienceExhausted: It was not to be had for as long as the call was to wait.
        ModelUnavailable: It gave an answer that can't be read, or answers others but not this.
        ModelRefused: See `model.complete`.
    """
    patience = _current.get()
    if patience is None:
        return await measured.complete(request)
    gate = gate_of(request.model, request.parameters.get("api_base"))
    began, own_faults = time.monotonic(), 0
    while True:
        if not request.waits and not gate.admits():
            raise ModelUnavailable(f"{gate.about} is not to be had: {gate.in_words()}.", outage=True)
        await _turn([gate], patience, began)
        ticket, asked = gate.enter(), time.monotonic()
        try:
            answer = await measured.complete(request)
        except ModelUnavailable as error:
            if not error.outage:
                gate.answered(ticket)
                raise
            patience.forgive(time.monotonic() - asked)
            is_for_all = gate.failed(ticket, error)
            if not request.waits:
                raise
            if is_for_all:
                continue
            own_faults += 1
            if own_faults == _OWN_FAULTS:
                raise
            with patience.waiting(limited=error.limited):
                await asyncio.sleep(min(_delay(own_faults, error.retry_after), patience.left))
        except AgentError:
            gate.answered(ticket)
            raise
        except BaseException:
            gate.leave(ticket)
            raise
        else:
            gate.answered(ticket)
            return answer


class Waiting:
    """The waiting of one request for whichever of several models is there again first."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._own_faults = 0

    async def until_one_admits(self, requests: Sequence[model.ModelRequest], error: ModelUnavailable) -> None:
        """Wait until a request to one of the models may be sent.

        Args:
            requests: To each of them.
            error: Why the first has not answered; raised where nobody waits, and where others are answered.

        Raises:
            PatienceExhausted: None was to be had for as long as the call was to wait.
        """
        patience = _current.get()
        if patience is None:
            raise error
        gates = [gate_of(request.model, request.parameters.get("api_base")) for request in requests]
        if any(gate.admits() for gate in gates):
            self._own_faults += 1
            if self._own_faults == _OWN_FAULTS:
                raise error
            with patience.waiting(limited=error.limited):
                await asyncio.sleep(min(_delay(self._own_faults, error.retry_after), patience.left))
        await _turn(gates, patience, self._began)


async def _turn(gates: Sequence[Gate], patience: Patience, began: float) -> None:
    """Wait until a request may be sent.

    Args:
        gates: Those before the models of which one is to answer.
        patience: The call's.
        began: Since when it has wanted to be answered.
    """
    if any(gate.admits() for gate in gates):
        return
    with patience.waiting(limited=any(gate.limited for gate in gates)):
        ends = time.monotonic() + patience.left
        while not any(gate.admits() for gate in gates):
            now = time.monotonic()
            next_try = min(gate.seconds_to_next_try() for gate in gates)
            if now + next_try > ends:
                away = "; ".join(f"{gate.about} is not to be had: {gate.in_words()}" for gate in gates)
                raise PatienceExhausted(
                    f"{away}. The call was to wait {patience.seconds:g} s in all. Raise patience, on the agent's class "
                    "or in @prompt(patience=…), or use another model."
                )
            if now - began > _TOLD_S:
                await gates[0].tell(patience)
            least, most = _LOOK_S
            await asyncio.sleep(min(max(next_try, least), most) * random.uniform(0.7, 1.0))


@dataclass(frozen=True)
class _Ticket:
    """What a gate knew when a request was let in."""

    period: int
    answers: int


class Gate:
    """The gate before one model at one address.

    Attributes:
        about: The model, with its address where that is set.
        limited: Whether it was closed, the last time, since too much was asked of the model.
    """

    def __init__(self, model: str, address: str | None) -> None:
        self.about = f"{model} at {address}" if address else model
        self._model = model
        self._period = 0  # counts its closings and openings
        self._since: datetime | None = None  # when it was closed; None while it is open
        self._reason = ""
        self._failures = 0
        self.limited = False
        self._next_try = 0.0
        self._room: int | None = None
        self._opened = 0.0
        self._inside = 0
        self._answers = 0
        self._told: dict[str, tuple[str, Tell]] = {}
        self._messages: set[asyncio.Task[None]] = set()

    def admits(self) -> bool:
        """Whether a request may be sent now."""
        if self._since is not None:
            return time.monotonic() >= self._next_try
        if self._room is None:
            return True
        return self._inside < self._room + (time.monotonic() - self._opened) / _MORE_AFTER_S

    def enter(self) -> _Ticket:
        """Let a request in; it comes out by `answered`, `failed` or `leave`."""
        self._inside += 1
        if self._since is not None:  # it tries for all
            self._next_try = time.monotonic() + _LONG_TRY_S
        return _Ticket(self._period, self._answers)

    def leave(self, ticket: _Ticket) -> None:
        """Let a request out of which nothing came."""
        if ticket.period == self._period:
            self._inside -= 1
            if self._since is not None:
                self._next_try = time.monotonic()

    def answered(self, ticket: _Ticket) -> None:
        """Let a request out that was answered: the model is there."""
        self._answers += 1
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

    def failed(self, ticket: _Ticket, error: ModelUnavailable) -> bool:
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
        others_are_answered = error.stalled or self._answers > ticket.answers
        if self._since is None and others_are_answered and not error.limited:
            return False
        if self._since is None:
            self._period += 1
            self._since, self._failures, self._inside = datetime.now(UTC), 0, 0
            logger.warning("%s is not to be had, calls wait for it: %s", self.about, error)
        self._failures += 1
        self.limited = error.limited
        self._reason = str(error).partition(". ")[0].removeprefix(f"{self._model} ")
        self._next_try = now + _delay(self._failures, error.retry_after)
        return True

    def seconds_to_next_try(self) -> float:
        """Return how long it is until the next request may try."""
        return max(self._next_try - time.monotonic(), 0.0) if self._since is not None else 0.0

    def in_words(self) -> str:
        """Say since when it is closed, and why."""
        return f"since {self._since:%H:%M:%S} UTC ({self._reason})" if self._since else "others are asking it"

    async def tell(self, patience: Patience) -> None:
        """Tell the run of a call that waits, unless one of its calls has done so that is still under way."""
        call = current_call()
        if call is None or call.run_id in self._told or self._since is None:
            return
        self._told[call.run_id] = (call.step, patience.tell)
        patience.told.append((self, call.run_id, call.step))
        next_try = datetime.now(UTC) + timedelta(seconds=self.seconds_to_next_try())
        text = f"{self.in_words()}; next try at {next_try:%H:%M:%S} UTC, then every {LONGEST_DELAY_S:g} s or sooner"
        await patience.tell(Notice(self.about, call.step, text))

    def forget(self, run_id: str, step: str) -> None:
        """Let another call of a run tell of the waiting, as this one has ended."""
        if self._told.get(run_id, ("",))[0] == step:
            del self._told[run_id]

    def _tell_the_end(self) -> None:
        for step, tell in self._told.values():
            message = asyncio.ensure_future(tell(Notice(self.about, step)))
            self._messages.add(message)
            message.add_done_callback(self._messages.discard)
        self._told.clear()


_MANY = 1_000
"""Requests at a time from which on a gate counts them no more."""

_gates: dict[tuple[str, str | None], Gate] = {}


def gate_of(name: str, address: str | None) -> Gate:
    """Return the gate before a model at an address; None is its provider's usual one."""
    return _gates.setdefault((name, address), Gate(name, address))


def _delay(failures: int, retry_after: float | None) -> float:
    grown = min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 20), LONGEST_DELAY_S)
    if retry_after is None:
        return grown * random.uniform(0.5, 1.0)
    return retry_after if failures == 1 else max(retry_after, min(grown / 2, _SOON_S))


@dataclass
class Patience:
    """How long a call goes on waiting for models, in all.

    Attributes:
        seconds: How long in all.
        tell: Tells its run.
        left: What is left of it.
        limits: Time limits in which it works; they stand still while it waits.
        told: Of which waiting it has told which run.
    """

    seconds: float
    tell: Tell
    left: float = field(init=False)
    limits: list[_Limit] = field(default_factory=list)
    told: list[tuple[Gate, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.seconds

    @contextmanager
    def waiting(self, *, limited: bool) -> Iterator[None]:
        """Wait, for as long as the block lasts.

        Args:
            limited: Whether it is since too much was asked of a model; else it is away.
        """
        began = time.monotonic()
        limits = list(_limits.get())
        for limit in limits:
            limit.stand_still()
        try:
            yield
        finally:
            waited = time.monotonic() - began
            self.left -= waited
            observe(WAITS, waited, reason="limit" if limited else "outage")
            for limit in limits:
                limit.go_on()

    def forgive(self, seconds: float) -> None:
        """Count the time of a request that was not answered as waiting, too."""
        seconds = max(min(seconds, self.left), 0.0)
        self.left -= seconds
        for limit in _limits.get():
            limit.lengthen(seconds)


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)
_limits: ContextVar[tuple[_Limit, ...]] = ContextVar("limits", default=())


@contextmanager
def with_patience(seconds: float, tell: Tell) -> Iterator[None]:
    """Wait for models in a block for a number of seconds in all.

    Args:
        seconds: How long.
        tell: Tells the run what is waited for.
    """
    patience = Patience(seconds, tell)
    token = _current.set(patience)
    try:
        yield
    finally:
        _current.reset(token)
        for gate, run_id, step in patience.told:
            gate.forget(run_id, step)


class _Limit:
    """A time limit that stands still while somebody inside waits for a model."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self._waiting = 0
        self._left = 0.0

    def stand_still(self) -> None:
        self._waiting += 1
        when = self._limit.when()
        if self._waiting == 1 and when is not None:
            self._left = when - asyncio.get_running_loop().time()
            self._set(None)

    def go_on(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self._set(asyncio.get_running_loop().time() + self._left)

    def lengthen(self, seconds: float) -> None:
        when = self._limit.when()
        if self._waiting:
            self._left += seconds
        elif when is not None:
            self._set(when + seconds)

    def _set(self, when: float | None) -> None:
        with suppress(RuntimeError):  # it is over
            self._limit.reschedule(when)


@contextmanager
def without_waiting(limit: asyncio.Timeout) -> Iterator[None]:
    """Let a time limit, which has begun, count only the time in which no model is waited for."""
    token = _limits.set((*_limits.get(), _Limit(limit)))
    try:
        yield
    finally:
        _limits.reset(token)
