"""How a call reaches its instance's memory where that is durable: the conversation workflow, by name.

A call is told where its instance stands and tells where it stands afterwards, so that the run, and nobody else, decides
what is remembered. A process trusts its own copy of a conversation where it stands there: then nothing is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.conversations import OWNER_MEMO, TOLD_MEMO, Commit, Ground, Owner, Recall, Recollection, Tell
from activities.contract.envelope import Position
from activities.contract.limits import Room
from activities.contract.names import CHOREOGRAPHY_QUEUE, CONVERSATION
from activities.contract.text import digest_of
from activities.errors import MemoryLost
from activities.memory.branches import BEGINNING
from activities.memory.port import Nothing, Recalled
from activities.memory.transcript import Entry, Transcript, with_short_results

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copy:
    """What this process knows of a conversation.

    Attributes:
        commit: The position at which it is so.
        transcript: What a model is still shown.
        state: The agent's state.
        heard: How much of what people told was heard.
        run_id: In which of its runs the conversation holds that position, as far as it is known.
    """

    commit: str
    transcript: Transcript
    state: Any = None
    heard: int = 0
    run_id: str = ""


class Copies:
    """The conversations that this process knows, the last ones of each, up to a size."""

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._copies: OrderedDict[str, tuple[Copy, int]] = OrderedDict()
        self._size = 0

    def at(self, conversation: str, commit: str) -> Copy | None:
        """Return what is known of a conversation at a position; None if that is not known."""
        copy, _ = self._copies.get(conversation, (None, 0))
        if copy is None or copy.commit != commit:
            return None
        self._copies.move_to_end(conversation)
        return copy

    def keep(self, conversation: str, copy: Copy) -> None:
        """Know a conversation at another position than before; forget those that were not asked for longest."""
        self.forget(conversation)
        size = len(json.dumps([copy.transcript.numbered, copy.state]))
        self._copies[conversation] = copy, size
        self._size += size
        while self._size > self._most:
            self.forget(next(iter(self._copies)))

    def forget(self, conversation: str) -> None:
        """Know nothing of a conversation."""
        _, size = self._copies.pop(conversation, (None, 0))
        self._size -= size


COPIES = Copies(64_000_000)
"""What this process knows of conversations."""


class Durable(Nothing):
    """The memory of an instance of a run: its conversation workflow."""

    def __init__(
        self,
        client: Client,
        conversation: str,
        owner: Owner,
        call: str,
        *,
        position: Position = Position(),  # noqa: B008 (it is never changed)
        attempt: int = 1,
        outlives: bool = False,
        queue: str = CHOREOGRAPHY_QUEUE,
        room: Room = Room(),  # noqa: B008 (it is never changed)
    ) -> None:
        """Reach a conversation.

        Args:
            client: Temporal's client.
            conversation: Its workflow id.
            owner: The run that makes the call.
            call: The call for which it is reached: a name that no other call has, in whatever run.
            position: Where the instance stands, as far as the run knows.
            attempt: Which attempt of the call this is, from 1.
            outlives: Whether the conversation goes on when the run has ended, and other runs add to it.
            queue: The task queue of those that serve it.
            room: How large a payload may be.
        """
        self._client = client
        self._queue = queue
        self._room = room
        self._handle: WorkflowHandle[Any, Any] = client.get_workflow_handle(conversation)
        self._owner = owner
        self._call = call
        self._from = position
        self._attempt = attempt
        self._outlives = outlives
        self._known = Copy(position.commit, Transcript())
        self._ground: Ground | None = None
        self._run_id = ""
        self._told: Sequence[Tell] = ()

    async def recall(self) -> Recalled:
        """Return what is remembered; begin the conversation if this is the first call of the instance.

        Raises:
            MemoryLost: The server does not have the conversation any more.
        """
        is_first = not self._from.commit and not self._outlives
        if is_first and self._attempt == 1:
            if not await self._begin_new():
                await self._begin()
            return Recalled()
        copy = None if self._outlives or self._attempt > 1 else COPIES.at(self._handle.id, self._from.commit)
        if copy is not None:
            self._known = copy
            return Recalled(copy.transcript, copy.state)
        if is_first or self._outlives:
            await self._begin()
        found = await self._ask()
        self._known = Copy(found.commit, Transcript.unpack(found.packed), found.state, found.heard)
        if found.committed:
            self._reach(found.committed)
        committed = Transcript.unpack(found.said).entries() if found.committed else None
        return Recalled(self._known.transcript, found.state, committed)

    async def tells(self) -> Sequence[str]:
        """Return what people told the agent that it has not heard yet; only if there is something is it asked for."""
        try:
            described = await self._handle.describe()
            self._look_at(described.run_id)
            told = await described.memo_value(TOLD_MEMO, 0)
            if told > self._known.heard + len(self._told):
                self._told = await self._handle.query("tells", result_type=list[Tell])
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # it was terminated, and nobody can tell it anything
                raise
        return [tell.text for tell in self._told]

    def _look_at(self, run_id: str) -> None:
        """Note in which run the conversation now is: one that was begun since the copy was made may not know of it."""
        if self._known.run_id and self._known.run_id != run_id and self._ground is None:
            self._ground = self._own_ground()
        self._run_id = run_id

    async def commit(
        self, base: int, entries: Sequence[Entry], heard: int, state: Any, *, failed: bool = False
    ) -> None:
        """Append to the conversation; a commit that was made before is not made again."""
        if heard > len(self._told):  # by an earlier attempt
            self._told = await self._handle.query("tells", result_type=list[Tell])
        commit = Commit(
            id=f"{digest_of(self._call)}.{'failed' if failed else self._attempt}",
            after=self._known.commit,
            run=self._owner.run_id,
            call=self._call,
            base=base,
            heard=self._told[heard - 1].number + 1 if heard else self._known.heard,
            state=state,
            failed=failed,
            newest=self._outlives,
        )
        counted = [{**e, "told": self._told[e["told"]].number} if "told" in e else e for e in entries]
        await self._send(commit.model_copy(update=await asyncio.to_thread(_as_sent, counted, self._room)))
        if failed:
            return
        self._reach(commit.id)
        said = [{**e, "content": self._told[e["told"]].text} if "told" in e else e for e in entries]
        transcript = self._known.transcript.plus(said).live()
        kept = self._known.state if state is None else state
        run_id = self._run_id or self._known.run_id
        COPIES.keep(self._handle.id, Copy(commit.id, transcript, kept, commit.heard, run_id))

    def _reach(self, commit: str) -> None:
        self.position = Position(commit=commit, conversation=self._handle.id)

    async def _ask(self) -> Recollection:
        """Ask the conversation that holds the position: an earlier run of it, or that of a run which was forked."""
        asked = Recall(commit=self._from.commit, run=self._owner.run_id, call=self._call, newest=self._outlives)
        place = self._from.conversation or self._handle.id
        found, run_id = await self._find(place, None, asked)
        is_elsewhere = run_id is not None or place != self._handle.id or bool(found.missing)
        while found.missing:
            before, _ = await self._find(place, found.earlier_run, asked.model_copy(update={"commit": found.missing}))
            found = _joined(before, found)
        if is_elsewhere:
            self._ground = _ground(found)
        return found

    async def _find(self, place: str, run_id: str | None, asked: Recall) -> tuple[Recollection, str | None]:
        """Return what a conversation tells of a position, and which of its runs does, from one on back."""
        seen = {run_id}
        while True:
            handle: WorkflowHandle[Any, Any] = self._client.get_workflow_handle(place, run_id=run_id)
            try:
                found: Recollection = await handle.query("recall", asked, result_type=Recollection)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    raise self._lost(place) from error
                raise
            if found.known:
                return found, run_id
            if found.earlier_run is None or found.earlier_run in seen:
                raise self._lost(place)
            run_id = found.earlier_run
            seen.add(run_id)

    def _lost(self, place: str) -> MemoryLost:
        return MemoryLost(
            f"the conversation {place} does not hold what the instance remembered (position {self._from.commit}): it "
            "was deleted, or the server keeps it no longer. Start the run anew, or fork it from an earlier step."
        )

    async def _begin_new(self) -> bool:
        """Start the conversation if there has never been one of its name; return whether that was so."""
        try:
            await self._start(
                None,
                {
                    "id_conflict_policy": WorkflowIDConflictPolicy.FAIL,
                    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
                },
            )
        except WorkflowAlreadyStartedError:
            return False
        return True

    async def _begin(self) -> None:
        """Make the conversation this run's; start it if it is not there, or no longer."""
        signal = {} if self._outlives else {"start_signal": "begin", "start_signal_args": [self._owner]}
        before = await self._life_before()
        ground = Ground(commit=BEGINNING, packed="", **before) if before else None
        await self._start(ground, signal)

    async def _send(self, commit: Commit) -> None:
        """Send a commit, and before it what it stands on, if the conversation does not have that."""
        try:
            if self._ground is not None:
                await self._handle.signal("stand_on", self._ground)
            await self._handle.signal("commit", commit)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            # It has ended: with its run, which was reset since, or by somebody's hand.
            ground = self._ground or self._own_ground()
            ground = ground.model_copy(update=await self._life_before())
            await self._start(ground, {"start_signal": "commit", "start_signal_args": [commit]})

    def _own_ground(self) -> Ground:
        known = self._known
        return Ground(commit=known.commit, packed=known.transcript.pack(), state=known.state, heard=known.heard)

    async def _life_before(self) -> dict[str, Any]:
        """Return what one that is begun now is to know of this run's conversation before it, as when that was reset.

        It is the run of it, and up to where what people told was numbered there. One that is still open may have ended
        before the next is begun; as long as it is open, none is.
        """
        try:
            described = await self._handle.describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return {}
            raise
        if not self._outlives and await described.memo_value(OWNER_MEMO, None) != self._owner.model_dump():
            return {}
        return {"earlier_run": described.run_id, "heard": await described.memo_value(TOLD_MEMO, 0)}

    async def _start(self, ground: Ground | None, options: dict[str, Any]) -> None:
        owner = None if self._outlives else self._owner.model_dump()
        carried = {"owner": owner, "ground": ground and ground.model_dump(mode="json")}
        if_it_is_there = {
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
            "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        }
        await self._client.start_workflow(
            CONVERSATION,
            carried,
            id=self._handle.id,
            task_queue=self._queue,
            memo={OWNER_MEMO: owner} if owner else None,
            **(if_it_is_there | options),
        )


def _ground(found: Recollection) -> Ground:
    return Ground(commit=found.commit, packed=found.packed, state=found.state, heard=found.heard)


def _joined(before: Recollection, later: Recollection) -> Recollection:
    """Return what two runs of a conversation tell of a position, the second of which knows the end of the path."""
    first, rest = Transcript.unpack(before.packed), Transcript.unpack(later.packed)
    whole = Transcript([*first.numbered, *rest.numbered], rest.next).live()
    known = {
        "packed": whole.pack(),
        "state": before.state if later.state is None else later.state,
        "missing": before.missing,
        "earlier_run": before.earlier_run,
    }
    return later.model_copy(update=known)


READABLE_BYTES = 500_000
"""Up to this size a commit is sent as it is, for people to read in the UI; beyond, it is compressed."""


def _as_sent(entries: Sequence[Entry], room: Room) -> dict[str, Any]:
    """Return the part of a commit that holds the entries: never more than there is room for."""
    if len(json.dumps(entries)) <= READABLE_BYTES:
        return {"entries": list(entries)}
    packed = Transcript(enumerate(entries)).pack()
    if not room.takes(len(packed)):
        packed = Transcript(enumerate(with_short_results(entries))).pack()
    return {"packed": packed}
