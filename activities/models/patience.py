"""Waiting for a model that is not to be had now: a matter of time, shared by all calls of the process.

Each model at each address has a gate. An outage or a rate limit closes it for everybody; then one request at a time
tries whether it is over, ever less often. A call waits inside its activity: it heartbeats, uses up neither attempts nor
its time limit, and fails only when its patience is used up.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from activities.border.context import current_call
from activities.errors import AgentError, ModelUnavailable, PatienceExhausted, TurnNotCome
from activities.measures.catalogue import WAITS
from activities.measures.measures import observe
from activities.models import measured, model
from activities.models.gates import Gate, Tell, Teller, delay, gate_of
from activities.models.throttle import Leases, Permit, Throttle

_OWN_FAULTS = 3
"""Failures of one request, while others are answered, after which it is taken for the request's own fault."""

_TOLD_S = 5.0
"""Seconds that a call waits before its run is told."""

_LOOK_S = 0.2, 1.0
"""The shortest and the longest time between two looks at the gate of a call that waits."""


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
    throttle = gate.throttle_of(request.parameters.get("api_key"))
    began, own_faults = time.monotonic(), 0
    failed_at: int | None = None
    while True:
        if not request.waits and not gate.admits():
            raise ModelUnavailable(f"{gate.about} is not to be had: {gate.in_words()}.", outage=True)
        await _turn([gate], patience, began)
        leave = await _leave(request, gate, throttle, patience)
        if not gate.admits():
            leave.give_back()
            continue
        ticket, asked = gate.enter(failed_at), time.monotonic()
        try:
            answer = await measured.complete(request)
        except ModelUnavailable as error:
            leave.not_answered(error)
            if not error.outage:
                gate.answered(ticket)
                raise
            patience.forgive(time.monotonic() - asked)
            is_for_all, failed_at = gate.failed(ticket, error), gate.answers
            if is_for_all and not error.limited:
                throttle.fails()
            if not request.waits:
                raise
            if is_for_all:
                continue
            own_faults += 1
            if own_faults == _OWN_FAULTS:
                raise
            with patience.waiting(request.model, limited=error.limited):
                await asyncio.sleep(min(delay(own_faults, error.retry_after), patience.left))
        except AgentError:
            leave.not_answered()
            gate.answered(ticket)
            raise
        except BaseException:
            leave.not_answered()
            gate.leave(ticket)
            raise
        else:
            leave.answered(answer)
            gate.answered(ticket)
            return answer


