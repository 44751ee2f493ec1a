"""The limiter as a process reaches it: a workflow, which whoever asks first begins, and which ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from activities.contract.leases import Lease, NoLease, Report
from activities.contract.names import CHOREOGRAPHY_QUEUE, LEASE_UPDATE, LIMITER, limiter_id, of_team

_ANSWERED_IN = timedelta(seconds=5)
"""For longer a report is not waited for; there is a next one."""


@dataclass(frozen=True)
class Fleet:
    """All processes of a team that ask models with the same keys.

    Attributes:
        client: Temporal's client.
        team: Whose workers serve the limiters; empty for the plain queue.
    """

    client: Client
    team: str

    async def lease(self, name: str, report: Report) -> Lease:
        """Report to the limiter of a model and a key, and get a lease.

        Raises:
            NoLease: It does not answer.
        """
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            LIMITER,
            id=limiter_id(self.team, name),
            task_queue=of_team(self.team, CHOREOGRAPHY_QUEUE),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )
        try:
            leased: Lease = await self.client.execute_update_with_start_workflow(
                LEASE_UPDATE,
                report,
                start_workflow_operation=start,
                result_type=Lease,
                rpc_timeout=_ANSWERED_IN,
            )
        except (RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            raise NoLease(f"the limiter of {name} does not answer: {error}") from error
        return leased
