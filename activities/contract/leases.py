"""What processes that ask a model, and the limiter that divides its limits among them, say to each other.

A process has no permits but a lease: it may send so much a minute until the lease ends, and tells with each report what
it has sent and what waits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]

MOST_RUNS = 100
"""Runs that a report tells apart; those that want least are told as one."""

Unit = Literal["requests", "tokens"]


class NoLease(Exception):
    """The limiter could not be reached."""


class Rates(BaseModel):
    """How much may be asked in a minute; None where nothing limits it."""

    requests: Amount | None = None
    tokens: Amount | None = None

    def __or__(self, others: Rates) -> Rates:
        """Return these, and of the others what these leave open."""
        return Rates(
            requests=others.requests if self.requests is None else self.requests,
            tokens=others.tokens if self.tokens is None else self.tokens,
        )

    def __bool__(self) -> bool:
        return self.requests is not None or self.tokens is not None


class Demand(BaseModel):
    """What a run wants of a process: what it has sent since the last report, and what waits."""

    sent: Amount = 0
    sent_tokens: Amount = 0
    waiting: Amount = 0
    waiting_tokens: Amount = 0


class Report(BaseModel):
    """What a process tells when it asks for its next lease."""

    process: Annotated[str, Field(max_length=200)]
    seconds: Amount = 0
    """Since its last report; 0 for the first one."""
    runs: Annotated[dict[str, Demand], Field(max_length=MOST_RUNS)] = {}
    limits: Rates = Rates()
    """As they are set, or as the provider has told them."""
    remaining: Rates = Rates()
    """What is left of them, as the provider has told last."""
    refused: Amount = 0
    """How many requests were refused since the last report, since too much was asked."""
    a_minute: Amount = 0
    """How many were answered in the last minute, where no limit is known."""
    outage: Literal["", "away", "there"] = ""
    """What the provider has proved to be last, since the process's last report."""


class Lease(BaseModel):
    """What a process may send until it ends."""

    rates: Rates
    weights: dict[str, Amount] = {}
    """The share of each run in it."""
    unit: Unit = "requests"
    """In which the shares are: what is scarcer."""
    seconds: Amount
    """How long it lasts."""
    again_s: Amount
    """When to report again."""
    all_taken: bool = False
    """Whether nothing is left that could be had by asking sooner."""
    away: bool = False
    """Whether the provider is away, and another process tries when it is back."""
