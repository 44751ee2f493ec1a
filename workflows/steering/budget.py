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
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from activities.contract.usage import Usage

Limit = Literal["usd", "tokens", "calls", "hours"]

WARN_AT = 0.8
"""The fraction of a limit at which a run warns."""

_SOMETHING = 1e-6
"""What must be left of a limit for a call that uses it to an unknown extent."""

_LATELY = 10
"""Calls over which costs are averaged: those of a conversation that grows rise."""

_UNITS: Mapping[Limit, str] = {"usd": "USD", "tokens": "tokens", "calls": "calls", "hours": "hours"}


_DIVIDED: tuple[Limit, ...] = ("usd", "tokens", "calls")
"""The limits of which parts of a run get shares."""


MOST = 10**15
"""The largest limit: what is more is no number that sums could be made with."""

Amount = Annotated[float, Field(le=MOST, allow_inf_nan=False)]


class Budget(BaseModel):
    """The limits of a run, as whoever starts it sets them: `{"usd": 2, "hours": 8}`. One that is not given is none."""

    model_config = ConfigDict(extra="forbid")

    usd: Annotated[Amount, Field(gt=0)] | None = Field(default=None, description="US dollars")
    tokens: Annotated[int, Field(gt=0, le=MOST)] | None = Field(
        default=None, description="Tokens of prompts and answers"
    )
    calls: Annotated[int, Field(gt=0, le=MOST)] | None = Field(default=None, description="Calls of agent methods")
    hours: Annotated[Amount, Field(gt=0)] | None = Field(
        default=None, description="Hours during which any call is under way"
    )

    def limits(self) -> dict[Limit, float]:
        """Return those that are set."""
        return {name: limit for name in _UNITS if (limit := getattr(self, name)) is not None}


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
        question: Its last question for more, by number; an answer to an earlier one counts no more.
    """

    limits: dict[Limit, float]
    spent: dict[Limit, float]
    question: int = 0


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
        self._begin_hours(now)
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
        self._end_hours(now)
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

    def explain(self, name: Limit, method: str, now: datetime) -> str:
        """Say why no call of a method can start for a limit: `1.00 of 1.00 USD spent`."""
        spent = self._spent(now)
        told = self._of(name, spent)
        cost = self._expected(method)[name]
        if spent[name] < self.limits[name] and cost > 1:
            return f"{told}, and one more {method} takes about {_amount(name, cost)}"
        if spent[name] < self.limits[name] and name == "usd":
            return f"{told}, and one more {method} costs about {_amount(name, cost)}"
        return told

    def done(self, now: datetime) -> str:
        """Say what was done for what was spent: `40 calls (Coder.implement 40), 0.40 USD, 12,000 tokens`."""
        spent = self._spent(now)
        calls = ", ".join(f"{method} {cost.calls}" for method, cost in self.methods.items() if cost.calls)
        rest = ", ".join(f"{_amount(name, spent[name])} {_UNITS[name]}" for name in _UNITS if name != "calls")
        return f"{spent['calls']:,.0f} calls{f' ({calls})' if calls else ''}, {rest}"

    def advice(self, name: Limit) -> str:
        """Return a `set_budget` input that would do, as JSON."""
        return json.dumps({name: math.ceil(2 * max(self.limits[name], self.spent[name]))})

    def refuse_limits(self, budget: Budget, now: datetime) -> str | None:
        """Say why limits can't be set: they are spent already."""
        spent = self._spent(now)
        for name, limit in budget.limits().items():
            if limit <= spent[name]:
                return (
                    f"'{name}': {_amount(name, limit)} is not more than the {_amount(name, spent[name])} "
                    f"{_UNITS[name]} that are spent."
                )
        return None

    def set_limits(self, budget: Budget) -> str:
        """Set those limits that were named, None for none; return all in words."""
        named = budget.limits()
        self.limits = {
            name: limit
            for name in _UNITS
            if (limit := named.get(name) if name in budget.model_fields_set else self.limits.get(name)) is not None
        }
        self.warned = [name for name in self.warned if name not in budget.model_fields_set]
        limits = [f"{_amount(name, limit)} {_UNITS[name]}" for name, limit in self.limits.items()]
        return f"budget: {', '.join(limits) or 'no limits'}"

    # Shares for child workflows

    def allot(self, name: str, share: float, now: datetime) -> Purse:
        """Set aside a share of what is left for a part of the run, and return the part's purse.

        Args:
            name: The part's, as in `report` and `end`.
            share: From 0 to 1. Time is not divided, as parts go on side by side.
            now: The time.
        """
        left = self._left(now)
        limits = {limit: amount if limit == "hours" else amount * share for limit, amount in left.items()}
        self._begin_hours(now)
        self.parts[name] = Part(limits=dict(limits), spent=dict.fromkeys(_UNITS, 0.0))
        methods = {method: cost.model_copy() for method, cost in self.methods.items()}
        return Purse(limits=limits, methods=methods)

    def report(self, name: str, purse: Purse, now: datetime) -> list[str]:
        """Take in what a part has spent; return what a person is to be warned of."""
        spent = self.parts[name].spent
        spent.update({limit: max(amount, spent[limit]) for limit, amount in purse.spent.items()})
        self._learn_from(purse)
        return self.warnings(now)

    def take_back(self, name: str, question: int, purse: Purse) -> bool:
        """Take back what a part has given back with its question for more; return whether this is its newest one.

        Signals may overtake each other.
        """
        part = self.parts[name]
        if question <= part.question:
            return False
        part.question, part.limits = question, dict(purse.limits)
        return True

    def give_back(self, now: datetime) -> None:
        """Keep only what is spent or spoken for, as a part does before it asks for more."""
        taken = self._taken(now)
        self.limits = {
            limit: min(amount, taken[limit]) if limit in _DIVIDED else amount for limit, amount in self.limits.items()
        }

    def allot_more(self, name: str, method: str, now: datetime) -> dict[Limit, float] | None:
        """Give a part that has no room for a call of a method an equal share of what is free; return its new limits.

        None if too little is free: then other parts have to end first, or a person to raise the budget.
        """
        if self._short_of(method, self._taken(now)) is not None:
            return None
        part, free, expected = self.parts[name], self._left(now), self._expected(method)
        for limit, amount in free.items():
            more = amount if limit == "hours" else max(amount / len(self.parts), min(expected[limit], amount))
            part.limits[limit] = part.spent[limit] + more + self._unspent(part, limit)
        part.limits = {limit: amount for limit, amount in part.limits.items() if limit in self.limits}
        return part.limits

    def adjust(self, name: str, now: datetime) -> dict[Limit, float]:
        """Bring a part's limits into line with those of the run, which were set anew; return them."""
        part, left = self.parts[name], self._left(now)
        for limit, amount in left.items():
            if limit == "hours":
                part.limits[limit] = part.spent[limit] + amount
            elif limit not in part.limits:
                part.limits[limit] = part.spent[limit] + amount / len(self.parts)
        part.limits = {limit: amount for limit, amount in part.limits.items() if limit in self.limits}
        return part.limits

    def end(self, name: str, now: datetime) -> None:
        """Take over what a part has spent, by its last report, and what it has not."""
        part = self.parts.pop(name)
        for limit in _DIVIDED:
            self.spent[limit] += part.spent[limit]
        self._end_hours(now)

    def _left(self, now: datetime) -> dict[Limit, float]:
        taken = self._taken(now)
        return {name: max(limit - taken[name], 0.0) for name, limit in self.limits.items()}

    @staticmethod
    def _unspent(part: Part, limit: Limit) -> float:
        return 0.0 if limit == "hours" else max(part.limits.get(limit, 0.0) - part.spent[limit], 0.0)

    def _learn_from(self, purse: Purse) -> None:
        for method, cost in purse.methods.items():
            if cost.calls >= self.methods.get(method, MethodCost()).calls:
                self.methods[method] = cost.model_copy()
        self.unpriced += [model for model in purse.unpriced if model not in self.unpriced]

    # What is spent, reserved and expected

    def _spent(self, now: datetime) -> dict[Limit, float]:
        busy = (now - self.busy_since).total_seconds() if self.busy_since else 0.0
        spent = {**self.spent, "hours": self.spent["hours"] + busy / 3600}
        for part in self.parts.values():
            for name in _DIVIDED:
                spent[name] += part.spent[name]
        return spent

    def _taken(self, now: datetime) -> dict[Limit, float]:
        """Return what is spent or spoken for."""
        taken = self._spent(now)
        for part in self.parts.values():
            for name in _DIVIDED:
                taken[name] += self._unspent(part, name)
        for method, count in self.under_way.items():
            cost = self.methods.get(method, MethodCost())
            taken["usd"] += count * cost.usd
            taken["tokens"] += count * cost.tokens
            taken["calls"] += count
        return taken

    def _expected(self, method: str) -> dict[Limit, float]:
        cost = self.methods.get(method)
        if cost is None or not cost.calls:
            return {"usd": _SOMETHING, "tokens": _SOMETHING, "calls": 1.0, "hours": _SOMETHING}
        return {"usd": cost.usd, "tokens": cost.tokens, "calls": 1.0, "hours": _SOMETHING}

    def _must_go_alone(self, method: str) -> bool:
        costs_are_limited = "usd" in self.limits or "tokens" in self.limits
        known = self.methods.get(method)
        return costs_are_limited and (known is None or not known.calls) and self.under_way[method] > 0

    def _short_of(self, method: str, taken: Mapping[Limit, float]) -> Limit | None:
        expected = self._expected(method)
        for name, limit in self.limits.items():
            rounding = limit * 1e-9
            if expected[name] > 0 and taken[name] + expected[name] > limit + rounding:
                return name
        return None

    def _begin_hours(self, now: datetime) -> None:
        if self.busy_since is None:
            self.busy_since = now

    def _end_hours(self, now: datetime) -> None:
        if not self.under_way and not self.parts and self.busy_since is not None:
            self.spent["hours"] += (now - self.busy_since).total_seconds() / 3600
            self.busy_since = None

    def _of(self, name: Limit, spent: Mapping[Limit, float]) -> str:
        return f"{_amount(name, spent[name])} of {_amount(name, self.limits[name])} {_UNITS[name]} spent"

    def _tell_unpriced(self) -> str:
        held = (
            f"the limit of {_amount('tokens', self.limits['tokens'])} tokens is what holds for it"
            if "tokens" in self.limits
            else "nothing limits it: set a limit of tokens as well"
        )
        return f"budget: no price is known for {', '.join(self.unpriced)}, so its dollars can't be counted; {held}"


def _amount(name: Limit, amount: float) -> str:
    if name == "usd":
        return f"{amount:,.2f}" if amount >= 0.1 or amount == 0 else f"{amount:.2g}"
    return f"{amount:,.2f}".rstrip("0").rstrip(".") if name == "hours" else f"{amount:,.0f}"