@dataclass
class _Leave:
    """Leave to send a request, by a permit where the model's limits matter, and what is to be learnt of it."""

    throttle: Throttle
    permit: Permit | None = None
    prompt_tokens: int = 0

    def give_back(self) -> None:
        """Send nothing."""
        if self.permit is not None:
            self.throttle.leave(self.permit)

    def answered(self, answer: model.Answer) -> None:
        """Count what was used."""
        self.throttle.hears(answer.told)
        if self.permit is None:
            self.throttle.answered()
            return
        self.throttle.settle(
            self.permit, self.prompt_tokens, (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        )

    def not_answered(self, error: ModelUnavailable | None = None) -> None:
        """Count a request, and learn why it was not answered."""
        if error is not None:
            self.throttle.hears(error.told)
            if error.limited:
                self.throttle.refused()
        if self.permit is not None:
            self.throttle.settle(self.permit, self.prompt_tokens, None)


async def _leave(request: model.ModelRequest, gate: Gate, throttle: Throttle, patience: Patience) -> _Leave:
    """Wait until it is the turn of a request, where its model's limits matter.

    Raises:
        TurnNotCome: It was not, for some seconds, and the request is not to wait.
        PatienceExhausted: It was not for as long as the call was to wait.
    """
    if patience.leases is None or not throttle.matters:
        return _Leave(throttle)
    if not throttle.name:
        throttle.name = await model.name_with_key(request)
    call = current_call()
    tokens = model.estimated_tokens(request)
    permit = throttle.ask(call.run_id if call else "", tokens, patience.leases)
    try:
        if not permit.given.done():
            await _until_given(permit, request, gate, throttle, patience)
    except BaseException:
        throttle.leave(permit)
        raise
    return _Leave(throttle, permit, tokens)


async def _until_given(
    permit: Permit, request: model.ModelRequest, gate: Gate, throttle: Throttle, patience: Patience
) -> None:
    with patience.waiting(request.model, limited=True):
        most = patience.left if request.waits else min(patience.left, _TOLD_S)
        done, _ = await asyncio.wait([permit.given], timeout=min(_TOLD_S, most))
        if not done and most > _TOLD_S:
            await patience.tells(gate, throttle.in_words())
            done, _ = await asyncio.wait([permit.given], timeout=most - _TOLD_S)
    if not done and most < patience.left:
        raise TurnNotCome(f"{gate.about} {throttle.in_words()}: the request's turn has not come in {most:g} s.")
    if not done and gate.is_closed:
        raise _exhausted([gate], patience)
    if not done:
        raise PatienceExhausted(
            f"{gate.about} {throttle.in_words()}, and the call's turn has not come. It was to wait "
            f"{patience.seconds:g} s in all. Raise patience, on the agent's class or in @prompt(patience=…), or the "
            "limits at the provider, or use another model."
        )


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
        if isinstance(error, TurnNotCome):  # it has waited
            return
        gates = [gate_of(request.model, request.parameters.get("api_base")) for request in requests]
        if any(gate.admits() for gate in gates):
            self._own_faults += 1
            if self._own_faults == _OWN_FAULTS:
                raise error
            with patience.waiting(requests[0].model, limited=error.limited):
                await asyncio.sleep(min(delay(self._own_faults, error.retry_after), patience.left))
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
    with ExitStack() as block:
        block.enter_context(patience.waiting(gates[0].model, limited=any(gate.limited for gate in gates)))
        for gate in gates:
            block.enter_context(gate.waited_for())
        ends = time.monotonic() + patience.left
        while not any(gate.admits() for gate in gates):
            now = time.monotonic()
            next_try = min(gate.seconds_to_next_try() for gate in gates)
            if now + next_try > ends:
                raise _exhausted(gates, patience)
            if now - began > _TOLD_S:
                await patience.tells(gates[0])
            least, most = _LOOK_S
            await asyncio.sleep(min(max(next_try, least), most) * random.uniform(0.7, 1.0))


def _exhausted(gates: Sequence[Gate], patience: Patience) -> PatienceExhausted:
    away = "; ".join(f"{gate.about} is not to be had: {gate.in_words()}" for gate in gates)
    return PatienceExhausted(
        f"{away}. The call was to wait {patience.seconds:g} s in all. Raise patience, on the agent's class or in "
        "@prompt(patience=…), or use another model."
    )


@dataclass
class Patience:
    """How long a call goes on waiting for models, in all.

    Attributes:
        seconds: How long in all.
        tell: Tells its run.
        leases: Who gives leases of models' limits; None where nobody does.
        left: What is left of it.
        limits: Time limits in which it works; they stand still while it waits.
        told: Of which waiting it has told which run.
    """

    seconds: float
    tell: Tell
    leases: Leases | None = None
    left: float = field(init=False)
    limits: list[_Limit] = field(default_factory=list)
    told: list[Teller] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.seconds

    @contextmanager
    def waiting(self, name: str, *, limited: bool) -> Iterator[None]:
        """Wait, for as long as the block lasts.

        Args:
            name: Of the model.
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
            observe(WAITS, waited, model=name, reason="limit" if limited else "outage")
            for limit in limits:
                limit.go_on()

    async def tells(self, gate: Gate, text: str = "") -> None:
        """Tell the call's run what it waits for, unless it knows."""
        if (teller := await gate.tell(self.tell, text)) is not None:
            self.told.append(teller)

    def forgive(self, seconds: float) -> None:
        """Count the time of a request that was not answered as waiting, too."""
        seconds = max(min(seconds, self.left), 0.0)
        self.left -= seconds
        for limit in _limits.get():
            limit.lengthen(seconds)


_current: ContextVar[Patience | None] = ContextVar("patience", default=None)
_limits: ContextVar[tuple[_Limit, ...]] = ContextVar("limits", default=())


@contextmanager
def with_patience(seconds: float, tell: Tell, leases: Leases | None = None) -> Iterator[None]:
    """Wait for models in a block for a number of seconds in all.

    Args:
        seconds: How long.
        tell: Tells the run what is waited for.
        leases: Who gives leases of models' limits; None where nobody does.
    """
    patience = Patience(seconds, tell, leases)
    token = _current.set(patience)
    try:
        yield
    finally:
        _current.reset(token)
        for teller in patience.told:
            teller.forget()


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
