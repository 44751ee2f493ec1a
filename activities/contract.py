"""What both wings agree on: names, queues, limits, and the messages that cross between them.

A call crosses as one `CallRequest` and comes back as one `CallReply`, each a single JSON payload, so that
Temporal never has to guess types from a count of arguments, and "no result" differs from "the result None".
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

A = TypeVar("A")
R = TypeVar("R")

CHOREOGRAPHY_QUEUE = "choreography"
"""The task queue of every choreography; `temporal workflow start --task-queue choreography`. A team's is its own."""


def of_team(team: str, name: str) -> str:
    """Return the name of a team's own, `acme.choreography`; that of whoever is in no team stays as it is."""
    return f"{team}.{name}" if team else name


def team_of(queue: str, name: str = CHOREOGRAPHY_QUEUE) -> str:
    """Return the team whose task queue of this name it is; empty if it is no team's."""
    return queue.removesuffix(f".{name}") if queue.endswith(f".{name}") else ""


BREATHE_ACTIVITY = "breathe"
"""The local activity that does nothing: it ends a workflow task in time."""

SEARCH_ATTRIBUTES: Mapping[str, Literal["Keyword", "KeywordList", "Double", "Int"]] = MappingProxyType(
    {
        "Choreography": "Keyword",
        "RunStatus": "Keyword",
        "Roles": "KeywordList",
        "CostUsd": "Double",
        "Tokens": "Int",
        "FailedItems": "Int",
        "Tags": "KeywordList",
    }
)
"""What runs can be looked up by in the server's list, with the types that the server has to know them by."""

PAYLOAD_LIMIT = 2 * 1024 * 1024 - 64 * 1024
"""Bytes in one payload. The server's limit is 2 MB; the rest is room for metadata and for a codec's overhead."""

MESSAGE_LIMIT = 4_000
"""Characters in an error message. A server loses an activity's failure that is too long, and the call with it."""

CROSSING = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")
"""How values are written on their way between a run and its workers: infinities and bytes of any kind have a form."""

HEARTBEAT_TIMEOUT_S = 5.0
"""Seconds without a heartbeat after which a call is given to another worker."""


WAITS_FOR_MODEL_SIGNAL = "waits_for_model"
"""The signal by which a worker tells a run that its calls wait for a model, and when that is over."""

CALL_CANCELLED = "CallCancelled"
"""The error type by which a cancelled call tells what it has used: Temporal's own kind of end has no room for it."""


class Usage(BaseModel):
    """What a call used of its model.

    `cost_usd` is None when a model without a known price took part: then count tokens.
    `estimated` counts the model calls of which the provider told no usage that can be true: theirs is estimated.
    """

    models: list[str] = []
    model_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    estimated: int = 0

    def __add__(self, other: Usage) -> Usage:
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            models=list(dict.fromkeys([*self.models, *other.models])),
            model_calls=self.model_calls + other.model_calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
            estimated=self.estimated + other.estimated,
        )

    def __sub__(self, earlier: Usage) -> Usage:
        unknown = self.cost_usd is None or earlier.cost_usd is None
        return Usage(
            models=self.models,
            model_calls=self.model_calls - earlier.model_calls,
            prompt_tokens=self.prompt_tokens - earlier.prompt_tokens,
            completion_tokens=self.completion_tokens - earlier.completion_tokens,
            cost_usd=None if unknown else (self.cost_usd or 0.0) - (earlier.cost_usd or 0.0),
            estimated=self.estimated - earlier.estimated,
        )


class Approval(BaseModel):
    """A person's yes or no to a tool call of a model; a bare `true` or `false` is one as well."""

    model_config = ConfigDict(extra="forbid")

    approve: StrictBool
    reason: str = Field(default="", max_length=MESSAGE_LIMIT)
    """What the model is told where the answer is no."""

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, given: Any) -> Any:
        return {"approve": given} if isinstance(given, bool) else given


class WantedApproval(BaseModel):
    """A tool call of a model that waits for a person's yes or no."""

    tool_call: str
    """The id of the tool call in the conversation."""
    tool: str
    arguments: Any
    """As the model gave them; long ones in short."""
    digest: str
    """Of all of the arguments."""


class Suspended(BaseModel):
    """What comes back from a call that can't go on without approvals: it holds no worker while it waits for them."""

    suspended: Literal[True] = True
    wants: list[WantedApproval]
    progress: dict[str, Any]
    """How far it has come, as `Progress.record` writes it."""
    usage: Usage = Field(default_factory=Usage)
    """What it has used so far."""


class Resumption(BaseModel):
    """What a suspended call is to go on with."""

    progress: dict[str, Any]
    approvals: dict[str, Approval]
    """By the ids of the tool calls."""
    used: Usage = Field(default_factory=Usage)
    """What it has used before; its end tells of this too."""


def suspended_in(data: str | None) -> Suspended | None:
    """Return what a call waits for, if the JSON that came back from it is not a `CallReply` but that."""
    return Suspended.model_validate_json(data) if data and data.startswith('{"suspended":') else None


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
    resumption: Resumption | None = None
    """Where a call that was suspended goes on; None at its beginning."""
    arguments: A


class Receipt(BaseModel):
    """What a call took."""

    usage: Usage = Field(default_factory=Usage)
    position: Position | None = None
    """Where its instance's memory stands afterwards; None where nothing was added."""
    waited_s: float = 0.0
    """Seconds from when the attempt could have begun until it did: how full the queue is."""
    took_s: float = 0.0
    """Seconds that the attempt took."""


