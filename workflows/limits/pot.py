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

PART_GIVEN = 0.96
"""Part of the limits that is given: providers and processes do not count the same moment."""

CUT = 0.8
"""By which what is given is multiplied when requests are refused all the same."""

CUTS_APART_S = 10.0
"""Seconds in which it is done once: refusals of before are no new ones."""

GROWTH = 0.004
"""Part of the limits by which it grows again, in a second."""

LEAST_GUESSED = 10.0
"""Requests a minute from which on a limit is looked for, where nobody tells it."""


class Held(BaseModel):
    """What a process has, and what it wants."""

    rates: Rates
    until: float
    requests: dict[str, float]
    """What it wants, by run, in a minute."""
    tokens: dict[str, float]


class Outage(BaseModel):
    """That the provider is away, and who tries whether it still is."""

    tries: int = 0
    next_try: float
    trier: str = ""


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
    """What was asked before the first lease, and when that was given: for a minute it is missing."""
    held: dict[str, Held] = {}
    outage: Outage | None = None

    def lease(self, report: Report, now: float) -> Lease:
        """Take a report, and return what its process may send from now on."""
        self.held = {name: held for name, held in self.held.items() if held.until > now}
        self._learn(report, now)
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
        rates = Rates(requests=requests, tokens=tokens)
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
            again_s=SOON_S if is_short else every,
            all_taken=self._scarcity(unit, now) >= 1,
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
        share = divide(total, self._wants(unit))[process]
        free = total - sum(getattr(held.rates, unit) or 0.0 for held in others.values())
        return max(min(sum(share.values()), free), 0.0), share

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
            self.spent_at = now
            self.spent = Rates(
                requests=_spent(report.limits.requests, report.remaining.requests),
                tokens=_spent(report.limits.tokens, report.remaining.tokens),
            )
        self._grow(now)
        if report.refused and (self.cut_at is None or now - self.cut_at >= CUTS_APART_S):
            self.factor *= CUT
            self.cut_at = now

    def _grow(self, now: float) -> None:
        since, self.grown_at = self.grown_at, now
        if since is None:
            return
        grown = self.factor + GROWTH * max(now - since, 0.0)
        self.factor = grown if self.guessed else max(min(grown, 1.0), min(self.factor, 1.0))


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
