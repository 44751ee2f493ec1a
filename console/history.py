"""A run's history as a person reads it: which call was made to whom, when it ended, how, and what it used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from activities.contract import Usage
from activities.identity import step_of


@dataclass
class CallSeen:
    """A call of an agent method, as the history shows it.

    Attributes:
        method: `Coder.implement_module`.
        summary: `coder-2 · textkit/wrap.py`.
        scheduled: When the run made it.
        step: Its place in the program.
        ended: When it ended; None while it runs.
        value: Its result, as plain JSON values.
        usage: What it used.
        attempts: How often it was tried; 0 while it runs.
        error: Why it failed, if it did.
    """

    method: str
    summary: str
    scheduled: datetime
    step: str
    ended: datetime | None = None
    value: Any = None
    usage: Usage = field(default_factory=Usage)
    attempts: int = 0
    error: str | None = None

    @property
    def seconds(self) -> float:
        """How long it took, queueing included; 0 while it runs."""
        return (self.ended - self.scheduled).total_seconds() if self.ended else 0.0

    @property
    def instance(self) -> str:
        """Who was asked."""
        return self.summary.partition(" · ")[0]

    @property
    def item(self) -> str:
        """What it was about, in a few words."""
        return self.summary.partition(" · ")[2]


@dataclass
class RunSeen:
    """A whole run, as its histories show it: those of all parts in which it went on, and of its child workflows.

    Attributes:
        workflow_id: The run.
        choreography: Its workflow type.
        began: When it was started.
        ended: When it ended; None while it goes on.
        outcome: How, in a word; `running` while it goes on.
        calls: In the order in which they were made.
        beginning_lost: Whether the server does not keep its beginning any more.
    """

    workflow_id: str
    choreography: str
    began: datetime
    ended: datetime | None = None
    outcome: str = "running"
    calls: list[CallSeen] = field(default_factory=list)
    beginning_lost: bool = False


async def follow_calls(handle: WorkflowHandle[Any, Any], converter: DataConverter) -> AsyncIterator[CallSeen]:
    """Yield each call of a run twice, when it is made and when it has ended, until the run ends."""
    calls = _Calls(converter)
    async for event in handle.fetch_history_events(wait_new_event=True):
        if call := await calls.take(event):
            yield call


async def read_run(client: Client, workflow_id: str) -> RunSeen:
    """Read all calls of a run, up to now.

    Raises:
        RPCError: There is no such run, or the server does not answer.
    """
    described = await client.get_workflow_handle(workflow_id).describe()
    run = RunSeen(workflow_id, described.workflow_type, described.start_time)
    first = described.raw_description.workflow_execution_info.first_run_id
    try:
        ended_at = await _read_chain(client, workflow_id, first, run)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND or first == described.run_id:
            raise
        run.beginning_lost = True
        ended_at = await _read_chain(client, workflow_id, described.run_id, run)
    if ended_at is not None:
        run.outcome, run.ended = ended_at
    run.calls.sort(key=lambda call: call.scheduled)
    return run


async def _read_chain(client: Client, workflow_id: str, run_id: str, into: RunSeen) -> tuple[str, datetime] | None:
    """Read a run and those in which it goes on, with their children; return how and when the last one ended."""
    next_run: str = run_id
    ended: tuple[str, datetime] | None = None
    while next_run:
        calls = _Calls(client.data_converter)
        handle = client.get_workflow_handle(workflow_id, run_id=next_run)
        next_run = ""
        async for event in handle.fetch_history_events():
            into.began = min(into.began, event.event_time.ToDatetime(UTC))
            await calls.take(event)
            if child := _child(event):
                await _read_child(client, *child, into)
            next_run = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
            if (outcome := _OUTCOMES.get(event.event_type)) is not None:
                ended = outcome, event.event_time.ToDatetime(UTC)
        into.calls += calls.seen()
    return ended


async def _read_child(client: Client, workflow_id: str, run_id: str, into: RunSeen) -> None:
    try:
        await _read_chain(client, workflow_id, run_id, into)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        into.beginning_lost = True


_OUTCOMES = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "done",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
}


class _Calls:
    """The calls of one history, read event by event."""

    def __init__(self, converter: DataConverter) -> None:
        self._converter = converter
        self._calls: dict[int, CallSeen] = {}
        self._attempts: dict[int, int] = {}

    def seen(self) -> list[CallSeen]:
        """Return the calls that were made so far."""
        return list(self._calls.values())

    async def take(self, event: HistoryEvent) -> CallSeen | None:
        """Take in an event; return the call that it began or ended, if it did."""
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            self._calls[event.event_id] = await _scheduled(event, self._converter)
            return self._calls[event.event_id]
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            self._attempts[started.scheduled_event_id] = started.attempt
        elif call := self._calls.get(number := _ended_call(event)):
            call.ended = event.event_time.ToDatetime(UTC)
            call.attempts = self._attempts.get(number, 0)
            _set_outcome(call, event)
            return call
        return None


async def _scheduled(event: HistoryEvent, converter: DataConverter) -> CallSeen:
    [summary] = await converter.decode([event.user_metadata.summary]) or [""]
    attributes = event.activity_task_scheduled_event_attributes
    return CallSeen(
        method=attributes.activity_type.name,
        summary=summary,
        scheduled=event.event_time.ToDatetime(UTC),
        step=step_of(attributes.activity_id),
    )


def _ended_call(event: HistoryEvent) -> int:
    for attributes in (
        event.activity_task_completed_event_attributes,
        event.activity_task_failed_event_attributes,
        event.activity_task_timed_out_event_attributes,
        event.activity_task_canceled_event_attributes,
    ):
        if attributes.scheduled_event_id:
            return attributes.scheduled_event_id
    return 0


def _set_outcome(call: CallSeen, event: HistoryEvent) -> None:
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        [payload] = event.activity_task_completed_event_attributes.result.payloads
        reply = from_json(payload.data)
        call.value, call.usage = reply["value"], Usage.model_validate(reply.get("usage", {}))
    elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
        call.error = event.activity_task_failed_event_attributes.failure.message
    else:
        timed_out = event.HasField("activity_task_timed_out_event_attributes")
        call.error = "timed out" if timed_out else "cancelled"


def _child(event: HistoryEvent) -> tuple[str, str] | None:
    """Return workflow and run id of a child that makes calls of the run, if one has started."""
    started = event.child_workflow_execution_started_event_attributes
    if not started.workflow_execution.run_id:
        return None
    return started.workflow_execution.workflow_id, started.workflow_execution.run_id
