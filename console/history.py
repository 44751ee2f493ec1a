"""A run's history as a person reads it: which call was made to whom, when it ended, how, and what it used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from activities.border.washing import washed
from activities.contract.identity import step_of
from activities.contract.usage import Usage
from activities.payloads.reading import make_readable
from console.decisions import decisions_in
from console.trouble import troubles_of
from workflows.people.people import MEMO


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
        paused: Whether it waits for people's yes to a tool; another call of its step goes on when they have decided.
        decided: What they had decided when it was made, in words.
        is_question: Whether a person was asked, and no worker.
        moved_branches: Whether it has told where branches of the run's repository stand.
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
    paused: bool = False
    decided: list[str] = field(default_factory=list)
    is_question: bool = False
    moved_branches: bool = False

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
        failure: Why it failed, if it did.
        calls: In the order in which they were made, and what people were asked.
        troubles: What is in its way, while it goes on.
        beginning_lost: Whether the server does not keep its beginning any more.
        first_run_id: The first run of its chain, by which its files are named.
    """

    workflow_id: str
    choreography: str
    began: datetime
    ended: datetime | None = None
    outcome: str = "running"
    failure: str = ""
    calls: list[CallSeen] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    beginning_lost: bool = False
    first_run_id: str = ""

    @property
    def has_repository(self) -> bool:
        """Whether calls have worked on branches of a repository."""
        return any(call.moved_branches for call in self.calls)


async def follow_calls(
    handle: WorkflowHandle[Any, Any], converter: DataConverter, lost: Callable[[], None] = lambda: None
) -> AsyncIterator[CallSeen]:
    """Yield each call of a run twice, when it is made and when it has ended, until the run ends.

    Args:
        handle: The run.
        converter: What reads it.
        lost: Called when the server is lost; it is waited for, as the run goes on where the server does.
    """
    calls, run_id, seen, ended = _Calls(converter), "", 0, False
    while not ended:
        async for event in _events_until_lost(handle, lost):
            run = event.workflow_execution_started_event_attributes.original_execution_run_id
            if run and run != run_id:  # it is the first one, or continued as new
                calls, run_id, seen = _Calls(converter), run, 0
            if event.event_id <= seen:  # told before the server was lost
                continue
            seen, ended = event.event_id, event.event_type in _OUTCOMES
            await make_readable(event, converter)
            if call := await calls.take(event):
                yield call


async def result_of(handle: WorkflowHandle[Any, Any], lost: Callable[[], None] = lambda: None) -> Any:
    """Return the result of a run, whatever becomes of the server meanwhile.

    Args:
        handle: The run.
        lost: Called when the server is lost.

    Raises:
        WorkflowFailureError: The run failed, or was cancelled or terminated.
    """
    while True:
        try:
            return await handle.result()
        except RPCError as error:
            await _wait_if_lost(error, lost)


async def _events_until_lost(handle: WorkflowHandle[Any, Any], lost: Callable[[], None]) -> AsyncIterator[HistoryEvent]:
    try:
        async for event in handle.fetch_history_events(wait_new_event=True):
            yield event
    except RPCError as error:
        await _wait_if_lost(error, lost)


_LOST = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.UNKNOWN,
    RPCStatusCode.ABORTED,
)
"""What a client is told whose server has gone, or is just coming up."""


async def _wait_if_lost(error: RPCError, lost: Callable[[], None]) -> None:
    if error.status not in _LOST:
        raise error
    lost()
    await asyncio.sleep(1)


async def read_run(client: Client, workflow_id: str) -> RunSeen:
    """Read all calls of a run, up to now.

    Raises:
        RPCError: There is no such run, or the server does not answer.
    """
    described = await client.get_workflow_handle(workflow_id).describe()
    run = RunSeen(workflow_id, described.workflow_type, described.start_time)
    run.first_run_id = described.raw_description.workflow_execution_info.first_run_id
    for run_id in await _run_ids(client, workflow_id, described.run_id, run):
        await _read_history(client, workflow_id, run_id, run)
    run.calls.sort(key=lambda call: call.scheduled)
    _count_once(run.calls)
    if described.status == WorkflowExecutionStatus.RUNNING:
        run.ended, run.outcome = None, "running"
        run.troubles = await troubles_of(client, described)
    return run


async def _run_ids(client: Client, workflow_id: str, last: str, into: RunSeen) -> list[str]:
    """Return the ids of the runs that it went on in, the first one first.

    They are found from the last one, as one that was reset goes on beside the one that it was.
    """
    found = [last]
    while True:
        start = GetWorkflowExecutionHistoryRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=found[0]),
            maximum_page_size=1,
        )
        try:
            history = (await client.workflow_service.get_workflow_execution_history(start, retry=True)).history
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND or found[0] == last:
                raise
            into.beginning_lost = True
            return found[1:]
        before = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not before:
            return found
        found.insert(0, before)