class CallReply(Receipt, Generic[R]):
    """What came back from a call."""

    model_config = CROSSING

    value: R


def method_name(agent: str, method: str) -> str:
    """Return the activity type of an agent method, which is also the name of a prompt's or task's queue."""
    return f"{agent}.{method}"


def digest_of(content: str) -> str:
    """Return some hexadecimal digits that other content does not have."""
    return blake2b(content.encode(), digest_size=8).hexdigest()


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the text within a number of characters: its head, its tail, and how much is missing between them."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 4
    return f"{text[:head]} … [{len(text) - head - tail} characters cut] … {text[-tail:]}"


def explain(error: ValidationError, *, skip: tuple[str, ...] = ()) -> str:
    """Say in one line what pydantic refused: `'verdict': Input should be 'PASS' or 'NEEDS_FIXES'`.

    Args:
        error: What pydantic raised.
        skip: Leading parts of the locations to leave out, such as the envelope's own fields, in their order.
    """
    try:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    except Exception as odd:  # a validator's error says itself what is wrong, and may fail to
        return f"a validator does not say what is wrong: {type(odd).__name__}"
    return clip("; ".join(_explain_one(detail, skip) for detail in details), 1_000)


def _explain_one(detail: Any, skip: tuple[str, ...]) -> str:
    where = [str(part) for part in detail["loc"]]
    for part in skip:
        where = where[1:] if where[:1] == [part] else where
    place = f"'{'.'.join(where)}': " if where else ""
    return f"{place}{detail['msg'].removeprefix('Value error, ')}"


LEDGER = "ledger"
"""The workflow type of what keeps the pages of a run's ledger; its id is `<workflow id>/ledger`."""

KEEP_PAGE_ACTIVITY = "keep_page"
"""The local activity by which a run has a page of its ledger kept."""


PAGES_ENCODING = b"json/pages-of-a-ledger"
"""The encoding of a payload that stands for pages of a ledger in the inputs of a run."""


class PagesKept(BaseModel):
    """Where pages of a ledger are kept, and which."""

    workflow_id: str
    pages: list[str] = []
    """Their names, in order: digests of what they hold."""
    size: int = 0
    """Bytes in all of them."""


SHARD = "scatter_shard"
"""The workflow type of a part of a large scatter; its id is
`<workflow id>/<step>.<first item>-<last item>-<digest>`."""

POSITIONS = -1
"""In place of a number in a shard's results: what follows is where its instances stand."""

CONVERSATION = "conversation"
"""The workflow type of an instance's memory; its id is `<workflow id>/<instance>`."""


class Owner(BaseModel):
    """The run that something belongs to and ends with."""

    workflow_id: str
    run_id: str
    """The first run of its chain: a reset, or continuing as new, does not change it."""


OWNER_MEMO = "owner"
"""The field of a memo that names the run that a workflow ends with."""

TOLD_MEMO = "told"
"""The field of a conversation's memo that counts what people told the agent. To look there costs no query."""


class Tell(BaseModel):
    """What a person told an agent, by its number in the conversation."""

    number: int
    text: str


class Recall(BaseModel):
    """What a call wants to know of a conversation."""

    commit: str
    """The position from which it goes on."""
    run: str
    """The run that makes it, by the first of its chain."""
    call: str
    """The call, the same for all of its attempts."""
    newest: bool = False
    """Whether to go on from what other runs have said since: such an instance outlives its runs."""


class Recollection(BaseModel):
    """What a conversation tells the call that is about to go on with it."""

    known: bool
    """Whether it holds the position; if not, an earlier run of it may."""
    missing: str = ""
    """The position up to which it does not know the path; an earlier run of it may."""
    earlier_run: str | None = None
    commit: str = ""
    """The position from which the call goes on."""
    packed: str = ""
    """What the model is to be shown of it, as `Transcript.pack` writes it."""
    state: Any = None
    heard: int = 0
    """How much of what people told was heard."""
    committed: str | None = None
    """The position that an earlier attempt of the call has reached, which died afterwards."""
    said: str = ""
    """What it said, packed."""


class Ground(BaseModel):
    """What a conversation stands on that was said elsewhere."""

    commit: str
    packed: str
    state: Any = None
    heard: int = 0
    earlier_run: str | None = None


class Commit(BaseModel):
    """What a call adds to its instance's conversation. It is added once, however often it is sent."""

    id: str
    after: str
    """The position at which the call was made."""
    run: str
    call: str
    base: int
    """The number of the first entry on the path to it."""
    entries: list[dict[str, Any]] = []
    packed: str = ""
    """The entries instead, as `Transcript.pack` writes them, where they are too many bytes to be sent as they are."""
    heard: int = 0
    """How much of what people told was heard, counted from the conversation's beginning."""
    state: Any = None
    """The agent's state; None if it did not change."""
    failed: bool = False
    """Whether the call has failed: it is to be read, and not to be remembered."""
    newest: bool = False
    """As in `Recall`."""


class TranscriptPage(BaseModel):
    """A part of a transcript, in order."""

    entries: list[dict[str, Any]]
    next: int | None
    """What to ask for `after` to read on; None at the end."""
    earlier_run: str | None
    """The run id under which what was said before can be read; None if this is the beginning."""


def conversation_id(workflow_id: str, instance: str) -> str:
    """Return the workflow id of the conversation of an instance of a run."""
    return f"{workflow_id}/{instance}"
