"""What workers rely on that the SDK does not promise, with workflows of its own kind: no choreographies."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    HandleQueryInput,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
)

from workflows.serving.sdk import (
    Around,
    asks,
    brings_only,
    end_before_it_begins,
    ends,
    error_at_import,
    failure_in,
    filter_failed_tasks,
    give_tasks_time,
    innermost_message,
    is_for_details,
    thrown_out_for,
    unknown_type,
)

program: dict[str, str] = {}
"""What the workflow does that somebody changes."""


@workflow.defn(sandboxed=False)
class Listens:
    """Takes signals and a query, until it is told to end."""

    def __init__(self) -> None:
        self.how = ""

    @workflow.run
    async def run(self) -> str:
        """Wait for the end."""
        if does := program.get("does"):
            await workflow.execute_activity(does, activity_id=does, start_to_close_timeout=_LONG)
        await workflow.wait_condition(lambda: self.how != "")
        if self.how == "again":
            workflow.continue_as_new()
        if self.how == "failed":
            raise ApplicationError("it fails")
        return self.how

    @workflow.signal
    def end(self, how: str) -> None:
        """End."""
        self.how = how

    @workflow.signal(name="other")
    def by_another_name(self) -> None:
        """Do nothing."""

    @workflow.query
    def status(self) -> str:
        """Tell how it is."""
        return self.how


_LONG = timedelta(seconds=60)


class Seen(UnsandboxedWorkflowRunner):
    """Makes workflows that note what a worker asks of them."""

    def __init__(self) -> None:
        super().__init__()
        self.activations: list[Any] = []
        self.completions: list[Any] = []

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Seen(super().create_instance(det), self)


class _Seen(Around):
    def __init__(self, inside: WorkflowInstance, seen: Seen) -> None:
        super().__init__(inside)
        self._seen = seen

    def activate(self, act: Any) -> Any:
        self._seen.activations.append(act)
        self._seen.completions.append(super().activate(act))
        return self._seen.completions[-1]


@asynccontextmanager
async def listening(client: Client, **options: Any) -> AsyncIterator[tuple[Seen, WorkflowHandle[Any, Any]]]:
    """Serve the workflow, one of which is there."""
    seen, queue = Seen(), f"sdk-{uuid.uuid4().hex[:8]}"
    async with Worker(client, task_queue=queue, workflows=[Listens], unsandboxed_workflow_runner=seen, **options):
        run = await client.start_workflow("Listens", id=queue, task_queue=queue, execution_timeout=_LONG)
        await until(lambda: bool(seen.completions))
        yield seen, run
        with suppress(Exception):
            await run.terminate()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_worker_asks_no_more_of_a_workflow_than_is_handed_on() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = {name: one for name, one in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        return {name: list(inspect.signature(one).parameters) for name, one in found.items()}

    assert methods(Around) == methods(WorkflowInstance)


async def test_what_a_workflow_is_activated_for_is_known(client: Client) -> None:
    async with listening(client) as (seen, run):
        first = len(seen.activations)
        await run.query("status")
        await run.signal("other")
        await until(lambda: any(brings_only(act, "other") for act in seen.activations))
        await run.signal("end", "well")
        assert await run.result() == "well"
    later = seen.activations[first:]
    assert not asks(seen.activations[0])
    assert [asks(act) for act in later] == [True, *[False] * (len(later) - 1)]
    assert [brings_only(act, "other") for act in later].count(True) == 1
    assert [brings_only(act, "end") for act in later].count(True) == 1
    assert not any(thrown_out_for(act) for act in seen.activations)


@pytest.mark.parametrize(
    ("how", "is_end", "fails"), [("well", True, False), ("again", False, False), ("failed", True, True)]
)
async def test_the_end_of_a_workflow_is_known(client: Client, how: str, *, is_end: bool, fails: bool) -> None:
    async with listening(client) as (seen, run):
        assert not any(ends(completion) for completion in seen.completions)
        await run.signal("end", how)
        await until(lambda: any(act.jobs[0].HasField("signal_workflow") for act in seen.activations))
        await until(lambda: any(map(ends, seen.completions)) is is_end)
        failures = [failure for one in seen.completions if (failure := failure_in(one)) is not None]
    assert [failure.message for failure in failures] == ["it fails"] * fails


async def test_a_cancelled_workflow_has_come_to_its_end(client: Client) -> None:
    async with listening(client) as (seen, run):
        await run.cancel()
        await until(lambda: any(map(ends, seen.completions)))


async def test_a_workflow_whose_program_was_changed_is_thrown_out_for_it(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, queue = Seen(), Seen(), f"sdk-{uuid.uuid4().hex[:8]}"
    made = functools.partial(Worker, client, task_queue=queue, workflows=[Listens])
    monkeypatch.setitem(program, "does", "old")
    async with made(unsandboxed_workflow_runner=before):
        run = await client.start_workflow("Listens", id=queue, task_queue=queue, execution_timeout=_LONG)
        await until(lambda: bool(before.completions))
    monkeypatch.setitem(program, "does", "new")
    async with made(unsandboxed_workflow_runner=after):
        await run.signal("other")
        await until(lambda: any(thrown_out_for(act) for act in after.activations))
    await run.terminate()
    [said, *_] = [said for act in after.activations if (said := thrown_out_for(act))]
    assert "'old'" in said
    assert "'new'" in said


async def test_the_uis_question_for_details_goes_through_interceptors(client: Client) -> None:
    found: list[bool] = []

    class Looking(Interceptor):
        def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
            return Looks

    class Looks(WorkflowInboundInterceptor):
        async def handle_query(self, input: HandleQueryInput) -> Any:
            answer = await super().handle_query(input)
            found.append(is_for_details(answer))
            return answer

    async with listening(client, interceptors=[Looking()]) as (_, run):
        await run.query("__temporal_workflow_metadata")
        await run.query("status")
    assert found == [True, False]


async def test_an_unknown_type_is_logged_with_the_run_and_what_there_is(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("temporalio.worker._workflow"), "filters", [])
    records: list[logging.LogRecord] = []

    class Notes(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            records.append(record)
            return True

    filter_failed_tasks(Notes())
    async with listening(client) as (_, run):
        queue = (await run.describe()).task_queue
        other = await client.start_workflow("Listen", id=f"{queue}-other", task_queue=queue)
        await until(lambda: bool(records))
        await other.terminate()
    [record] = records[:1]
    assert record.exc_info
    assert unknown_type(str(getattr(record.exc_info[1], "message", ""))) == ("Listen", ["Listens"])
    assert isinstance(record.args, tuple)
    assert record.args[0] == other.first_execution_run_id


@pytest.mark.parametrize("failure", ["", "a bug", "Workflow class"])
def test_another_failure_names_no_type(failure: str) -> None:
    assert unknown_type(failure) is None


@workflow.defn(sandboxed=False)
class Computes:
    """Computes for a while."""

    @workflow.run
    async def run(self) -> int:
        """Hold the workflow task for longer than the SDK allows by itself."""
        time.sleep(2.5)
        return workflow.info().attempt


async def test_a_workflow_task_may_take_as_long_as_is_given(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(client, task_queue="computes", workflows=[Computes])
    give_tasks_time(worker, 30)
    async with worker:
        await client.execute_workflow(Computes.run, id="computes", task_queue="computes")
    assert "deadlock" not in caplog.text


@workflow.defn
class Elsewhere:
    """Is in a sandbox, for which its module is loaded again."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


