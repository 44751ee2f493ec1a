"""What a run has left on the server: events and bytes, of itself, its children, and all runs that it continued as."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client


@dataclass
class History:
    """The histories of one run and everything below it.

    Attributes:
        workflows: How many there are.
        events: All of their events.
        size: All of their bytes.
        most_events: The most of any one of them.
        most_bytes: The most of any one of them.
        failed_tasks: Workflow tasks that failed.
    """

    workflows: int = 0
    events: int = 0
    size: int = 0
    most_events: int = 0
    most_bytes: int = 0
    failed_tasks: int = 0


async def history_of(client: Client, workflow_id: str) -> History:
    """Read all that belongs to a run."""
    known = History()
    async for one, run_id in _all_of(client, workflow_id, known):
        described = await client.get_workflow_handle(one, run_id=run_id).describe()
        size = described.raw_description.workflow_execution_info.history_size_bytes
        known.workflows += 1
        known.events += described.history_length
        known.size += size
        known.most_events = max(known.most_events, described.history_length)
        known.most_bytes = max(known.most_bytes, size)
    return known


async def _all_of(client: Client, workflow_id: str, known: History) -> AsyncIterator[tuple[str, str]]:
    first = (await client.get_workflow_handle(workflow_id).describe()).raw_description.workflow_execution_info
    todo = [(workflow_id, first.first_run_id or first.execution.run_id)]
    for one, run_id in todo:
        async for event in client.get_workflow_handle(one, run_id=run_id).fetch_history_events():
            match event.event_type:
                case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    known.failed_tasks += 1
                case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                    child = event.child_workflow_execution_started_event_attributes.workflow_execution
                    todo.append((child.workflow_id, child.run_id))
                case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
                    next_run = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
                    todo.append((one, next_run))
        yield one, run_id
