"""What a run left behind: its failure, its events, its steps."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError

from activities.contract.identity import step_of
from activities.values.converter import data_converter
from console.trouble import troubles_of
from tests.conftest import Runs

Handle = WorkflowHandle[Any, Any]


class Step(NamedTuple):
    """A call as a person sees it in the UI."""

    id: str
    method: str
    summary: str

    @property
    def item(self) -> str:
        """What it works on."""
        return self.summary.partition(" · ")[2]


async def told(runs: Runs, run: Handle) -> str:
    """Wait until a run's workflow task fails, and return what is said of that."""
    async with asyncio.timeout(30):
        while not (said := await troubles_of(runs.client, await run.describe())):
            await asyncio.sleep(0.05)
    return "; ".join(said)


async def failure_of(handle: Handle) -> ApplicationError:
    """Return the error that a run ended with, at its first attempt."""
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert await count(handle, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0
    return failure.value.cause


async def message_of(handle: Handle) -> str:
    """Return the message of the error that a run ended with."""
    return (await failure_of(handle)).message


async def refusal_of(handle: Handle, update: str, *inputs: Any) -> str:
    """Return why a run does not take an update."""
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(update, args=inputs)
    assert isinstance(refused.value.cause, ApplicationError)
    return refused.value.cause.message


async def events(handle: Handle) -> list[HistoryEvent]:
    return list((await handle.fetch_history()).events)


async def count(handle: Handle, kind: EventType.ValueType) -> int:
    return sum(event.event_type == kind for event in await events(handle))


async def steps(handle: Handle) -> list[Step]:
    """Return a run's calls, in the order in which they were scheduled."""
    found = []
    for event in await events(handle):
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            [summary] = await data_converter.decode([event.user_metadata.summary])
            found.append(Step(step_of(scheduled.activity_id), scheduled.activity_type.name, summary))
    return found


async def histories(client: Client, run: WorkflowHandle[Any, Any]) -> list[WorkflowHistory]:
    """Return each of the histories that a run consists of."""
    found = []
    run_id = run.first_execution_run_id
    while run_id:
        found.append(await client.get_workflow_handle(run.id, run_id=run_id).fetch_history())
        last = found[-1].events[-1].workflow_execution_continued_as_new_event_attributes
        run_id = last.new_execution_run_id
    return found
