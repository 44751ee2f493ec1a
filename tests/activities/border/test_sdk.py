"""What this wing relies on that the SDK does not promise."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.worker import Worker

from activities.border.sdk import heartbeat_sender, in_a_workflow, quieten_the_sdk
from activities.border.washing import fit_to_leave, washed
from activities.values.converter import data_converter

_SECOND = timedelta(seconds=1)


@activity.defn
async def hold_the_loop() -> list[str]:
    """Hold the loop for longer than the activity may be silent, and return what is known of an attempt before."""
    if found := list(activity.info().heartbeat_details):
        return [*found, str(activity.info().attempt)]
    send, [details] = heartbeat_sender(), await data_converter.encode(["sent from a thread"])
    held = threading.Event()

    def beat() -> None:
        for _ in range(8):
            send([details])
            held.wait(0.25)
        held.set()

    threading.Thread(target=beat, daemon=True).start()
    held.wait()
    raise RuntimeError(f"attempt {activity.info().attempt} went on to its end")


@activity.defn
async def fail() -> None:
    """Raise an error."""
    raise RuntimeError("no")


@workflow.defn(sandboxed=False)
class DoesOne:
    """Does one activity."""

    @workflow.run
    async def run(self, name: str, attempts: int) -> Any:
        """Do it."""
        return await workflow.execute_activity(
            name,
            start_to_close_timeout=timedelta(seconds=20),
            heartbeat_timeout=_SECOND,
            retry_policy=RetryPolicy(maximum_attempts=attempts),
        )


@workflow.defn(sandboxed=False)
class Washes:
    """Tells what becomes of a secret, and of a failure that says one."""

    @workflow.run
    async def run(self, text: str) -> list[bool]:
        """Wash it."""
        return [in_a_workflow(), washed(text) == text, fit_to_leave(text) == text]


async def test_it_is_known_where_a_workflows_code_is_executing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "marked-7f3c-value")
    queue = f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[Washes]):
        washing = await client.execute_workflow("Washes", "a marked-7f3c-value", id=queue, task_queue=queue)

    assert washing == [True, True, False]
    assert not in_a_workflow()
    assert not await asyncio.to_thread(in_a_workflow)
    assert washed("a marked-7f3c-value") == "a [secret A_KEY]"


async def done(client: Client, name: str, attempts: int) -> WorkflowHandle[Any, Any]:
    """Do an activity, and return the run that did it when it has ended."""
    queue = f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[DoesOne], activities=[hold_the_loop, fail]):
        run = await client.start_workflow("DoesOne", args=[name, attempts], id=queue, task_queue=queue)
        with suppress(WorkflowFailureError):
            await run.result()
    return run


async def test_heartbeats_are_sent_from_a_thread_while_the_loop_is_held(client: Client) -> None:
    run = await done(client, "hold_the_loop", 2)
    assert await run.result() == ["sent from a thread", "2"]
    events = (await run.fetch_history()).events
    [started] = [e for e in events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED]
    assert started.activity_task_started_event_attributes.last_failure.message == "attempt 1 went on to its end"


@pytest.fixture
def levels() -> Iterator[None]:
    """Restore afterwards what is logged."""
    loggers = [logging.getLogger(name) for name in ("temporalio.activity", "temporalio.worker")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.usefixtures("levels")
async def test_a_failing_activity_is_told_by_loggers_that_can_be_quietened(
    client: Client, caplog: pytest.LogCaptureFixture, *, quiet: bool
) -> None:
    if quiet:
        quieten_the_sdk()
    await done(client, "fail", 1)
    said = [record for record in caplog.records if "RuntimeError" in (record.exc_text or "")]
    assert bool(said) is not quiet
