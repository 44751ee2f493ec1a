"""What a run tells of itself when asked: how far it is, who does what, what it has used, what it waits for."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from activities.contract.usage import Usage


class Items(BaseModel):
    """How many items of a scatter are where; what has not begun waits."""

    done: int = 0
    running: int = 0
    failed: int = 0

    def __add__(self, other: Items) -> Items:
        return Items(
            done=self.done + other.done, running=self.running + other.running, failed=self.failed + other.failed
        )


class ScatterProgress(BaseModel):
    """How far a scatter is."""

    step: str
    title: str
    """What is done to its items, and which round of it this is: `Reviewer.review_module, round 2`."""
    total: int
    done: int
    running: int
    waiting: int
    failed: int
    ended: bool

    def in_words(self) -> str:
        """Say it in one line: `12 of 40 done, 3 running, 24 waiting, 1 failed`."""
        others = {"running": self.running, "waiting": self.waiting, "failed": self.failed}
        return ", ".join([f"{self.done} of {self.total} done", *(f"{n} {what}" for what, n in others.items() if n)])


class Working(BaseModel):
    """What an instance does right now."""

    instance: str
    method: str
    item: str
    step: str
    since: datetime


class Account(BaseModel):
    """What the calls of a role came to."""

    calls_done: int = 0
    calls_failed: int = 0
    usage: Usage = Usage()

    def __add__(self, other: Account) -> Account:
        return Account(
            calls_done=self.calls_done + other.calls_done,
            calls_failed=self.calls_failed + other.calls_failed,
            usage=self.usage + other.usage,
        )


class RoleProgress(Account):
    """The same of a role in a run, with the size of its pool."""

    role: str
    instances: int
    calls_running: int


class Limited(BaseModel):
    """How far a run is to one of its limits."""

    spent: float
    limit: float


class Progress(BaseModel):
    """How far a run is.

    Lists are cut; `…_left_out` says how many are not listed. Times are those of the run, in UTC.
    """

    choreography: str
    status: str
    """`running`, `paused: …`, `waits: …`, `done`, `failed` or `cancelled`."""
    phase: str
    """What goes on: the phases that the program names, or else the scatters or calls that run."""
    scatters: list[ScatterProgress]
    scatters_left_out: int
    working: list[Working]
    working_left_out: int
    calls_done: int
    calls_running: int
    calls_failed: int
    failed_items: int
    last_failures: list[str]
    waits_for: list[str]
    notes: list[str] = []
    roles: list[RoleProgress]
    usage: Usage
    budget: dict[str, Limited] = {}
    """The run's own limits that are set: of `usd`, `tokens`, `calls`, `hours`."""

    def headline(self) -> str:
        """Say in a line what goes on: `running: Reviewer.review_module, round 2`."""
        return f"{self.status}: {self.phase}" if self.status == "running" and self.phase else self.status

    def calls_in_words(self) -> str:
        """Count calls, tokens and money in one line."""
        failed = [f"{self.calls_failed} failed"] if self.calls_failed else []
        return ", ".join(
            [
                f"{counted(self.calls_done, 'call')} done",
                f"{self.calls_running} running",
                *failed,
                *used_in_words(self.usage),
            ]
        )


def used_in_words(usage: Usage) -> list[str]:
    """Say what was used of models: `["12 model calls", "4,511 tokens", "0.0312 USD"]`; empty if nothing was."""
    if not usage.model_calls:
        return []
    tokens = counted(tokens_of(usage), "token")
    return [
        counted(usage.model_calls, "model call"),
        f"{tokens} ({usage.estimated:,} of the calls estimated)" if usage.estimated else tokens,
        "cost unknown" if usage.cost_usd is None else f"{money(usage.cost_usd)} USD",
    ]


def estimated_in_words(usage: Usage) -> list[str]:
    """Say of how many answers the usage is not what a provider told; nothing if of none."""
    if not usage.estimated:
        return []
    return [
        f"tokens of {usage.estimated:,} of {counted(usage.model_calls, 'model call')} are estimated by length: "
        "the provider told none that can be true"
    ]


def tokens_of(usage: Usage) -> int:
    """Return the tokens of prompts and answers together."""
    return usage.prompt_tokens + usage.completion_tokens


def money(usd: float) -> str:
    """Write an amount with as many digits as tell something."""
    return f"{usd:,.2f}" if usd >= 1 or usd == 0 else f"{usd:.4f}"


def counted(number: int, what: str) -> str:
    """Count things: `1 call`, `1,200 calls`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
