"""What a provider takes in a minute, and who has how much of it: no lease is given of what others still have.

Times are seconds of any clock; whoever uses this brings it.
"""

from __future__ import annotations

from pydantic import BaseModel

from activities.contract.leases import Demand, Lease, Rates, Report, Unit
from workflows.limits.division import Wants, divide, wanted_by_runs

LEASE_S = 30.0
"""Seconds that a lease lasts: what a process has that was killed comes back after them."""

REPORT_EVERY_S = 5.0
MOST_REPORTS_A_SECOND = 8.0
LATEST_REPORT_S = 10.0
"""Seconds between two reports of a process; where there are many, fewer of each."""

SOON_S = 1.0
"""When a process that got much less than its share, as others still have it, reports again."""

MINUTE_S = 60.0

JOINED_S = 10.0
"""Seconds in which those who asked before there was a limiter have come to it."""

PART_GIVEN = 0.96
"""Part of the limits that is given: providers and processes do not count the same moment."""

CUT = 0.8
"""By which what is given is multiplied when requests are refused all the same."""

CUTS_APART_S = 10.0
"""Seconds in which it is done once: refusals of before are no new ones."""

GROWTH = 0.004
"""Part of the limits by which it grows again, in a second."""

GUESSED_GROWTH = 1.01
"""By which it is multiplied in a second where nobody tells the limits: they may be anything."""

MOST_GUESSED = 1_000.0

FEW_REFUSED, PART_REFUSED = 3, 0.02
"""How many are refused without anything being cut, and which part of all."""

LATELY_S = 30.0

LEAST_GUESSED = 10.0
"""Requests a minute from which on a limit is looked for, where nobody tells it."""


class Held(BaseModel):
    """What a process has, and what it wants."""

    rates: Rates
    until: float
    requests: dict[str, float]
    """What it wants, by run, in a minute."""
    tokens: dict[str, float]


