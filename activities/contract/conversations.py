"""What a call and its instance's conversation say to each other."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


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
    first: int = 0
    """The number of the first of them, or that of the one that comes next where there are none."""
    next: int | None
    """What to ask for `after` to read on; None at the end."""
    earlier_run: str | None
    """The run id under which what was said before can be read; None if this is the beginning."""
