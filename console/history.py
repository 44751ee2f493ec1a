"""A run's history as a person reads it: which call was made to whom, when it ended, and how."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.converter import DataConverter


@dataclass
class CallSeen:
    """A call of an agent method, as the history shows it.

    Attributes:
        method: `Coder.implement_module`.
        summary: `coder-2 · textkit/wrap.py`.
        scheduled: When the run made it.
        ended: When it ended; None while it runs.
        value: Its result, as plain JSON values.
        error: Why it failed, if it did.
    """

    method: str
    summary: str
    scheduled: datetime
    ended: datetime | None = None
    value: Any = None
    error: str | None = None

    @property
    def seconds(self) -> float:
        """How long it took, queueing included; 0 while it runs."""
        return (self.ended - self.scheduled).total_seconds() if self.ended else 0.0


async def follow_calls(handle: WorkflowHandle[Any, Any], converter: DataConverter) -> AsyncIterator[CallSeen]:
    """Yield each call of a run twice, when it is made and when it has ended, until the run ends."""
    calls: dict[int, CallSeen] = {}
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            calls[event.event_id] = await _scheduled(event, converter)
            yield calls[event.event_id]
        elif (number := _ended_call(event)) in calls:
            call = calls[number]
            call.ended = event.event_time.ToDatetime()
            call.value, call.error = _outcome(event)
            yield call


async def _scheduled(event: HistoryEvent, converter: DataConverter) -> CallSeen:
    [summary] = await converter.decode([event.user_metadata.summary]) or [""]
    return CallSeen(
        method=event.activity_task_scheduled_event_attributes.activity_type.name,
        summary=summary,
        scheduled=event.event_time.ToDatetime(),
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


def _outcome(event: HistoryEvent) -> tuple[Any, str | None]:
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
        [payload] = event.activity_task_completed_event_attributes.result.payloads
        return from_json(payload.data)["value"], None
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
        return None, event.activity_task_failed_event_attributes.failure.message
    return None, "timed out" if event.HasField("activity_task_timed_out_event_attributes") else "cancelled"
