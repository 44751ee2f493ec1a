"""An instance's durable memory: a workflow of its own, `textkit/coder-1`, that is appended to once per call.

It is read by queries, which leave no trace in its history, and written by updates, each of which does; so every message
is in the history once. It continues as new by itself, carrying on what the model is still shown; what came before stays
readable in the earlier run.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, NoReturn

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.contract import CONVERSATION, Commit, Recollection, TranscriptPage
from activities.transcript import Entry, Transcript, shift

PAGE_BYTES = 1_000_000
"""Bytes of entries in one answer to the query `transcript`; the server takes 2 MB."""

CONTINUE_AT_EVENTS = 10_000
"""Events after which a conversation continues as new. A server ends it at 51,200, and would have it continue at 4,096;
but what it carries on is written anew each time, and a call takes but five events."""

CONTINUE_AT_BYTES = 10_000_000
"""Bytes of history after which it does so; a server ends it at 50 MB."""

STEPS_REMEMBERED = 100
"""How many of the last steps are known, to tell a commit that is sent again. An instance has one call at a time."""

SHOWN_IN_DETAILS = 20
"""How many of the last entries the Web UI shows."""


class Carried(BaseModel):
    """What a conversation takes along when it continues as new."""

    owner: str = ""
    since: int = 0
    packed: str = ""
    state: Any = None
    steps: list[tuple[str, int, int]] = []
    tells: list[str] = []
    earlier_run: str | None = None


@workflow.defn(name=CONVERSATION, sandboxed=False)
class Conversation:
    """The memory of one instance."""

    @workflow.init
    def __init__(self, carried: Carried | None = None) -> None:
        before = carried or Carried()
        self._owner = before.owner
        self._since = before.since
        self._entries = Transcript.unpack(before.packed) if before.packed else Transcript()
        self._first_here = self._entries.next
        self._state = before.state
        self._steps = deque(before.steps, STEPS_REMEMBERED)
        self._tells = list(before.tells)
        self._earlier_run = before.earlier_run
        self._ended = False

    @workflow.run
    async def run(self, carried: Carried | None = None) -> str:
        """Remember until the run that this belongs to has ended."""
        await workflow.wait_condition(lambda: self._ended or _is_long())
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self._ended:
            self._continue()
        return f"{self._entries.next} entries"

    @workflow.update(description="Make this the conversation of a run; a new run starts afresh.")
    def begin(self, owner: str) -> None:
        """Belong to a run."""
        if owner != self._owner:
            self._owner = owner
            self._since = self._entries.next
            self._state = None
            self._tells.clear()

    @workflow.update(description="Add what a call said; once per step, however often it is sent.")
    def append(self, commit: Commit) -> None:
        """Add the entries of a call."""
        if commit.owner != self._owner:
            raise ApplicationError("This conversation belongs to another run by now.", non_retryable=True)
        if any(step == commit.step for step, _, _ in self._steps):
            return
        said = Transcript.unpack(commit.packed).entries() if commit.packed else commit.entries
        entries = shift(said, commit.base, self._entries.next - commit.base)
        first = self._entries.next
        self._entries.add(_with_tells(entry, self._tells) for entry in entries)
        del self._tells[: commit.heard]
        self._steps.append((commit.step, first, self._entries.next))
        if commit.state is not None:
            self._state = commit.state
        workflow.set_current_details(self._in_markdown())

    @workflow.update(description="Tell the agent something; it hears it before its next turn.")
    def tell(self, text: str) -> str:
        """Put a person's message before the agent's next turn."""
        self._tells.append(text)
        return "It will be heard before the next turn."

    @tell.validator
    def _check_tell(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ApplicationError("tell takes one non-empty text, as in --input '\"Use only the standard library.\"'")
        if self._ended:
            raise ApplicationError("The run that this conversation belongs to has ended; nobody would hear it.")

    @workflow.signal(description="End, if this still belongs to that run.")
    def end(self, owner: str) -> None:
        """End the conversation, which stays readable."""
        self._ended = self._ended or owner == self._owner

    @workflow.query(description='What was said, in order: {"after": number} reads on from there.')
    def transcript(self, after: int = 0) -> TranscriptPage:
        """Return entries that were added in this run of the conversation, and where to find earlier ones."""
        page: list[Entry] = []
        size = 0
        for number, entry in self._entries.since(max(after, self._first_here)).numbered:
            size += len(json.dumps(entry))
            if page and size > PAGE_BYTES:
                return TranscriptPage(entries=page, next=number, earlier_run=self._earlier_run)
            page.append(entry)
        waiting = [{"role": "user", "content": text, "told": True, "heard": False} for text in self._tells]
        return TranscriptPage(entries=[*page, *waiting], next=None, earlier_run=self._earlier_run)

    @workflow.query(description="What the next call of the agent needs to know.")
    def recall(self, step: str) -> Recollection:
        """Return what a call is to go on with."""
        return Recollection(
            owner=self._owner,
            ended=self._ended,
            packed=self._live().pack(),
            state=self._state,
            committed=self._committed(step),
        )

    @workflow.query(description="What people told the agent that it has not heard yet.")
    def tells(self) -> list[str]:
        """Return the tells that wait."""
        return self._tells

    def _continue(self) -> NoReturn:
        carried = self._carried()
        self._tells = []  # they wait in the next run, and this one can still be read
        workflow.continue_as_new(carried)

    def _live(self) -> Transcript:
        return self._entries.since(self._since).live()

    def _committed(self, step: str) -> str | None:
        for known, first, end in self._steps:
            if known == step:
                return Transcript((n, entry) for n, entry in self._entries.since(first).numbered if n < end).pack()
        return None

    def _carried(self) -> Carried:
        return Carried(
            owner=self._owner,
            since=self._since,
            packed=self._live().pack(),
            state=self._state,
            steps=list(self._steps),
            tells=self._tells,
            earlier_run=workflow.info().run_id,
        )

    def _in_markdown(self) -> str:
        last = self._entries.numbered[-SHOWN_IN_DETAILS:]
        return "\n\n".join(_in_markdown(entry) for _, entry in last)


def _is_long() -> bool:
    info = workflow.info()
    return (
        info.get_current_history_length() >= CONTINUE_AT_EVENTS or info.get_current_history_size() >= CONTINUE_AT_BYTES
    )


def _with_tells(entry: Entry, tells: list[str]) -> Entry:
    """Put the text into the entry of a tell, which is sent without it, as it is in the history already."""
    if "told" not in entry:
        return entry
    return {"role": "user", "content": tells[entry["told"]], "told": True}


def _in_markdown(entry: Entry) -> str:
    if note := entry.get("note"):
        return f"*{note}: {_clipped(entry.get('text', ''))}*"
    calls = ", ".join(f"`{call['function']['name']}`" for call in entry.get("tool_calls") or ())
    said = _clipped(str(entry.get("content") or ""))
    return f"**{entry['role']}**{' calls ' + calls if calls else ''}: {said}"


def _clipped(text: str, limit: int = 500) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
