"""The messages in which a call crosses to a worker and back.

A call crosses as one `CallRequest` and comes back as one `CallReply`, each a single JSON payload, so that Temporal
never has to guess types from a count of arguments, and "no result" differs from "the result None".
"""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from activities.contract.branches import Standing
from activities.contract.limits import MESSAGE_LIMIT
from activities.contract.usage import Usage

A = TypeVar("A")

R = TypeVar("R")

CROSSING = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")
"""How values are written on their way between a run and its workers: infinities and bytes of any kind have a form."""

LONGEST_NAME = 100
"""Characters of the name of who answers."""


class Approval(BaseModel):
    """A person's yes or no to a tool call of a model; a bare `true` or `false` is one as well."""

    model_config = ConfigDict(extra="forbid")

    approve: StrictBool
    reason: str = Field(default="", max_length=MESSAGE_LIMIT, description="What the model is told of a no or a change")
    arguments: dict[str, Any] = Field(default={}, description="Those that are to be other ones; the rest stays")
    by: str = Field(default="", max_length=LONGEST_NAME)
    """Who says so, where that is known."""

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, given: Any) -> Any:
        return {"approve": given} if isinstance(given, bool) else given

    @model_validator(mode="after")
    def _changes_go_with_a_yes(self) -> Self:
        if self.arguments and not self.approve:
            raise ValueError("arguments are changed where the answer is yes; tell the model why not in 'reason'")
        return self


class WantedApproval(BaseModel):
    """A tool call of a model that waits for a person's yes or no."""

    tool_call: str
    """The id of the tool call in the conversation."""
    tool: str
    arguments: Any
    """As the model gave them; long ones in short."""
    in_short: list[str] = []
    """Which of them."""
    digest: str
    """Of all of the arguments."""


class PausedCall(BaseModel):
    """A call that waits for people's yes or no to tools, and holds no worker meanwhile.

    It comes back so from a worker instead of a `CallReply`, gathers what is decided, and goes out again with that.
    """

    paused: Literal[True] = True
    wants: list[WantedApproval] = []
    """What it waits for."""
    decided: dict[str, Approval] = {}
    """What people have said so far, by the ids of the tool calls."""
    checkpoint: dict[str, Any] = {}
    """How far it has come, as `Checkpoint.record` writes it."""
    usage: Usage = Field(default_factory=Usage)
    """What it has used so far; its end tells of this too."""
    key: str = ""
    """What its work in a repository is known by."""


def paused_call(data: str | None) -> PausedCall | None:
    """Return the call that waits for people, if the JSON that came back from it says so and is no `CallReply`."""
    return PausedCall.model_validate_json(data) if data and data.startswith('{"paused":') else None


class Position(BaseModel):
    """Where an instance's memory stands."""

    commit: str = ""
    """What was added last; empty at the beginning."""
    conversation: str = ""
    """The workflow that it was added to; the instance's own where none is named, and another one before a fork."""


class CallRequest(BaseModel, Generic[A]):
    """One use of an agent method, on its way to whichever worker pulls it."""

    model_config = CROSSING

    instance: str
    role: str = ""
    step: str
    workflow_id: str
    run_id: str
    """The first run of the workflow's chain: it stays the same when the run continues as new."""
    model: str | None = None
    conversation: str | None = None
    """The workflow id of the instance's conversation; None if the call is to remember nothing."""
    outlives: bool = False
    """Whether the conversation goes on when the run has ended."""
    position: Position = Position()
    """Where the instance stands, as far as the run knows."""
    paused: PausedCall | None = None
    """Where a call that waited for people goes on; None at its beginning."""
    budget_left: dict[str, float] | None = None
    """What was left for it when it began, by limit; None where nothing is limited."""
    repository: Standing | None = None
    """Where the branches stand of the run's repository; None if the call has nothing to do with one."""
    arguments: A


class Receipt(BaseModel):
    """What a call took."""

    usage: Usage = Field(default_factory=Usage)
    position: Position | None = None
    """Where its instance's memory stands afterwards; None where nothing was added."""
    branches: dict[str, str] = {}
    """Where branches of the run's repository stand since, by commits."""
    waited_s: float = 0.0
    """Seconds from when the attempt could have begun until it did: how full the queue is."""
    took_s: float = 0.0
    """Seconds that the attempt took."""


class CallReply(Receipt, Generic[R]):
    """What came back from a call."""

    model_config = CROSSING

    value: R
