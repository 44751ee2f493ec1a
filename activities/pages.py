"""The pages of a run's ledger that are too many to be carried in its history: where they are kept, and read.

They are in the history of a workflow of their own, written once each. A run carries only a reference, which is replaced
by the pages when a worker reads the run's inputs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import PayloadCodec

from activities.contract import CHOREOGRAPHY_QUEUE, KEEP_PAGE_ACTIVITY, LEDGER, PAGES_ENCODING, PagesKept


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
        ledger = self.client.get_workflow_handle(kept.workflow_id)
        pages = [await ledger.query("page", number, result_type=bytes) for number in range(kept.count)]
        return Payload(metadata={"encoding": b"binary/plain"}, data=b"".join(pages))


def keep_page(client: Client) -> Callable[[PagesKept, bytes, str], Awaitable[None]]:
    """Return the local activity that keeps another page of a ledger."""

    @activity.defn(name=KEEP_PAGE_ACTIVITY)
    async def keep(before: PagesKept, page: bytes, owner: str) -> None:
        start: WithStartWorkflowOperation[object, object] = WithStartWorkflowOperation(
            LEDGER,
            owner,
            id=before.workflow_id,
            task_queue=CHOREOGRAPHY_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        await client.execute_update_with_start_workflow(
            "add", args=[before.count, page], start_workflow_operation=start, id=f"{owner} {before.count}"
        )

    return keep