async def test_a_module_that_can_not_be_loaded_is_the_cause_of_what_a_worker_raises(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "__module__", "a_module_that_there_is_not")
    with pytest.raises(RuntimeError) as raised:
        Worker(client, task_queue="nobody's", workflows=[Elsewhere])
    assert isinstance(error_at_import(raised.value), ModuleNotFoundError)


def test_another_error_has_no_such_cause() -> None:
    assert error_at_import(RuntimeError("another")) is None


async def test_where_nothing_answers_the_innermost_message_says_so() -> None:
    with pytest.raises(RuntimeError) as raised:
        await Client.connect("localhost:1")
    assert innermost_message(raised.value) == "Connection refused"
    assert innermost_message(RuntimeError("plain\nwords")) == "plain"


async def test_a_worker_that_a_plugin_does_not_run_ends_with_its_error(client: Client) -> None:
    async def refuse(worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        await end_before_it_begins(worker, next)
        raise ValueError("no")

    class Refusing(SimplePlugin):
        run_worker = staticmethod(refuse)

    made = functools.partial(Worker, client, task_queue="nobody's", workflows=[Listens])
    with pytest.raises(ValueError, match="no"):
        async with asyncio.timeout(20), made(plugins=[Refusing("refusing")]):
            await asyncio.sleep(20)
