"""Calls as plain data: what a choreography, or a shard that works for it, sends to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception

from activities.canonical import in_order
from activities.contract import (
    CALL_CANCELLED,
    PAYLOAD_LIMIT,
    Position,
    Receipt,
    Resumption,
    Usage,
    conversation_id,
    suspended_in,
)
from activities.identity import CallId
from activities.method import Method
from activities.progress import Progress as AttemptProgress
from workflows.board import Work
from workflows.errors import TooLarge
from workflows.ledger import Outcome
from workflows.run import Run

WORKER_DEATHS = 20
"""Attempts that a call may lose to dying workers, beside its own retries: a call that kills its worker must end."""

_GRACE_S = 30.0
"""Seconds for an attempt to report its own timeout before the server ends it."""


@dataclass(frozen=True)
class Service:
    """What the calls of one method by one role have in common.

    Attributes:
        name: The activity type.
        role: Who does it.
        queue: The task queue.
        timeout: Seconds for an attempt.
        patience: Seconds that it may wait for models beside.
        retries: How often it is tried again after an error.
        heartbeat: Seconds without a sign of life after which it is given to another worker.
        model: What the run's options say.
        workflow_id: The run's.
        run_id: The first run of the workflow's chain.
        conversations: To whom the instances' conversations belong; None if the calls remember nothing.
        outlives: Whether these go on when the run has ended.
    """

    name: str
    role: str
    queue: str
    timeout: float
    patience: float
    retries: int
    heartbeat: float
    model: str | None
    workflow_id: str
    run_id: str
    conversations: str | None
    outlives: bool

    def conversation(self, instance: str) -> str | None:
        """Return the workflow id of an instance's conversation; None if its calls remember nothing."""
        return None if self.conversations is None else conversation_id(self.conversations, instance)


class Request(NamedTuple):
    """One call of a service.

    Attributes:
        step: Its place in the program.
        label: What it is about, for people.
        arguments: JSON, as the member `"arguments":{…}` of the message; the same in every process.
    """

    step: str
    label: str
    arguments: str

    @classmethod
    def of(cls, method: Method[..., Any], step: str, label: str, arguments: Mapping[str, Any]) -> Request:
        """Make a request from arguments of the declared types.

        Raises:
            TooLarge: They are more than the server takes.
            ArgumentInvalid: One would not arrive as it is.
        """
        text = arguments_text(method, arguments)
        if len(text) + _ENVELOPE > PAYLOAD_LIMIT:
            largest = max(arguments, key=lambda name: len(repr(arguments[name])), default="")
            raise TooLarge(
                f"its arguments are {len(text):,} bytes, of which '{largest}' has the most; {PAYLOAD_LIMIT:,} is the "
                "most that the server takes. Put it into a file of the workspace and pass the path."
            )
        return cls(step, label, text[1:-1])

    def id(self, method: str, instance: str) -> CallId:
        """Return what tells it from everything else that could be asked, of anyone, at any place."""
        return CallId.of(self.step, method, instance, self.arguments)

    def message(
        self, service: Service, instance: str, position: Position, resumption: Resumption | None = None
    ) -> bytes:
        """Return the message that goes to the worker: a `CallRequest`."""
        envelope = to_json(
            {
                "instance": instance,
                "step": self.step,
                "workflow_id": service.workflow_id,
                "run_id": service.run_id,
                "model": service.model,
                "conversation": service.conversation(instance),
                "outlives": service.outlives,
                "position": position.model_dump(exclude_defaults=True),
                "resumption": resumption,
            }
        )
        return b"%s,%s}" % (envelope[:-1], self.arguments.encode())


def arguments_text(method: Method[..., Any], arguments: Mapping[str, Any]) -> str:
    """Write arguments of the declared types as JSON, `{"arguments":{…}}`, in every process in the same way.

    Raises:
        ArgumentInvalid: One would not arrive as it is.
    """
    text = f'{{"arguments":{method.write(arguments)}}}'
    if not method.may_take_sets:
        return text
    return to_json(in_order({"arguments": arguments}, from_json(text))).decode()


_ENVELOPE = 4_000
"""Bytes for the rest of a message."""


async def send(
    run: Run,
    service: Service,
    request: Request,
    instance: str,
    resumption: Resumption | None = None,
) -> Outcome:
    """Have a worker do what is requested, as soon as the run has room for a call.

    Args:
        run: Whose call it is.
        service: What is to be done.
        request: On what.
        instance: By whom.
        resumption: Where a call goes on that was put aside.
    """
    work = Work(request.step, service.role, instance, service.name, request.label)
    conversation = service.conversation(instance) or ""
    async with run.calling(service.queue, work) as call:
        message = request.message(service, instance, run.positions.get(conversation, Position()), resumption)
        await run.room_for(len(message))
        try:
            reply: RawValue = await workflow.execute_activity(
                service.name,
                RawValue(Payload(metadata={"encoding": b"json/plain"}, data=message)),
                task_queue=service.queue,
                activity_id=str(request.id(service.name, instance)),
                result_type=RawValue,
                start_to_close_timeout=timedelta(seconds=service.timeout + service.patience + _GRACE_S),
                heartbeat_timeout=timedelta(seconds=service.heartbeat),
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=1),
                    maximum_interval=timedelta(minutes=1),
                    maximum_attempts=1 + service.retries + WORKER_DEATHS,
                ),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=f"{instance} · {request.label}",
                priority=run.priority,
            )
            data = reply.payload.data.decode()
            call.receipt = _since(resumption, Receipt.model_validate_json(data))
            if call.receipt.position is not None:
                run.positions[conversation] = call.receipt.position
            if suspended_in(data):
                call.outcome = "cancelled"  # it is made again when people have decided
            return Outcome(data)
        except ActivityError as error:
            call.receipt = _since(resumption, Receipt(usage=_used(error)))
            if is_cancelled_exception(error) or _was_cancelled(error):
                call.outcome = "cancelled"
                return Outcome()
            call.outcome = "failed"
            return Outcome(error=_reason(error), cause=error)


def _since(resumption: Resumption | None, receipt: Receipt) -> Receipt:
    """Leave out what a call had used before it was put aside: it was told then."""
    if resumption is not None and receipt.usage.model_calls:
        receipt.usage -= resumption.used
    return receipt


def _used(error: ActivityError) -> Usage:
    """Return what all attempts of a call that has failed have used, as far as a worker could tell."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details:
        return Usage.model_validate(cause.details[0])
    if isinstance(cause, TimeoutError) and cause.last_heartbeat_details:
        return AttemptProgress.read(cause.last_heartbeat_details[0]).usage
    return Usage()


def _was_cancelled(error: ActivityError) -> bool:
    return isinstance(error.cause, ApplicationError) and error.cause.type == CALL_CANCELLED


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