class Pot(BaseModel):
    """The limits of a model and a key, and their division. It is carried on as it is."""

    limits: Rates = Rates()
    guessed: bool = False
    """Whether the limits are what was answered before requests were refused, as nobody tells them."""
    factor: float = 1.0
    cut_at: float | None = None
    grown_at: float | None = None
    spent: Rates = Rates()
    spent_at: float = -MINUTE_S
    """What was asked before the first leases, and when they were given: for a minute it is missing."""
    held: dict[str, Held] = {}
    trier: str = ""
    """The process that tries whether the provider is back; empty while it is there."""
    sent: float = 0.0
    refused: float = 0.0
    counted_from: float = 0.0
    """How many requests were sent and refused, and since when: lately."""

    def lease(self, report: Report, now: float) -> Lease:
        """Take a report, and return what its process may send from now on."""
        self.held = {name: held for name, held in self.held.items() if held.until > now}
        self._learn(report, now)
        self._look_for_outage(report)
        wants = _wants(report)
        before = self.held.pop(report.process, None)
        others = dict(self.held)
        self.held[report.process] = Held(
            rates=before.rates if before else Rates(),
            until=now + LEASE_S,
            requests={run: want for run, (want, _) in wants.items()},
            tokens={run: want for run, (_, want) in wants.items()},
        )
        requests, of_requests = self._share("requests", report.process, others, now)
        tokens, of_tokens = self._share("tokens", report.process, others, now)
        away = self.trier not in ("", report.process)
        rates = Rates(requests=0.0 if away else requests, tokens=tokens)
        self.held[report.process].rates = rates
        unit: Unit = "tokens" if self._scarcity("tokens", now) > self._scarcity("requests", now) else "requests"
        share = of_requests if unit == "requests" else of_tokens
        given = requests if unit == "requests" else tokens
        is_short = given is not None and given < 0.5 * sum(share.values())
        every = min(max(REPORT_EVERY_S, len(self.held) / MOST_REPORTS_A_SECOND), LATEST_REPORT_S)
        return Lease(
            rates=rates,
            weights=share,
            unit=unit,
            seconds=LEASE_S,
            again_s=SOON_S if is_short and not away else every,
            all_taken=away or self._scarcity(unit, now) >= 1,
            away=away,
        )

    def given(self, unit: Unit, now: float) -> float | None:
        """Return how much is given in a minute, to all together."""
        limit: float | None = getattr(self.limits, unit)
        if limit is None:
            return None
        spent: float = getattr(self.spent, unit) or 0.0
        return max(limit * PART_GIVEN * self.factor - (spent if now < self.spent_at + MINUTE_S else 0.0), 0.0)

    def _share(
        self, unit: Unit, process: str, others: dict[str, Held], now: float
    ) -> tuple[float | None, dict[str, float]]:
        """Return what a process gets, and the shares of its runs in what it is to have."""
        total = self.given(unit, now)
        if total is None:
            return None, {}
        divided = divide(total, self._wants(unit))
        shares = {name: sum(share.values()) for name, share in divided.items()}
        held = {name: getattr(other.rates, unit) or 0.0 for name, other in others.items()}
        # What nobody wants now may be wanted before the next report; never what others are still to get.
        idle = total - shares[process] - sum(max(held[name], shares[name]) for name in others)
        free = total - sum(held.values())
        return max(min(shares[process] + max(idle, 0.0) / 2, free), 0.0), divided[process]

    def _wants(self, unit: Unit) -> Wants:
        return {process: getattr(held, unit) for process, held in self.held.items()}

    def _scarcity(self, unit: Unit, now: float) -> float:
        """Return what is wanted / what there is."""
        total = self.given(unit, now)
        return 0.0 if total is None else sum(wanted_by_runs(self._wants(unit)).values()) / max(total, 1e-9)

    def _learn(self, report: Report, now: float) -> None:
        if report.limits:
            if self.guessed:
                self.guessed, self.factor = False, 1.0
                self.limits = Rates()
            self.limits = report.limits | self.limits
        elif report.a_minute and report.process not in self.held and (self.guessed or not self.limits):
            self.guessed = True
            self.limits = Rates(requests=(self.limits.requests or 0.0) + max(report.a_minute, LEAST_GUESSED))
        if not self.held and now >= self.spent_at + MINUTE_S:
            self.spent_at, self.spent = now, Rates()
        if not report.seconds and now < self.spent_at + JOINED_S:
            self.spent = Rates(
                requests=_more(self.spent.requests, _spent(report.limits.requests, report.remaining.requests)),
                tokens=_more(self.spent.tokens, _spent(report.limits.tokens, report.remaining.tokens)),
            )
        self._grow(now)
        if self.cut_at is not None and now < self.cut_at + CUTS_APART_S:
            return
        self._count(report, now)
        if self._are_refused():
            self.factor *= CUT
            self.cut_at = now
            self.sent = self.refused = 0.0

    def _count(self, report: Report, now: float) -> None:
        if now >= self.counted_from + LATELY_S:
            self.counted_from, self.sent, self.refused = now, self.sent / 2, self.refused / 2
        self.sent += sum(demand.sent for demand in report.runs.values())
        self.refused += report.refused

    def _are_refused(self) -> bool:
        """Whether so many are refused that it is for the rate: some providers refuse one now and then for nothing."""
        return self.refused >= FEW_REFUSED and self.refused > PART_REFUSED * self.sent

    def _look_for_outage(self, report: Report) -> None:
        """Have one process try whether the provider is back, once one has found it away, and none is answered."""
        if report.outage == "there":
            self.trier = ""
        elif self.trier not in self.held and (self.trier or report.outage == "away"):
            self.trier = report.process

    def _grow(self, now: float) -> None:
        since, self.grown_at = self.grown_at, now
        if since is None:
            return
        passed = max(now - since, 0.0)
        if self.guessed:
            self.factor = min(self.factor * GUESSED_GROWTH**passed, MOST_GUESSED)
        else:
            self.factor = min(self.factor + GROWTH * passed, 1.0)


def _more(one: float | None, other: float | None) -> float | None:
    return max((amount for amount in (one, other) if amount is not None), default=None)


def _spent(limit: float | None, remaining: float | None) -> float | None:
    return None if limit is None or remaining is None else max(limit - remaining, 0.0)


def _wants(report: Report) -> dict[str, tuple[float, float]]:
    """Return the requests and tokens that each run wants in a minute, with some room for more."""
    seconds = min(max(report.seconds, 1.0), LEASE_S) if report.seconds else REPORT_EVERY_S
    return {run: _want(demand, 60 / seconds) for run, demand in report.runs.items()}


def _want(demand: Demand, times: float) -> tuple[float, float]:
    requests = max(demand.sent + demand.waiting, 2 * demand.sent) + 1
    each = (demand.sent_tokens + demand.waiting_tokens) / max(demand.sent + demand.waiting, 1)
    return requests * times, requests * times * each
