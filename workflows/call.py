"""Calls: one use of an agent method by a choreography. Data until awaited, then an activity."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception

from activities.agent import Agent, declares_state
from activities.contract import HEARTBEAT_TIMEOUT_S, PAYLOAD_LIMIT, conversation_id, explain, method_name
from activities.method import Method
from workflows.board import Work
from workflows.errors import CallFailed, ClaimEnded, TooLarge
from workflows.pool import Pool
from workflows.run import Run
from workflows.scope import Scope, current_scope

R = TypeVar("R")

_WORKER_DEATHS = 20
"""Attempts that a call may lose to dying workers, beside its own retries: a call that kills its worker must end."""

_GRACE_S = 30.0
"""Seconds for an attempt to report its own timeout before the server ends it."""

_LABEL_LENGTH = 60


class Target(Protocol):
    """Whom a call is made to: any instance of a role, a named one, or one that is held already."""

    def claimed(self, scope: Scope) -> AbstractAsyncContextManager[str]:
        """Hold an instance for as long as the call takes."""


@dataclasses.dataclass(frozen=True)
class Anyone:
    """Any free instance of a pool, or the one that is named."""

    pool: Pool
    only: str | None = None

    def claimed(self, scope: Scope) -> AbstractAsyncContextManager[str]:
        """Claim it for this call."""
        return self.pool.claimed(scope, self.only)


class Held:
    """An instance that the body of a scatter holds: its calls are made one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._ended = False
        self._one_at_a_time = asyncio.Lock()
        self._at_work: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def claimed(self, scope: Scope) -> AsyncIterator[str]:
        """Wait for the instance's earlier calls."""
        async with self._one_at_a_time:
            if self._ended:
                raise ClaimEnded(
                    f"{self.name} was used (step {scope.path}) after the body that it was claimed for had ended; "
                    "await its calls inside the body."
                )
            self._at_work = asyncio.current_task()
            try:
                yield self.name
            finally:
                self._at_work = None

    async def end(self) -> None:
        """Let no more calls be made; cancel the one that the body did not wait for, and wait until it has ended."""
        self._ended = True
        if self._at_work is not None:
            self._at_work.cancel()
        async with self._one_at_a_time:
            return


