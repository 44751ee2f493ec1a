"""An instance's durable memory: a workflow of its own, `textkit/coder-1`, that is added to once per call.

It is read by queries, which leave no trace in its history, and written by signals, one a call; so every message is in
the history once. What is added names the position after which it was said: a call that goes on from an earlier one, as
in a run that was reset, begins a branch. It continues as new by itself, carrying on what the model is still shown; what
came before stays readable in the earlier run.
"""

from __future__ import annotations

import json
from typing import NoReturn

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.contract.conversations import (
    OWNER_MEMO,
    TOLD_MEMO,
    Commit,
    Ground,
    Owner,
    Recall,
    Recollection,
    Tell,
    TranscriptPage,
)
from activities.contract.names import CONVERSATION
from activities.memory.branches import BEGINNING, Branches, Kept, numbered
from activities.memory.transcript import Entry, Transcript, shift
from workflows.memory.said import in_markdown

PAGE_BYTES = 1_000_000
"""Bytes of entries in one answer to the query `transcript`; the server takes 2 MB."""

CONTINUE_AT_EVENTS = 10_000
"""Events after which a conversation continues as new. A server ends it at 51,200, and would have it continue at 4,096;
but what it carries on is written anew each time, and a call takes but four events."""

CONTINUE_AT_BYTES = 10_000_000
"""Bytes of history after which it does so; a server ends it at 50 MB."""

SHOWN_IN_DETAILS = 20
"""How many of the last entries the Web UI shows."""


class ConversationState(BaseModel):
    """What a conversation begins with: to whom it belongs, and what it takes along when it continues as new."""

    owner: Owner | None = None
    """The run that it ends with; None if it outlives its runs."""
    ground: Ground | None = None
    shown: int = 0
    """How many entries are in the transcripts of its earlier runs."""
    tells: list[str] = []


