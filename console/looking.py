"""A look at a run: how it is now, as it tells itself, or as the server does where it can't."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.border.washing import washed, washed_tree
from console.trouble import nobody_answers, troubles_of
from console.view import Sight
from workflows.shown.progress import Progress

RPC_TIMEOUT = timedelta(seconds=5)
# The client's own time limit ends a call as cancelled.
UNANSWERED = (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


async def look(client: Client, sight: Sight) -> None:
    """Bring what is known of a run up to date.

    Raises:
        RPCError: There is no such run, or the server does not answer.
    """
    handle = client.get_workflow_handle(sight.workflow_id)
    described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
    runs = described.status == WorkflowExecutionStatus.RUNNING
    troubles = await troubles_of(client, described) if runs else []
    if troubles:  # a run that is in trouble may take its time to answer
        sight.status, sight.troubles = described.status, troubles
    try:
        told = await handle.query("progress", result_type=Progress, rpc_timeout=RPC_TIMEOUT)
        sight.progress = Progress.model_validate(washed_tree(told.model_dump()))
    except WorkflowQueryFailedError as error:
        troubles.insert(0, _no_run(described.workflow_type, error.message))
    except RPCError as error:
        if "not found, known queries" in error.message:
            troubles.insert(0, _no_run(described.workflow_type, error.message))
        elif error.status not in UNANSWERED:
            troubles.insert(0, f"it can't be asked: {error.message}")
        elif not troubles:
            troubles = [await nobody_answers(client, described)]
    except ApplicationError as error:  # of another version
        troubles.insert(0, f"its progress can't be read: {error.message}")
    if described.status == WorkflowExecutionStatus.FAILED:
        sight.failure = await _failure(handle)
    sight.status, sight.troubles = described.status, troubles
    sight.began, sight.ended = described.start_time, described.close_time


async def _failure(handle: WorkflowHandle[Any, Any]) -> str:
    try:
        await handle.result(rpc_timeout=RPC_TIMEOUT)
    except WorkflowFailureError as error:
        return washed(str(error.cause))
    return ""


def _no_run(workflow_type: str, said: str) -> str:
    return f"it tells no progress: a workflow of type '{workflow_type}' is no choreography's run ({said})"