class Call(Generic[R]):
    """One use of an agent method. Nothing happens until it is awaited; awaited again, it gives the same result."""

    def __init__(
        self, agent: type[Agent], pool: Pool, method: Method[..., R], arguments: Mapping[str, Any], target: Target
    ) -> None:
        self.agent = agent
        self.pool = pool
        self.method = method
        self.arguments = arguments
        self.step = current_scope().next_step()
        self._scope = current_scope()
        self._target = target
        self._outcome: asyncio.Future[R] | None = None

    def __await__(self) -> Generator[Any, None, R]:
        if self._outcome is None:
            self._scope = current_scope()  # who waits for it, wherever it was made
            self._outcome = asyncio.ensure_future(self._make())
        return self._outcome.__await__()

    def __repr__(self) -> str:
        return f"<call {self.step} of {self.name}>"

    @property
    def name(self) -> str:
        """The activity type."""
        return method_name(self.agent.__name__, self.method.name)

    @property
    def queue(self) -> str:
        """The task queue: the method's own, or the class's for tools."""
        return self.agent.__name__ if self.method.kind == "tool" else self.name

    @property
    def _remembers(self) -> bool:
        """Whether the instance's conversation has to do with this call."""
        if self.method.kind == "prompt":
            return self.method.options.memory
        return declares_state(self.agent)

    async def _make(self) -> R:
        run = Run.current()
        with self._scope.child(self.step) as scope:
            async with self._target.claimed(scope) as instance, run.calling(self.queue, self._work(instance)):
                if self._remembers:
                    await run.keep_conversations()
                payload = self._encode(run, instance)
                await run.room_for(len(payload.data))
                reply = await _not_resumed_after_cancel(lambda: self._execute(payload, instance))
                return self._decode(run, reply, instance)

    def _work(self, instance: str) -> Work:
        return Work(self.step, self.pool.role, instance, self.name, self._label())

    async def _execute(self, payload: Payload, instance: str) -> RawValue:
        options = self.method.options
        try:
            reply: RawValue = await workflow.execute_activity(
                self.name,
                RawValue(payload),
                task_queue=self.queue,
                activity_id=self.step,
                result_type=RawValue,
                start_to_close_timeout=timedelta(seconds=options.timeout + _GRACE_S),
                heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=1),
                    maximum_interval=timedelta(minutes=1),
                    maximum_attempts=1 + options.retries + _WORKER_DEATHS,
                ),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=f"{instance} · {self._label()}",
            )
            return reply
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            raise self._failed(instance, *_reason(error)) from error

    def _encode(self, run: Run, instance: str) -> Payload:
        request = self.method.request.model_construct(
            instance=instance,
            step=self.step,
            workflow_id=workflow.info().workflow_id,
            run_id=workflow.info().first_execution_run_id,
            model=run.options.model_of(self.pool.role, self.name),
            conversation=self._conversation(instance) if self._remembers else None,
            owner="" if self.pool.named else workflow.info().first_execution_run_id,
            arguments=dict(self.arguments),
        )
        try:
            data = request.model_dump_json(by_alias=True, round_trip=True).encode()
        except PydanticSerializationError as error:
            raise TooLarge(f"{self.name} ({instance}): an argument is no data: {error}") from None
        if len(data) > PAYLOAD_LIMIT:
            raise TooLarge(
                f"{self.name} ({instance}, step {self.step}): its arguments are {len(data):,} bytes, of which "
                f"'{self._largest_argument()}' has the most; {PAYLOAD_LIMIT:,} is the most that the server takes. "
                "Put it into a file of the workspace and pass the path."
            )
        return Payload(metadata={"encoding": b"json/plain"}, data=data)

    def _conversation(self, instance: str) -> str:
        """Return the conversation's workflow id: an instance that was given its name keeps it from run to run."""
        belongs_to = self.agent.__name__ if self.pool.named else workflow.info().workflow_id
        return conversation_id(belongs_to, instance)

    def _largest_argument(self) -> str:
        return max(self.arguments, key=lambda name: len(repr(self.arguments[name])), default="")

    def _decode(self, run: Run, raw: RawValue, instance: str) -> R:
        try:
            reply = self.method.reply.model_validate_json(raw.payload.data)
        except ValidationError as error:
            reason = (
                f"its result does not fit its type: {explain(error)}. Do worker and choreography run the same code?"
            )
            raise self._failed(instance, "ResultInvalid", reason) from None
        run.board.used(self.pool.role, reply.usage)
        value: R = reply.value
        return value

    def _failed(self, instance: str, kind: str, reason: str) -> CallFailed:
        return CallFailed(
            f"{self.name} ({instance}, step {self.step}, {self._label()}) failed: {kind}: {reason}",
            method=self.name,
            instance=instance,
            step=self.step,
            kind=kind,
        )

    def _label(self) -> str:
        if self._scope.title:
            return self._scope.title
        return label(next(iter(self.arguments.values()))) if self.arguments else self.method.name


async def _not_resumed_after_cancel(work: Callable[[], Awaitable[RawValue]]) -> RawValue:
    """Await work; if it was to be cancelled but ended well nevertheless, be cancelled all the same.

    Otherwise the body of a cancelled item would go on to its next call.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    result = await work()
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result


def _reason(error: ActivityError) -> tuple[str, str]:
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Error", cause.message
    if isinstance(cause, TimeoutError):
        kind = cause.type.name if cause.type else "TIMEOUT"
        return (
            "Timeout",
            f"no worker finished it ({kind} after {error.retry_state and error.retry_state.name})",
        )
    return type(cause).__name__, str(cause)


def label(value: Any) -> str:
    """Say in a few words which item this is: a text itself, a model's path or name."""
    if isinstance(value, (tuple, list)) and value:
        return label(value[0])
    text = value if isinstance(value, str) else _telling_field(value)
    line = " ".join((text if text is not None else repr(value)).split())
    return line if len(line) <= _LABEL_LENGTH else f"{line[: _LABEL_LENGTH - 1]}…"


def _telling_field(value: Any) -> str | None:
    fields = _fields(value)
    texts = {str(name): field for name, field in fields.items() if isinstance(field, str) and field}
    for ending in ("path", "name", "id", "title"):
        for name, text in texts.items():
            if name == ending or name.endswith(f"_{ending}"):
                return text
    return next(iter(texts.values()), None)


def _fields(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}
