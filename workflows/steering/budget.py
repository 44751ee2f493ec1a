"""The budget of a run: its limits, what calls are expected to cost, and what they did cost.

A call reserves what calls of its method cost so far before it starts, and is settled when it has ended. The first
call of a method goes alone where its cost is limited: nobody knows yet what to reserve. There is no clock in here and
no server, so that a purse can be carried from run to run, divided among child workflows, and tested as it is.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activities.contract.text import explain
from activities.contract.usage import Usage
from workflows.errors import InputInvalid
from workflows.shown.progress import Limited

Limit = Literal["usd", "tokens", "calls", "hours"]

WARN_AT = 0.8
"""The fraction of a limit at which a run warns."""

_SOMETHING = 1e-6
"""What must be left of a limit for a call that uses it to an unknown extent."""

_LATELY = 10
"""Calls over which costs are averaged: those of a conversation that grows rise."""

UNITS: Mapping[Limit, str] = {"usd": "USD", "tokens": "tokens", "calls": "calls", "hours": "hours"}


DIVIDED: tuple[Limit, ...] = ("usd", "tokens", "calls")
"""The limits of which parts of a run get shares."""


MOST = 10**15
"""The largest limit: what is more is no number that sums could be made with."""

Amount = Annotated[float, Field(le=MOST, allow_inf_nan=False)]


class Limits(BaseModel):
    """Limits that can be shared. One that is not given is none."""

    model_config = ConfigDict(extra="forbid")

    usd: Annotated[Amount, Field(gt=0)] | None = Field(default=None, description="US dollars")
    tokens: Annotated[int, Field(gt=0, le=MOST)] | None = Field(
        default=None, description="Tokens of prompts and answers"
    )
    calls: Annotated[int, Field(gt=0, le=MOST)] | None = Field(default=None, description="Calls of agent methods")

    def limits(self) -> dict[Limit, float]:
        """Return those that are set."""
        return {name: limit for name in UNITS if (limit := getattr(self, name, None)) is not None}

    @classmethod
    def given(cls, limits: object) -> Self:
        """Read the limits that somebody wants to set.

        Raises:
            InputInvalid: They don't fit, or none is named.
        """
        known = ", ".join(cls.model_fields)
        try:
            budget = cls.model_validate(limits)
        except ValidationError as error:
            raise InputInvalid(f"the budget does not fit: {explain(error)}; it takes {known}.") from None
        if not budget.model_fields_set:
            raise InputInvalid(f"name a limit: {known}.")
        return budget


class Budget(Limits):
    """The limits of a run, as whoever starts it sets them: `{"usd": 2, "hours": 8}`."""

    hours: Annotated[Amount, Field(gt=0)] | None = Field(
        default=None, description="Hours during which any call is under way"
    )


class SharedBudget(Limits):
    """The limits of all runs of a tenant, or with a tag: `{"usd": 50, "per": "day"}`."""

    per: Literal["day"] | None = Field(default=None, description="After what time it begins anew: a day in UTC")


class MethodCost(BaseModel):
    """What calls of a method cost: how many have ended, and their mean of late."""

    calls: int = 0
    usd: float = 0.0
    tokens: float = 0.0

    def learn(self, usd: float, tokens: float) -> None:
        """Take in what one more call has cost."""
        self.calls += 1
        weight = 1 / min(self.calls, _LATELY)
        self.usd += (usd - self.usd) * weight
        self.tokens += (tokens - self.tokens) * weight


class Part(BaseModel):
    """What is set aside for a part of the run, a child workflow, and what that has spent of it.

    Attributes:
        limits: How far it may go.
        spent: By its last report.
        request: Its last request for more, by number; an answer to an earlier one counts no more.
        workflow_id: Whose it is, where it is no part of this very run.
        before: What it had spent before the budget was renewed; the rest is without that.
    """

    limits: dict[Limit, float]
    spent: dict[Limit, float]
    request: int = 0
    workflow_id: str = ""
    before: dict[Limit, float] = {}

    def unspent(self, limit: Limit) -> float:
        """Return what it may still spend; time is not divided."""
        return 0.0 if limit == "hours" else max(self.limits.get(limit, 0.0) - self.spent[limit], 0.0)


class Purse(BaseModel):
    """What a run may spend, what it has spent, and what is reserved for the calls under way.

    Attributes:
        limits: Those that are set.
        spent: By the calls that have ended.
        methods: What calls of each method cost.
        unpriced: Models without a known price that were used; they count by tokens only.
        warned: The limits of which a warning was given.
        parts: Shares that child workflows spend, by their names.
        under_way: Calls that are under way, by their methods; those of parts are not counted. It is not carried on.
        busy_since: Since when any call is under way; nor is this.
    """

    limits: dict[Limit, float] = {}
    spent: dict[Limit, float] = {"usd": 0.0, "tokens": 0.0, "calls": 0.0, "hours": 0.0}
    methods: dict[str, MethodCost] = {}
    unpriced: list[str] = []
    warned: list[Limit] = []
    parts: dict[str, Part] = {}
    under_way: Counter[str] = Field(default_factory=Counter, exclude=True)
    busy_since: datetime | None = Field(default=None, exclude=True)

    def has_room(self, method: str, now: datetime) -> bool:
        """Whether one more call of a method may start now, beside those that are under way."""
        if not self.limits:
            return True
        if self._must_go_alone(method):
            return False
        return self._short_of(method, self._taken(now)) is None

    def is_short(self, method: str, now: datetime) -> bool:
        """Whether there is too little left for one more call of a method."""
        return bool(self.limits) and self._short_of(method, self._taken(now)) is not None

    def refuses(self, method: str, now: datetime) -> Limit | None:
        """Return the limit for which no call of a method can start, even if all those under way turn out free."""
        return self._short_of(method, self._spent(now)) if self.limits else None

    def open(self, method: str, now: datetime) -> None:
        """Reserve what a call costs, as it starts."""
        self.begin_hours(now)
        self.under_way[method] += 1

    def settle(self, method: str, usage: Usage, *, well: bool = True) -> list[str]:
        """Add what a call has used.

        Args:
            method: Its method.
            usage: What all its attempts have used.
            well: Whether it gave a result; one that failed early tells nothing about what calls cost.

        Returns:
            What a person is to be warned of, each once.
        """
        usd, tokens = usage.cost_usd or 0.0, usage.prompt_tokens + usage.completion_tokens
        self.spent["usd"] += usd
        self.spent["tokens"] += tokens
        cost = self.methods.setdefault(method, MethodCost())
        if well or usd > cost.usd or tokens > cost.tokens:
            cost.learn(usd, tokens)
        warnings = []
        if usage.cost_usd is None and (new := [model for model in usage.models if model not in self.unpriced]):
            self.unpriced += new
            warnings += [self._tell_unpriced()] if "usd" in self.limits else []
        return warnings

    def close(self, method: str, now: datetime) -> list[str]:
        """Give back what a call had reserved, as it has ended; return what a person is to be warned of."""
        self.under_way[method] -= 1
        if not self.under_way[method]:
            del self.under_way[method]
        self.spent["calls"] += 1
        self.end_hours(now)
        return self.warnings(now)

    def warnings(self, now: datetime) -> list[str]:
        """Return a sentence for each limit that is nearly reached, once."""
        spent = self._spent(now)
        near = [name for name, limit in self.limits.items() if spent[name] >= WARN_AT * limit]
        new = [name for name in near if name not in self.warned]
        self.warned += new
        return [f"budget: {self._of(name, spent)}" for name in new]

    def notes(self, now: datetime) -> list[str]:
        """Return what is worth saying of the budget while nothing waits for it."""
        spent = self._spent(now)
        near = [f"budget: {self._of(name, spent)}" for name in self.warned if name in self.limits]
        return [*near, *([self._tell_unpriced()] if self.unpriced and "usd" in self.limits else [])]

    def standing(self, now: datetime) -> dict[str, Limited]:
        """Return how far each limit is that is set."""
        spent = self._spent(now)
        return {name: Limited(spent=spent[name], limit=limit) for name, limit in self.limits.items()}

    def explain(self, name: Limit, method: str, now: datetime) -> str:
        """Say why no call of a method can start for a limit: `1.00 of 1.00 USD spent`."""
        spent = self._spent(now)
        told = self._of(name, spent)
        cost = self.expected(method)[name]
        if spent[name] < self.limits[name] and cost > 1:
            return f"{told}, and one more {method} takes about {_amount(name, cost)}"
        if spent[name] < self.limits[name] and name == "usd":
            return f"{told}, and one more {method} costs about {_amount(name, cost)}"
        return told

    def done(self, now: datetime) -> str:
        """Say what was done for what was spent: `40 calls (Coder.implement 40), 0.40 USD, 12,000 tokens`."""
        spent = self._spent(now)
        calls = ", ".join(f"{method} {cost.calls}" for method, cost in self.methods.items() if cost.calls)
        rest = ", ".join(f"{_amount(name, spent[name])} {UNITS[name]}" for name in UNITS if name != "calls")
        return f"{spent['calls']:,.0f} calls{f' ({calls})' if calls else ''}, {rest}"

    def advice(self, name: Limit) -> str:
        """Return a `set_budget` input that would do, as JSON."""
        return json.dumps({name: math.ceil(2 * max(self.limits[name], self.spent[name]))})

    def refuse_limits(self, budget: Limits, now: datetime) -> str | None:
        """Say why limits can't be set: they are spent already."""
        spent = self._spent(now)
        for name, limit in budget.limits().items():
            if limit <= spent[name]:
                return (
                    f"'{name}': {_amount(name, limit)} is not more than the {_amount(name, spent[name])} "
                    f"{UNITS[name]} that are spent."
                )
        return None

    def set_limits(self, budget: Limits) -> str:
        """Set those limits that were named, None for none; return all in words."""
        named = budget.limits()
        self.limits = {
            name: limit
            for name in UNITS
            if (limit := named.get(name) if name in budget.model_fields_set else self.limits.get(name)) is not None
        }
        self.warned = [name for name in self.warned if name not in budget.model_fields_set]
        limits = [f"{_amount(name, limit)} {UNITS[name]}" for name, limit in self.limits.items()]
        return f"budget: {', '.join(limits) or 'no limits'}"

    # Shares for the parts of a run, which `shares` divides

    def left(self, now: datetime) -> dict[Limit, float]:
        """Return what is neither spent nor spoken for, of each limit."""
        taken = self._taken(now)
        return {name: max(limit - taken[name], 0.0) for name, limit in self.limits.items()}

    def left_for(self, method: str, now: datetime) -> dict[Limit, float]:
        """Return what is left for a call that has begun, with what it has reserved itself."""
        taken, cost = self._taken(now), self.methods.get(method, MethodCost())
        reserved: dict[Limit, float] = {"usd": cost.usd, "tokens": cost.tokens, "calls": 1.0, "hours": 0.0}
        return {name: max(limit - taken[name] + reserved[name], 0.0) for name, limit in self.limits.items()}

    def give_back(self, now: datetime, *, keep_for: str | None = None) -> None:
        """Keep only what is spent or spoken for, as a part does before it asks for more.

        Args:
            now: The time.
            keep_for: The method of a call that is about to start.
        """
        taken = self._taken(now)
        if keep_for is not None:
            taken = {limit: taken[limit] + cost for limit, cost in self.expected(keep_for).items()}
        self.limits = {
            limit: min(amount, taken[limit]) if limit in DIVIDED else amount for limit, amount in self.limits.items()
        }

    def begin_again(self) -> None:
        """Have spent nothing, and hold no more than the calls under way are expected to take."""
        self.spent = dict.fromkeys(UNITS, 0.0)
        taken = self._taken(None)
        self.limits = {limit: taken[limit] for limit in self.limits}

    def renew(self) -> None:
        """Begin anew: nothing is spent. What parts were lent and have not spent stays with them."""
        self.spent = dict.fromkeys(UNITS, 0.0)
        self.warned = []
        for part in self.parts.values():
            part.before = {name: part.before.get(name, 0.0) + part.spent[name] for name in UNITS}
            part.limits = {limit: max(amount - part.spent[limit], 0.0) for limit, amount in part.limits.items()}
            part.spent = dict.fromkeys(UNITS, 0.0)

    def learn_from(self, purse: Purse) -> None:
        """Take over what a part has found out about costs."""
        for method, cost in purse.methods.items():
            if cost.calls >= self.methods.get(method, MethodCost()).calls:
                self.methods[method] = cost.model_copy()
        self.unpriced += [model for model in purse.unpriced if model not in self.unpriced]

    def spent_in_all(self) -> dict[Limit, float]:
        """Return what is spent, by parts too; of time, what was before the calls under way."""
        return self._spent(None)

    def forget_methods(self, most: int) -> None:
        """Forget what calls of some methods cost, if there are very many."""
        for method in list(self.methods)[: max(len(self.methods) - most, 0)]:
            del self.methods[method]

    # What is spent, reserved and expected

    def _spent(self, now: datetime | None) -> dict[Limit, float]:
        busy = (now - self.busy_since).total_seconds() if now and self.busy_since else 0.0
        spent = {**self.spent, "hours": self.spent["hours"] + busy / 3600}
        for part in self.parts.values():
            for name in DIVIDED:
                spent[name] += part.spent[name]
        return spent

    def _taken(self, now: datetime | None) -> dict[Limit, float]:
        """Return what is spent or spoken for."""
        taken = self._spent(now)
        for part in self.parts.values():
            for name in DIVIDED:
                taken[name] += part.unspent(name)
        for method, count in self.under_way.items():
            cost = self.methods.get(method, MethodCost())
            taken["usd"] += count * cost.usd
            taken["tokens"] += count * cost.tokens
            taken["calls"] += count
        return taken

    def expected(self, method: str) -> dict[Limit, float]:
        """Return what one more call of a method is expected to take of each limit."""
        cost = self.methods.get(method)
        if cost is None or not cost.calls:
            return {"usd": _SOMETHING, "tokens": _SOMETHING, "calls": 1.0, "hours": _SOMETHING}
        return {"usd": cost.usd, "tokens": cost.tokens, "calls": 1.0, "hours": _SOMETHING}

    def _must_go_alone(self, method: str) -> bool:
        costs_are_limited = "usd" in self.limits or "tokens" in self.limits
        known = self.methods.get(method)
        return costs_are_limited and (known is None or not known.calls) and self.under_way[method] > 0

    def _short_of(self, method: str, taken: Mapping[Limit, float]) -> Limit | None:
        expected = self.expected(method)
        for name, limit in self.limits.items():
            rounding = limit * 1e-9
            if expected[name] > 0 and taken[name] + expected[name] > limit + rounding:
                return name
        return None

    def begin_hours(self, now: datetime) -> None:
        """Count time from now on, unless it is counted already."""
        if self.busy_since is None:
            self.busy_since = now

    def end_hours(self, now: datetime) -> None:
        """Count no more time, if nothing is under way any longer."""
        if not self.under_way and not self.parts and self.busy_since is not None:
            self.spent["hours"] += (now - self.busy_since).total_seconds() / 3600
            self.busy_since = None

    def _of(self, name: Limit, spent: Mapping[Limit, float]) -> str:
        return how_much(name, spent[name], self.limits[name])

    def _tell_unpriced(self) -> str:
        held = (
            f"the limit of {_amount('tokens', self.limits['tokens'])} tokens is what holds for it"
            if "tokens" in self.limits
            else "nothing limits it: set a limit of tokens as well"
        )
        return f"budget: no price is known for {', '.join(self.unpriced)}, so its dollars can't be counted; {held}"


def how_much(name: Limit, spent: float, limit: float) -> str:
    """Say how much of a limit is spent: `1.00 of 2.00 USD spent`."""
    return f"{_amount(name, spent)} of {_amount(name, limit)} {UNITS[name]} spent"


def _amount(name: Limit, amount: float) -> str:
    if name == "usd":
        return f"{amount:,.2f}" if amount > 0.0995 or amount == 0 else f"{amount:.2g}"
    return f"{amount:,.2f}".rstrip("0").rstrip(".") if name == "hours" else f"{amount:,.0f}"
