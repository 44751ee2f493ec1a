"""What workers of choreographies rely on that Temporal's SDK does not promise: each such thing stands here, once.

`tests/workflows/serving/test_sdk.py` has a test for each. What runs rely on themselves is in `workflows/engine/sdk.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeGuard

from temporalio.api.failure.v1 import Failure
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.bridge.proto.workflow_activation import RemoveFromCache
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import Worker, WorkflowInstance
from temporalio.workflow import Info

from activities.values.converter import message_of

_NONDETERMINISM = RemoveFromCache.EvictionReason.NONDETERMINISM

_ENDS = ("complete_workflow_execution", "fail_workflow_execution", "cancel_workflow_execution")
"""The commands by which a run ends."""

_UNKNOWN_TYPE = re.compile(
    r"Workflow class (.*) is not registered on this worker, available workflows: (.*)", re.DOTALL
)


class Around(WorkflowInstance):
    """A workflow in a worker's cache, around the one that a runner has made; a subclass does something beside.

    Relies on these methods being all that a worker asks of it.
    """

    def __init__(self, inside: WorkflowInstance) -> None:
        self._inside = inside

    def activate(self, act: Any) -> Any:
        """Go on."""
        return self._inside.activate(act)

    def get_serialization_context(self, command_info: Any) -> Any:
        """Return to what a payload belongs."""
        return self._inside.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        """Return the same, for what would store it elsewhere."""
        return self._inside.get_external_store_context(command_info)

    def get_info(self) -> Info:
        """Return what is known of the workflow."""
        return self._inside.get_info()

    def get_thread_id(self) -> int | None:
        """Return the thread in which it goes on."""
        return self._inside.get_thread_id()


def asks(act: Any) -> bool:
    """Whether a workflow is activated to answer a query."""
    return any(job.HasField("query_workflow") for job in act.jobs)


def brings_only(act: Any, signal: str) -> bool:
    """Whether a workflow is activated for nothing but signals of that name, and not to do again what it did."""
    if act.is_replaying or not act.jobs:
        return False
    return all(job.HasField("signal_workflow") and job.signal_workflow.signal_name == signal for job in act.jobs)


def thrown_out_for(act: Any) -> str | None:
    """Return what the core says where it throws a workflow out since its program is not what it was; None else."""
    failures = [job.remove_from_cache for job in act.jobs if job.remove_from_cache.reason == _NONDETERMINISM]
    return failures[0].message if failures else None


def ends(completion: Any) -> bool:
    """Whether a workflow has come to its end, as far as its program goes; continuing as new is none."""
    return any(command.WhichOneof("variant") in _ENDS for command in completion.successful.commands)


def failure_in(completion: Any) -> Any:
    """Return the failure by which a workflow ends; None if it does not end so."""
    commands = completion.successful.commands
    failures = [c.fail_workflow_execution.failure for c in commands if c.HasField("fail_workflow_execution")]
    if not failures:
        return None
    # The completion is encrypted later, where it stands.
    failure = Failure()
    failure.CopyFrom(failures[0])
    failure.message = message_of(failure)
    return failure


def is_for_details(answer: Any) -> TypeGuard[WorkflowMetadata]:
    """Whether a query was the one by which the Web UI asks for a workflow's details.

    Relies on it going through interceptors as any other.
    """
    return isinstance(answer, WorkflowMetadata)


def unknown_type(failure: str) -> tuple[str, list[str]] | None:
    """Return which type a run is of, and which there are, where its workflow task failed as its type is unknown.

    Args:
        failure: What the failed workflow task says.
    """
    match = _UNKNOWN_TYPE.match(failure)
    return (match[1], match[2].split(", ")) if match else None


def filter_failed_tasks(filter: logging.Filter) -> None:
    """Have a filter look at what this process logs of workflow tasks that fail before the workflow is made.

    Such a record has the error, and first among its arguments the run's id.
    """
    logging.getLogger("temporalio.worker._workflow").addFilter(filter)


def error_at_import(error: RuntimeError) -> BaseException | None:
    """Return what a workflow's module raised, where a worker could not be made for that; None for another reason.

    Relies on a worker loading each module in the sandbox when it is made, and on the cause of what it raises.
    """
    return error.__cause__


def give_tasks_time(worker: Worker, seconds: float) -> None:
    """Have a worker take a workflow task for one that hangs only after a time; by itself it does so after two seconds.

    Relies on the attribute that it reads for each task, which is None where it is debugged.

    Args:
        worker: A worker that serves workflows.
        seconds: The time.
    """
    serving: Any = worker._workflow_worker
    if serving._deadlock_timeout_seconds is not None:
        serving._deadlock_timeout_seconds = seconds


def innermost_message(error: RuntimeError) -> str:
    """Return what the core tells at the innermost place of its nested errors, as where nothing answers."""
    told: list[str] = re.findall(r'(?:message|error): "([^"]+)"', str(error))
    return told[-1] if told else str(error).splitlines()[0]


async def end_before_it_begins(worker: Worker, run: Callable[[Worker], Awaitable[None]]) -> None:
    """Begin and end a worker that a plugin would rather not run.

    Without that, whoever has started it with `async with` would wait for its end for ever.

    Args:
        worker: The worker.
        run: Runs it.
    """
    ending = asyncio.create_task(worker.shutdown())
    await asyncio.sleep(0)
    await run(worker)
    await ending