@workflow.defn(name=CONVERSATION, sandboxed=False)
class Conversation:
    """The memory of one instance."""

    @workflow.init
    def __init__(self, carried: ConversationState | None = None) -> None:
        before = carried or ConversationState()
        self._branches = Branches()
        self._shown: list[Entry] = []
        self._ends: dict[str, int] = {}
        self._last = ""
        self._ended = False
        self._goes_on_elsewhere = False
        self._earlier_run: str | None = None
        self._heard = self._tells_from = 0
        self._owner = before.owner
        self._first_here = before.shown
        if before.ground is not None:
            self._take_ground(before.ground)
        self._tells = list(before.tells)

    @workflow.run
    async def run(self, carried: ConversationState | None = None) -> str:
        """Remember until the run that this belongs to has ended."""
        await workflow.wait_condition(lambda: self._ended or _is_long())
        await workflow.wait_condition(workflow.all_handlers_finished)
        if not self._ended:
            self._continue()
        return f"{self._first_here + len(self._shown)} entries"

    @workflow.signal(description="Belong to a run, which goes on from a position.")
    def begin(self, owner: Owner) -> None:
        """Belong to a run."""
        if owner != self._owner:
            self._owner = owner
            self._tells_from += len(self._tells)
            self._heard = self._tells_from
            self._tells.clear()
            workflow.upsert_memo({OWNER_MEMO: owner.model_dump()})

    @workflow.signal(description="What the next commit stands on, where that was said elsewhere.")
    def stand_on(self, ground: Ground) -> None:
        """Take over what is remembered at a position that was reached elsewhere."""
        if not self._branches.knows(ground.commit):
            self._take_ground(ground)

    @workflow.signal(description="Add what a call said; once, however often it is sent.")
    def commit(self, commit: Commit) -> None:
        """Add the entries of a call."""
        said = Transcript.unpack(commit.packed).entries() if commit.packed else commit.entries
        after, base = commit.after, commit.base
        if commit.newest and not commit.failed:
            after = self._branches.newest(commit.after, commit.run)
            base = self._branches.remembered(after).next
        entries = tuple(self._with_tell(entry) for entry in shift(said, commit.base, base - commit.base))
        kept = Kept(commit.id, after, commit.call, commit.run, base, entries, commit.state, commit.failed)
        if self._branches.add(kept):
            self._show(kept)
            self._hear(commit.heard)

    @workflow.update(description="Tell the agent something; it hears it before its next turn.")
    def tell(self, text: str = "") -> str:
        """Put a person's message before the agent's next turn."""
        self._tells.append(text)
        workflow.upsert_memo({TOLD_MEMO: self._tells_from + len(self._tells)})
        return "It will be heard before the next turn."

    @tell.validator
    def _check_tell(self, text: str = "") -> None:
        if not isinstance(text, str) or not text.strip():
            raise ApplicationError("tell takes one non-empty text, as in --input '\"Use only the standard library.\"'")
        if self._ended:
            raise ApplicationError("The run that this conversation belongs to has ended; nobody would hear it.")

    @workflow.signal(description="End, if this still belongs to that run.")
    def end(self, owner: Owner) -> None:
        """End the conversation, which stays readable."""
        self._ended = self._ended or owner == self._owner

    @workflow.query(description='What was said, in order: {"after": number} reads on from there.')
    def transcript(self, after: int = 0) -> TranscriptPage:
        """Return entries that were added in this run of the conversation, and where to find earlier ones.

        They are in the order in which they were said. The note `branch` says after which of them, by their number, it
        went on when the run was taken back.
        """
        page: list[Entry] = []
        size = 0
        first = max(after - self._first_here, 0)
        for number, entry in enumerate(self._shown[first:], first + self._first_here):
            size += len(json.dumps(entry))
            if page and size > PAGE_BYTES:
                return TranscriptPage(
                    entries=page, first=first + self._first_here, next=number, earlier_run=self._earlier_run
                )
            page.append(entry)
        unheard = [] if self._goes_on_elsewhere else self._unheard()
        waiting = [{"role": "user", "content": text, "told": True, "heard": False} for text in unheard]
        return TranscriptPage(
            entries=[*page, *waiting], first=first + self._first_here, next=None, earlier_run=self._earlier_run
        )

    @workflow.query(description="What the next call of the agent needs to know.")
    def recall(self, asked: Recall) -> Recollection:
        """Return what a call is to go on with."""
        position = self._branches.newest(asked.commit, asked.run) if asked.newest else asked.commit
        if not self._branches.knows(position):
            return Recollection(known=False, earlier_run=self._earlier_run)
        made = self._branches.made_by(asked.call, position)
        return Recollection(
            known=True,
            missing=self._branches.missing(position),
            earlier_run=self._earlier_run,
            commit=position,
            packed=self._branches.remembered(position).pack(),
            state=self._branches.state(position),
            heard=self._heard,
            committed=made.id if made else None,
            said=numbered(made.entries, made.first).pack() if made else "",
        )

    @workflow.query(description="What people told the agent that it has not heard yet.")
    def tells(self) -> list[Tell]:
        """Return the tells that wait."""
        return [Tell(number=number, text=text) for number, text in enumerate(self._unheard(), self._heard)]

    def _unheard(self) -> list[str]:
        return self._tells[self._heard - self._tells_from :]

    def _hear(self, heard: int) -> None:
        self._heard = min(max(self._heard, heard), self._tells_from + len(self._tells))

    def _with_tell(self, entry: Entry) -> Entry:
        """Put the text into the entry of a tell, which is sent without it, as it is in the history already."""
        if not isinstance(entry.get("told"), int):
            return entry
        place = entry["told"] - self._tells_from
        text = self._tells[place] if 0 <= place < len(self._tells) else ""
        return {"role": "user", "content": text, "told": True}

    def _take_ground(self, ground: Ground) -> None:
        remembered = Transcript.unpack(ground.packed) if ground.packed else Transcript()
        self._branches.stand_on(ground.commit, remembered, ground.state)
        self._ends[ground.commit] = self._first_here + len(self._shown)
        self._last = ground.commit
        self._earlier_run = self._earlier_run or ground.earlier_run
        if not self._shown:
            self._heard = self._tells_from = ground.heard

    def _show(self, kept: Kept) -> None:
        if kept.failed:
            self._shown.append({"note": "failed", "entries": list(kept.entries)})
        else:
            if kept.after != self._last:
                self._shown.append({"note": "branch", "after": self._ends.get(kept.after, 0)})
            self._shown.extend(kept.entries)
            self._last = kept.id
            self._ends[kept.id] = self._first_here + len(self._shown)
        workflow.set_current_details("\n\n".join(in_markdown(entry) for entry in self._shown[-SHOWN_IN_DETAILS:]))

    def _continue(self) -> NoReturn:
        head = self._branches.head
        if self._branches.missing(head):  # what is known of it is not all: the next run has to ask this one
            head = BEGINNING
        ground = Ground(
            commit=head,
            packed=self._branches.remembered(head).pack(),
            state=self._branches.state(head),
            heard=self._heard,
            earlier_run=workflow.info().run_id,
        )
        shown = self._first_here + len(self._shown)
        carried = ConversationState(owner=self._owner, ground=ground, shown=shown, tells=self._unheard())
        self._goes_on_elsewhere = True  # where the tells wait; this run can still be read
        memo = {
            OWNER_MEMO: self._owner.model_dump() if self._owner else None,
            TOLD_MEMO: self._heard + len(carried.tells),
        }
        workflow.continue_as_new(carried, memo=memo)


def _is_long() -> bool:
    info = workflow.info()
    return (
        info.get_current_history_length() >= CONTINUE_AT_EVENTS or info.get_current_history_size() >= CONTINUE_AT_BYTES
    )
