"""How a call reaches its instance's memory: the conversation workflow, by name, or the object in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from temporalio import activity
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.contract import (
    CHOREOGRAPHY_QUEUE,
    CONVERSATION,
    END_CONVERSATIONS_ACTIVITY,
    LEDGER,
    PAYLOAD_LIMIT,
    RUN_GOES_ON_ACTIVITY,
    Commit,
    Recollection,
    conversation_id,
)
from activities.transcript import Entry, Transcript, with_short_results


@dataclass
class Recalled:
    """What an instance remembers when a call begins."""

    transcript: Transcript = field(default_factory=Transcript)
    state: Any = None
    committed: list[Entry] | None = None


class Memory(Protocol):
    """Where a call finds what was said before, and leaves what it says."""

    async def recall(self) -> Recalled:
        """Return what is remembered."""

    async def tells(self) -> Sequence[str]:
        """Return what people told the agent since its last call."""

    async def commit(self, base: int, entries: Sequence[Entry], heard: int, state: Any) -> None:
        """Remember a call: all of it, once."""


class Nothing:
    """The memory of a call that starts afresh and keeps nothing."""

    async def recall(self) -> Recalled:
        """Return nothing."""
        return Recalled()

    async def tells(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    async def commit(self, base: int, entries: Sequence[Entry], heard: int, state: Any) -> None:
        """Remember nothing."""


class InThisProcess(Nothing):
    """The memory of an agent that lives in this process, for as long as it does."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    async def recall(self) -> Recalled:
        """Return what was said."""
        return Recalled(Transcript(self.transcript.numbered, self.transcript.next))

    async def commit(self, base: int, entries: Sequence[Entry], heard: int, state: Any) -> None:
        """Remember it as long as the object."""
        self.transcript.add(entries)


class Durable(Nothing):
    """The memory of an instance of a run: its conversation workflow."""

    def __init__(self, client: Client, conversation: str, owner: str, step: str) -> None:
        """Reach a conversation.

        Args:
            client: Temporal's client.
            conversation: Its workflow id.
            owner: The run that it belongs to.
            step: The call for which it is reached: a name that no other call has, in whatever run.
        """
        self._client = client
        self._handle = client.get_workflow_handle(conversation)
        self._owner = owner
        self._step = step

    async def recall(self) -> Recalled:
        """Return what is remembered; begin the conversation if this is the first call of the instance."""
        known = await self._ask()
        if known is None or known.ended or known.owner != self._owner:
            await self._begin()
            known = await self._ask()
            assert known is not None
        committed = None if known.committed is None else Transcript.unpack(known.committed).entries()
        return Recalled(Transcript.unpack(known.packed), known.state, committed)

    async def tells(self) -> Sequence[str]:
        """Return what people told the agent that it has not heard yet."""
        heard: Sequence[str] = await self._handle.query("tells", result_type=list[str])
        return heard

    async def commit(self, base: int, entries: Sequence[Entry], heard: int, state: Any) -> None:
        """Append to the conversation; a commit that was made before is not made again."""
        commit = Commit(owner=self._owner, step=self._step, base=base, heard=heard, state=state)
        commit = commit.model_copy(update=_as_sent(entries))
        await self._handle.execute_update("append", commit, id=f"append {self._step}")

    async def _ask(self) -> Recollection | None:
        try:
            known: Recollection = await self._handle.query("recall", self._step, result_type=Recollection)
            return known
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _begin(self) -> None:
        """Make the conversation this run's; start it if it is not there, or no longer."""
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            CONVERSATION,
            id=self._handle.id,
            task_queue=CHOREOGRAPHY_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        await self._client.execute_update_with_start_workflow("begin", self._owner, start_workflow_operation=start)


READABLE_BYTES = 500_000
"""Up to this size a commit is sent as it is, for people to read in the UI; beyond, it is compressed."""


def _as_sent(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the part of a commit that holds the entries: never more than the server takes."""
    if len(json.dumps(entries)) <= READABLE_BYTES:
        return {"entries": list(entries)}
    packed = Transcript(enumerate(entries)).pack()
    if len(packed) > PAYLOAD_LIMIT:
        packed = Transcript(enumerate(with_short_results(entries))).pack()
    return {"packed": packed}


def keeper_activities(client: Client) -> list[Callable[..., Awaitable[Any]]]:
    """Return the local activities of a run's keeper."""

    @activity.defn(name=RUN_GOES_ON_ACTIVITY)
    async def run_goes_on(workflow_id: str, owner: str) -> bool:
        described = await client.get_workflow_handle(workflow_id).describe()
        info = described.raw_description.workflow_execution_info
        return described.status == WorkflowExecutionStatus.RUNNING and info.first_run_id == owner

    @activity.defn(name=END_CONVERSATIONS_ACTIVITY)
    async def end_conversations(owner: str, workflow_id: str, instances: list[str]) -> None:
        places = asyncio.Semaphore(20)

        async def end(name: str) -> None:
            async with places:
                try:
                    await client.get_workflow_handle(conversation_id(workflow_id, name)).signal("end", owner)
                except RPCError as error:
                    if error.status != RPCStatusCode.NOT_FOUND:  # never begun, or ended already
                        raise

        await asyncio.gather(*map(end, [*instances, LEDGER]))

    return [run_goes_on, end_conversations]
