"""Sending a request to the workers of its method, and reading what comes back."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, is_cancelled_exception

from activities.answering.checkpoint import Checkpoint
from activities.contract.envelope import PausedCall, Receipt, paused_call
from activities.contract.names import CALL_CANCELLED
from activities.contract.usage import Usage
from workflows.engine.calls import Calls
from workflows.engine.happenings import Outcome
from workflows.engine.request import Request, Service
from workflows.tree.scope import CallScope

WORKER_DEATHS = 20
"""Attempts that a call may lose to dying workers, beside its own retries: a call that kills its worker must end."""

_GRACE_S = 30.0
"""Seconds for an attempt to report its own timeout before the server ends it."""


async def send(
    calls: Calls,
    service: Service,
    request: Request,
    scope: CallScope,
    paused: PausedCall | None = None,
) -> Outcome:
    """Have a worker do what is requested, as soon as there is room for a call.

    Args:
        calls: Those of the run or the shard whose call it is.
        service: What is to be done.
        request: On what.
        scope: The call in the tree; it knows by whom.
        paused: Where the call goes on, if it has waited for people.
    """
    instance = scope.instance
    conversation = service.conversation(instance) or ""
    async with calls.calling(service.queue, scope) as call:
        position = calls.positions.of(conversation)
        branches = calls.positions.branches(service.access, instance) if service.access else {}
        message = request.message(service, instance, position, branches, paused, call.budget_left)
        await calls.room_for(len(message))
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
                priority=calls.priority,
            )
            data = reply.payload.data.decode()
            call.receipt = _since(paused, Receipt.model_validate_json(data))
            if call.receipt.position is not None:
                calls.positions.move(conversation, call.receipt.position)
            calls.positions.move_branches(call.receipt.branches)
            if paused_call(data):
                call.outcome = "cancelled"  # it is made again when people have decided
            return Outcome(data)
        except ActivityError as error:
            call.receipt = _since(paused, Receipt(usage=_used(error)))
            if is_cancelled_exception(error) or _was_cancelled(error):
                call.outcome = "cancelled"
                return Outcome()
            call.outcome = "failed"
            return Outcome(error=_reason(error), cause=error)


def _since(paused: PausedCall | None, receipt: Receipt) -> Receipt:
    """Leave out what a call had used before it was paused: it was told then."""
    if paused is not None and receipt.usage.model_calls:
        receipt.usage -= paused.usage
    return receipt


def _used(error: ActivityError) -> Usage:
    """Return what all attempts of a call that has failed have used, as far as a worker could tell."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.details:
        return Usage.model_validate(cause.details[0])
    if isinstance(cause, TimeoutError) and cause.last_heartbeat_details:
        return Checkpoint.read(cause.last_heartbeat_details[0]).usage
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
