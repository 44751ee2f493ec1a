"""The pages of a run's journal that are too many to be carried in its history: where they are kept, and read.

They are in the history of a workflow of their own, written once each. A run carries only a reference, which is replaced
by the pages when a worker reads the run's inputs. A page is known by its content, so that a run which is reset, and
remembers something else from then on, finds its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.conversations import OWNER_MEMO, Owner
from activities.contract.names import JOURNAL, KEEP_PAGE_ACTIVITY
from activities.contract.pages import PAGES_ENCODING, PagesKept


class PagesCodec(PayloadCodec):
    """Puts the pages in place of a reference, wherever inputs are read."""

    client: Client | None = None

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Change nothing."""
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Fetch pages where there is a reference."""
        return [await self._fetched(p) if p.metadata.get("encoding") == PAGES_ENCODING else p for p in payloads]

    async def _fetched(self, payload: Payload) -> Payload:
        if self.client is None:
            return payload
        try:
            kept = PagesKept.model_validate_json(payload.data)
        except ValidationError:  # nothing that a run has written
            return payload
        pages = await _read(self.client, kept)
        return Payload(metadata={"encoding": b"binary/plain"}, data=b"".join(pages))


async def _read(client: Client, kept: PagesKept) -> list[bytes]:
    journal = client.get_workflow_handle(kept.workflow_id)
    return [await journal.query("page", name, result_type=bytes) for name in kept.pages]


def keep_page(client: Client) -> Callable[[PagesKept, bytes, Owner], Awaitable[str]]:
    """Return the local activity that keeps another page of a journal, and tells the name of the page."""

    async def add(kept: PagesKept, page: bytes, owner: Owner) -> str:
        name = blake2b(page, digest_size=8).hexdigest()
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            JOURNAL,
            owner,
            id=kept.workflow_id,
            task_queue=activity.info().task_queue,
            memo={OWNER_MEMO: owner.model_dump()},
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        await client.execute_update_with_start_workflow("add", args=[name, page], start_workflow_operation=start)
        return name

    @activity.defn(name=KEEP_PAGE_ACTIVITY)
    async def keep(before: PagesKept, page: bytes, owner: Owner) -> str:
        if before.pages and not await _is_open(client, before.workflow_id):
            # It ended with the run, which was reset since: what the run still needs is kept anew.
            for earlier in await _read(client, before):
                await add(before, earlier, owner)
        return await add(before, page, owner)

    return keep


async def _is_open(client: Client, workflow_id: str) -> bool:
    try:
        described = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return described.status == WorkflowExecutionStatus.RUNNING
