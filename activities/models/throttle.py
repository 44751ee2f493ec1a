"""What this process may send to a model with a key: nothing holds it up until limits are known and matter.

Then it takes leases, which a limiter divides among all processes that ask with the key, and sends evenly what they
allow, fair between runs. Without the limiter it goes on with less than it had last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Literal, Protocol

from activities.contract.leases import MOST_RUNS, Demand, Lease, NoLease, Rates, Report
from activities.models.rates import are_off, limits_set_for, told_by
from activities.models.turns import Bucket, Turns

logger = logging.getLogger(__name__)

PROCESS = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
"""What this process is called where leases are given."""

SCARCE_S = 60.0
"""Seconds for which limits matter after a response has told that less than half is left."""

REFUSED_S = 300.0
REFUSED_APART_S = 10.0
_MANY_REFUSED = 10
"""Seconds for which they matter, though none are told, after one was refused so long after the first."""

SOONEST_S = 1.0
"""Seconds between two reports at least."""

_IDLE_REPORTS = 3
"""Reports in a row with nothing to tell, after which no more are made."""

_WITHOUT = 0.5
"""Part of the last lease by which a process goes on when it has ended and the limiter does not answer."""

_FIRST_WITHOUT = 0.1
"""Part of the limits by which it does so if it has never had one: nobody knows how many others there are."""

_AVERAGED = 0.1
"""How much the last answer counts in the average."""


class Leases(Protocol):
    """Who gives leases."""

    async def lease(self, name: str, report: Report) -> Lease:
        """Report what is wanted of a model and a key, and get a lease.

        Raises:
            NoLease: Nobody answers.
        """


@dataclass(eq=False)
class Permit:
    """Leave to send one request, or the waiting for it."""

    run: str
    tokens: float
    given: asyncio.Future[None]
    number: int = 0


@dataclass
class _Sent:
    requests: float = 0
    tokens: float = 0


class Throttle:
    """What this process may send to one model with one key.

    Attributes:
        name: The model and a digest of the key; empty until somebody says it.
    """

    def __init__(
        self,
        model: str,
        when_nobody_waits: Callable[[], None] = lambda: None,
        is_waited_for: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin without anything known but what is set.

        Args:
            model: Whose limits they are.
            when_nobody_waits: Called when nobody waits any more.
            is_waited_for: Says whether calls wait for the model while it is away.

        Raises:
            SettingInvalid: The setting of limits can't be read.
        """
        self.name = ""
        self._set, self._off = limits_set_for(model), are_off()
        self._told = self._remaining = Rates()
        self._matter_until = math.inf if self._set else 0.0
        self._refusals: deque[float] = deque(maxlen=100)
        self._answers: deque[float] = deque(maxlen=2_000)
        self._when_nobody_waits = when_nobody_waits
        self._is_waited_for = is_waited_for
        self._turns: Turns[Permit] = Turns()
        self._requests, self._tokens = Bucket(1.0), Bucket(1.0)
        self._lease: Lease | None = None
        self._ends = 0.0
        self._sent: dict[str, _Sent] = {}
        self._refused = 0
        self._outage: Literal["", "away", "there"] = ""
        self._is_away = False
        self._is_to_hear = False
        """Whether it has to hear first which process tries when the provider is back."""
        self._completion, self._of_estimate = 200.0, 1.0
        self._keeping: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def matters(self) -> bool:
        """Whether requests have to wait for their turn."""
        is_away = self._is_away or (self._lease is not None and self._lease.away)
        return (is_away or time.monotonic() < self._matter_until) and not self._off

    @property
    def limits(self) -> Rates:
        """What is set, and else what the provider tells."""
        return self._set | self._told

    def hears(self, headers: Mapping[str, str]) -> None:
        """Learn from what a provider tells with a response."""
        if not headers or (told := told_by(headers)) is None:
            return
        self._told, self._remaining = told.limits | self._told, told.remaining
        if told.is_scarce:
            self._matters_for(SCARCE_S)
        if told.remaining.requests == 0:
            self._requests.empty()
        if told.remaining.tokens == 0:
            self._tokens.empty()

    def answered(self) -> None:
        """Count a request that was answered."""
        self._answers.append(time.monotonic())
        self._outage = "there"
        if self._is_away:
            self._is_away = self._is_to_hear = False
            self._wanted.set()
            self._give()

    def refused(self) -> None:
        """Learn that a request was refused since too much was asked."""
        now = time.monotonic()
        self._refused += 1
        self._refusals.append(now)
        if self.limits or self._are_refused_again_and_again(now):
            self._matters_for(REFUSED_S)

    def _are_refused_again_and_again(self, now: float) -> bool:
        lately = [at for at in self._refusals if at > now - 60]
        answered = sum(at > now - 60 for at in self._answers)
        return len(lately) >= _MANY_REFUSED * (1 + answered / 50) and lately[-1] - lately[0] >= REFUSED_APART_S

    def fails(self) -> None:
        """Learn that the provider is away: nothing is sent before it is known which process tries when it is back."""
        self._outage, self._is_away = "away", True
        self._wanted.set()
        self._is_to_hear = self._keeping is not None and not self._keeping.done()

    def ask(self, run: str, prompt_tokens: float, leases: Leases) -> Permit:
        """Ask for leave to send a request; it is given by the future that is in what is returned.

        Args:
            run: Whose request it is.
            prompt_tokens: How long it is, about.
            leases: Who gives leases.
        """
        tokens = prompt_tokens * self._of_estimate + self._completion
        permit = Permit(run, tokens, asyncio.get_running_loop().create_future())
        permit.number = self._turns.join(run, permit)
        if self._keeping is None or self._keeping.done():
            # Not in the context of a call, which ends before this does.
            self._keeping = asyncio.get_running_loop().create_task(self._keep_a_lease(leases), context=Context())
        self._give()
        if not permit.given.done() and self._lease is not None and not self._lease.all_taken:
            self._wanted.set()
        return permit

    def leave(self, permit: Permit) -> None:
        """Give back a permit, or leave the line for it."""
        if permit.given.done() and not permit.given.cancelled():
            self._take(permit, -1, -permit.tokens)
        else:
            self._turns.leave(permit.run, permit.number)
            permit.given.cancel()
        self._give()

    def settle(self, permit: Permit, prompt_tokens: float, used: tuple[int, int] | None) -> None:
        """Count what a request has really used.

        Args:
            permit: Its permit.
            prompt_tokens: How long it seemed to be.
            used: The tokens of prompt and completion; None if it was not answered.
        """
        if used is None:
            self._take(permit, 0, -permit.tokens)
            return
        prompt, completion = used
        self._take(permit, 0, prompt + completion - permit.tokens)
        self._completion += _AVERAGED * (completion - self._completion)
        self._of_estimate += _AVERAGED * (min(max(prompt / max(prompt_tokens, 1), 0.1), 10.0) - self._of_estimate)
        self.answered()

    def in_words(self) -> str:
        """Say what is waited for."""
        if self._lease is not None and self._lease.away:
            return "is not to be had, another process tries when it is back"
        limits = self.limits
        told = [
            f"{limits.requests:,.0f} requests" if limits.requests else "",
            f"{limits.tokens:,.0f} tokens" if limits.tokens else "",
        ]
        what = " and ".join(filter(None, told))
        return f"takes {what} a minute, of all who ask it" if what else "takes no more requests at present"

    def _matters_for(self, seconds: float) -> None:
        self._matter_until = max(self._matter_until, time.monotonic() + seconds)

    def _take(self, permit: Permit, requests: float, tokens: float) -> None:
        self._requests.take(requests)
        self._tokens.take(tokens)
        sent = self._sent.setdefault(permit.run, _Sent())
        sent.requests, sent.tokens = max(sent.requests + requests, 0), max(sent.tokens + tokens, 0)

    def _give(self) -> None:
        """Give leave to those whose turn it is, for as long as there is room; come again when there is more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lease is None or self._lease.away or self._is_to_hear:
            return
        self._fill()
        while (turn := self._turns.next()) is not None:
            run, number, permit = turn
            seconds = max(self._requests.seconds_until_some(), self._tokens.seconds_until_some())
            if seconds > 0:
                if seconds < math.inf:
                    self._timer = permit.given.get_loop().call_later(seconds, self._give)
                return
            self._turns.leave(run, number)
            if permit.given.done():  # whoever waited was cancelled
                continue
            self._turns.has(run, permit.tokens if self._lease.unit == "tokens" else 1)
            self._take(permit, 1, permit.tokens)
            permit.given.set_result(None)
        self._when_nobody_waits()

    def _fill(self) -> None:
        assert self._lease is not None
        now, rates = time.monotonic(), self._lease.rates
        part = 1.0 if now < self._ends else _WITHOUT
        for bucket, rate in ((self._requests, rates.requests), (self._tokens, rates.tokens)):
            bucket.fill(now, None if rate is None else part * rate / 60)

    async def _keep_a_lease(self, leases: Leases) -> None:
        """Report and take leases, for as long as there is something to report."""
        reported, idle, pause = None, 0, 0.0
        self._requests.begin()
        self._tokens.begin()
        while idle < _IDLE_REPORTS or len(self._turns) or (self._is_away and self._is_waited_for()):
            report = self._report(reported)
            idle = 0 if report.runs else idle + 1
            reported = time.monotonic()
            try:
                lease = await leases.lease(self.name, report)
                self._lease, self._ends, pause = lease, reported + lease.seconds, lease.again_s
                self._turns.weigh(lease.weights)
            except Exception as error:  # whatever it is, calls wait for what comes of it
                if not isinstance(error, NoLease):
                    logger.exception("no lease of %s", self.name)
                logger.debug("%s", error)
                self._outage = self._outage or report.outage
                pause = 2 * SOONEST_S
                if self._lease is None or (self._lease.away and reported >= self._ends):
                    self._lease = Lease(rates=self._first_without(), seconds=0, again_s=pause)
            self._wanted.clear()
            self._is_to_hear = False
            self._give()
            await self._until_next_report(pause * random.uniform(0.9, 1.1))
        self._lease = None

    async def _until_next_report(self, seconds: float) -> None:
        """Wait, but not long if somebody waits for more than there is."""
        await asyncio.sleep(min(SOONEST_S, seconds))
        try:
            async with asyncio.timeout(max(seconds - SOONEST_S, 0)):
                await self._wanted.wait()
        except TimeoutError:
            return

    def _report(self, reported: float | None) -> Report:
        now = time.monotonic()
        runs = {
            run: Demand(sent=sent.requests, sent_tokens=sent.tokens)
            for run, sent in self._sent.items()
            if sent.requests
        }
        for run, permits in self._turns.waiting().items():
            demand = runs.setdefault(run, Demand())
            demand.waiting, demand.waiting_tokens = len(permits), sum(permit.tokens for permit in permits)
        refused, self._refused, self._sent = self._refused, 0, {}
        outage, self._outage = self._outage, ""
        a_minute = sum(at > now - 60 for at in self._answers) if self._refusals and not self.limits else 0
        return Report(
            process=PROCESS,
            seconds=0 if reported is None else now - reported,
            runs=_few(runs),
            limits=self.limits,
            remaining=self._remaining,
            refused=refused,
            a_minute=a_minute,
            outage=outage,
        )

    def _first_without(self) -> Rates:
        limits = self.limits
        return Rates(
            requests=limits.requests and limits.requests * _FIRST_WITHOUT,
            tokens=limits.tokens and limits.tokens * _FIRST_WITHOUT,
        )


def _few(runs: dict[str, Demand]) -> dict[str, Demand]:
    """Return the demand of not too many runs: those that want least are told as one."""
    if len(runs) <= MOST_RUNS:
        return runs
    ordered = sorted(runs, key=lambda run: runs[run].sent + runs[run].waiting, reverse=True)
    rest = [runs[run] for run in ordered[MOST_RUNS - 1 :]]
    told = {run: runs[run] for run in ordered[: MOST_RUNS - 1]}
    told[""] = Demand(**{name: sum(getattr(demand, name) for demand in rest) for name in Demand.model_fields})
    return told
