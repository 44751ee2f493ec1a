"""What is in the way of a run: asked of the server when somebody looks, as the run itself can't know or can't tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, PendingActivityState, TaskQueueType, WorkflowTaskFailedCause
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from activities.border.washing import washed
from activities.contract.identity import step_of
from activities.contract.names import CHOREOGRAPHY_QUEUE, SHARD, team_of
from activities.contract.text import clip
from activities.housekeeping.queues import is_served
from activities.payloads.reading import make_readable
from workflows.serving.unknown import unknown_choreography
from workflows.shown.changed import change_in_words, is_change

_RETRIES_TOLD = 5
_PARTS_ASKED = 20
_EVENTS_READ = 20
_WORDS = 500


async def troubles_of(client: Client, described: WorkflowExecutionDescription) -> list[str]:
    """Say what is in the way of a run that goes on, a sentence each: a worker that can't go on with it, calls that are
    tried again.

    Args:
        client: Temporal's client.
        described: The run as it is now.

    Raises:
        RPCError: The server does not answer.
    """
    failing = await _failing_task(client, described)
    return [*failing, *_retried(await pending_activities(client, described))]


async def nobody_answers(client: Client, described: WorkflowExecutionDescription) -> str:
    """Say why a run does not answer a query: nobody serves its queue, or not as a choreography's.

    Raises:
        RPCError: The server does not answer.
    """
    queue = described.task_queue
    if (
        queue == CHOREOGRAPHY_QUEUE
        or team_of(queue)
        or await is_served(client, queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
    ):
        return f"no worker answers for it; it goes on when one serves the queue '{queue}'"
    whose = "no worker serves choreographies"
    if await is_served(client, queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
        whose = "workers serve calls of agents and no choreographies"
    return (
        f"it was started on the task queue '{queue}', on which {whose}. Terminate it, and start it on the queue of the "
        f"choreographies: --task-queue {CHOREOGRAPHY_QUEUE}, or that of a team"
    )


async def _failing_task(client: Client, described: WorkflowExecutionDescription) -> list[str]:
    """Say why workers fail to go on with a run, if they do."""
    task = described.raw_description.pending_workflow_task
    if task.attempt <= 1:
        return []
    said = await _last_failure_of_a_task(client, described)
    if not said:
        return []
    if is_change(said):
        return [await _change(client, described, said)]
    since = _clock(task.original_scheduled_time)
    return [
        unknown_choreography(said)
        or f"workers fail to go on with it, since {since}, attempt {task.attempt}: {clip(said, _WORDS)}"
    ]


async def _change(client: Client, described: WorkflowExecutionDescription, said: str) -> str:
    """Say in which step a run's program is not what it was."""
    known = _changes.get((described.run_id, said))
    if known is None:
        handle = client.get_workflow_handle(described.id, run_id=described.run_id)
        events = (await handle.fetch_history()).events
        for event in events:
            await make_readable(event, client.data_converter)
        known = f"waits: {change_in_words(said, events)}"
        _changes[described.run_id, said] = known
    return known


_changes: dict[tuple[str, str], str] = {}
"""What was said of each, as it takes a whole history to say it."""


async def _last_failure_of_a_task(client: Client, described: WorkflowExecutionDescription) -> str:
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=described.id, run_id=described.run_id),
        maximum_page_size=_EVENTS_READ,
    )
    answer = await client.workflow_service.get_workflow_execution_history_reverse(request, retry=True)
    for event in answer.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return ""
        failed = event.workflow_task_failed_event_attributes
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED and not failed.new_run_id:  # else it was reset
            await make_readable(failed.failure, client.data_converter)
            said = " ".join(washed(failed.failure.message).split())
            return said or WorkflowTaskFailedCause.Name(failed.cause)
    return ""


async def pending_activities(client: Client, described: WorkflowExecutionDescription) -> list[PendingActivityInfo]:
    """Return the calls of a run and of its shards that are under way."""
    shards = [child for child in described.raw_description.pending_children if child.workflow_type_name == SHARD]
    found = [described.raw_description.pending_activities]
    asked = (
        client.get_workflow_handle(shard.workflow_id, run_id=shard.run_id).describe() for shard in shards[:_PARTS_ASKED]
    )
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, RPCError):  # it has just ended, or has not begun
            continue
        if isinstance(answer, BaseException):
            raise answer
        found.append(answer.raw_description.pending_activities)
    calls = [call for calls in found for call in calls]
    for call in calls:
        await make_readable(call.last_failure, client.data_converter)
    return calls


def _retried(calls: Sequence[PendingActivityInfo]) -> Iterator[str]:
    """Say which calls are tried again, the most stubborn first: why, since when, how often."""
    retried = sorted((call for call in calls if call.attempt > 1), key=lambda call: -call.attempt)
    for call in retried[:_RETRIES_TOLD]:
        runs = call.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        when = f"runs since {_clock(call.last_started_time)}"
        if not runs:
            comes = call.HasField("next_attempt_schedule_time")
            when = f"comes at {_clock(call.next_attempt_schedule_time)}" if comes else "waits for a worker"
        why = clip(" ".join(washed(call.last_failure.message).split()), _WORDS)
        yield (
            f"{call.activity_type.name} (step {step_of(call.activity_id)}) is tried again since "
            f"{_clock(call.scheduled_time)}: attempt {call.attempt} {when}. The last one: {why or 'no reason was told'}"
        )
    if len(retried) > _RETRIES_TOLD:
        yield f"{len(retried) - _RETRIES_TOLD} more calls are tried again"


def _clock(moment: Timestamp) -> str:
    """Write a moment; with its date if that is another day."""
    at = moment.ToDatetime(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == datetime.now(UTC).date() else f"{at:%Y-%m-%d %H:%M} UTC"