async def _read_history(client: Client, workflow_id: str, run_id: str, into: RunSeen) -> str:
    """Read one run and its children; return the id of the run in which it goes on."""
    calls = _Calls(client.data_converter)
    next_run = ""
    async for event in client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history_events():
        await make_readable(event, client.data_converter)
        into.began = min(into.began, event.event_time.ToDatetime(UTC))
        await calls.take(event)
        if child := _child(event):
            await _read_child(client, *child, into)
        next_run = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        if workflow_id == into.workflow_id and (outcome := _OUTCOMES.get(event.event_type)) is not None:
            into.outcome, into.ended = outcome, event.event_time.ToDatetime(UTC)
            into.failure = washed(event.workflow_execution_failed_event_attributes.failure.message)
    into.calls += calls.seen()
    return next_run


def _count_once(calls: list[CallSeen]) -> None:
    """Leave out what a call had used before it was paused: its end tells of this too."""
    before: dict[str, Usage] = {}
    for call in calls:
        told = call.usage
        if told.model_calls and call.step in before:
            call.usage = told - before.pop(call.step)
        if call.paused:
            before[call.step] = told


async def _read_child(client: Client, workflow_id: str, run_id: str, into: RunSeen) -> None:
    try:
        while run_id:
            run_id = await _read_history(client, workflow_id, run_id, into)
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
        self._asked: dict[str, CallSeen] = {}
        self._answers: dict[str, Any] = {}

    def seen(self) -> list[CallSeen]:
        """Return the calls that were made so far, and what people were asked."""
        return [*self._calls.values(), *self._asked.values()]

    async def take(self, event: HistoryEvent) -> CallSeen | None:
        """Take in an event; return the call that it began or ended, if it did."""
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            self._calls[event.event_id] = await _scheduled(event, self._converter)
            return self._calls[event.event_id]
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            self._attempts[started.scheduled_event_id] = started.attempt
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            self._note_answer(event)
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
            self._note_questions(event)
        elif call := self._calls.get(number := _ended_call(event)):
            call.ended = event.event_time.ToDatetime(UTC)
            call.attempts = self._attempts.get(number, 0)
            _set_outcome(call, event)
            return call
        return None

    def _note_answer(self, event: HistoryEvent) -> None:
        asked = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
        given = _json_of(asked.args.payloads)
        if asked.name == "answer" and isinstance(given, dict) and isinstance(given.get("question"), str):
            self._answers[given["question"]] = given.get("answer")

    def _note_questions(self, event: HistoryEvent) -> None:
        """Take in which questions are open now: a run writes them down whenever they change."""
        fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
        if MEMO not in fields:
            return
        listed = [line for line in _json_of([fields[MEMO]]) or () if isinstance(line, str)]
        now = event.event_time.ToDatetime(UTC)
        still_open = {line.partition(": ")[0]: line.partition(": ")[2] for line in listed}
        for id, whom in still_open.items():
            person, _, method = whom.partition(", ")
            self._asked.setdefault(
                id, CallSeen(method, f"{person} · {id}", now, id.rpartition("-")[0], is_question=True)
            )
        for id, call in self._asked.items():
            if call.ended is None and id not in still_open:
                call.ended, call.value = now, self._answers.get(id)
                call.error = None if id in self._answers else "cancelled"


async def _scheduled(event: HistoryEvent, converter: DataConverter) -> CallSeen:
    [summary] = await converter.decode([event.user_metadata.summary])
    attributes = event.activity_task_scheduled_event_attributes
    return CallSeen(
        method=attributes.activity_type.name,
        summary=washed(summary) if isinstance(summary, str) else "",
        scheduled=event.event_time.ToDatetime(UTC),
        step=step_of(attributes.activity_id),
        decided=decisions_in(attributes.input.payloads[0].data) if attributes.input.payloads else [],
    )


def _json_of(payloads: Sequence[Payload]) -> Any:
    """Return what the first payload says; None if that can't be read."""
    try:
        return from_json(payloads[0].data)
    except (IndexError, ValueError):
        return None


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
        reply = _json_of(event.activity_task_completed_event_attributes.result.payloads)
        told = reply if isinstance(reply, dict) else {"value": reply}  # by hand, with `temporal activity complete`
        call.paused = "paused" in told
        call.value, call.usage = told.get("value"), _usage(told.get("usage"))
        call.moved_branches = bool(told.get("branches"))
    elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
        call.error = washed(event.activity_task_failed_event_attributes.failure.message)
    else:
        timed_out = event.HasField("activity_task_timed_out_event_attributes")
        call.error = "timed out" if timed_out else "cancelled"


def _usage(told: Any) -> Usage:
    try:
        return Usage.model_validate(told or {})
    except ValidationError:
        return Usage()


def _child(event: HistoryEvent) -> tuple[str, str] | None:
    """Return workflow and run id of a child that makes calls of the run, if one has started."""
    started = event.child_workflow_execution_started_event_attributes
    if not started.workflow_execution.run_id:
        return None
    return started.workflow_execution.workflow_id, started.workflow_execution.run_id
