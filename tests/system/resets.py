"""Resetting runs, what they consist of afterwards, and what of them is still open."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client

Histories = list[tuple[str, Sequence[HistoryEvent]]]


async def chain(client: Client, workflow_id: str) -> Histories:
    """Return the run ids and histories of which a run consists, from its beginning on to where it now is."""
    found: Histories = []
    run_id = (await client.get_workflow_handle(workflow_id).describe()).run_id
    while run_id:
        events = (await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()).events
        found.insert(0, (run_id, events))
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return found


def tasks_of(histories: Histories) -> list[tuple[str, int]]:
    """Return what a run can be reset to: run id and event of the end of each workflow task."""
    return [
        (run_id, event.event_id)
        for run_id, events in histories
        for event in events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]


async def reset(client: Client, workflow_id: str, run_id: str, event_id: int) -> str:
    """Reset a run to a workflow task, as the Web UI's button does; return the new run's id."""
    response = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="a test",
            workflow_task_finish_event_id=event_id,
            request_id=f"{run_id} {event_id} {time.monotonic()}",
        )
    )
    return response.run_id


def model_calls_after(histories: Histories, event_id: int) -> int:
    """Return how many answers of models the calls used that ended after an event of the first of some histories."""
    return sum(
        json.loads(event.activity_task_completed_event_attributes.result.payloads[0].data)["usage"]["model_calls"]
        for number, (_, events) in enumerate(histories)
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        and (number > 0 or event.event_id > event_id)
    )


async def open_workflows(client: Client, workflow_id: str) -> list[str]:
    """Return what is open of a run: itself, and everything that is named after it."""
    return [
        found.id
        async for found in client.list_workflows("ExecutionStatus = 'Running'")
        if found.id == workflow_id or found.id.startswith(f"{workflow_id}/")
    ]


async def nothing_is_open(client: Client, workflow_id: str, *, seconds: float = 60.0) -> None:
    """Wait until nothing of a run is open any more."""
    deadline = time.monotonic() + seconds
    while still := await open_workflows(client, workflow_id):
        assert time.monotonic() < deadline, f"open after {seconds:g} s: {still}"
        await asyncio.sleep(0.1)
