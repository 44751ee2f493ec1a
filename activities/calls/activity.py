"""An agent method as a Temporal activity: decode the call, heartbeat, answer, sort the errors."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from activities.answering.approval import CallPaused
from activities.answering.checkpoint import Checkpoint
from activities.answering.interpreters import work_for_run
from activities.answering.work import Work
from activities.border.context import CallContext, answering
from activities.border.user_code import contain_tasks, is_closed_by, raised_by
from activities.border.washing import name_of, said, stack_of, words_of
from activities.calls.heartbeats import Heartbeats
from activities.calls.in_flight import in_flight
from activities.calls.received import Received
from activities.contract.conversations import Owner
from activities.contract.envelope import LONGEST_NAME, CallReply, CallRequest, PausedCall
from activities.contract.limits import MESSAGE_LIMIT, Room
from activities.contract.names import (
    CALL_CANCELLED,
    CHOREOGRAPHY_QUEUE,
    WAITS_FOR_MODEL_SIGNAL,
    method_name,
    of_team,
    team_of,
)
from activities.contract.text import clip, digest_of, explain
from activities.declarations.agent import Agent, patience_of
from activities.declarations.method import Method
from activities.errors import (
    WAITS_TO_BE_MENDED,
    AgentError,
    ArgumentInvalid,
    AttemptTimedOut,
    ModelUnavailable,
    ResultInvalid,
    StoreMissing,
    place_of,
    says_stop,
)
from activities.leases.durable import Fleet
from activities.measures import catalogue as metrics
from activities.measures.measures import count, measuring, measuring_also, observe
from activities.measures.spans import call_is_over
from activities.measures.temporal import meter_of
from activities.memory.durable import Durable
from activities.memory.port import Memory, Nothing
from activities.models.gates import Notice
from activities.models.hearing import Delta, listening
from activities.models.patience import with_patience, without_waiting
from activities.payloads.store import missing_in, stores
from activities.values.values import NotKept
from activities.workspace.desk import Desk, working_at
from activities.workspace.repository import repository_of
from activities.workspace.site import Call

logger = logging.getLogger(__name__)

T = TypeVar("T")

Activity = Callable[[RawValue], Awaitable[RawValue]]


def activity_for(agent: type[Agent], method: Method[..., Any]) -> Activity:
    """Return the activity that answers calls of a method, named `Coder.implement_module`."""
    name = method_name(agent.__name__, method.name)

    @activity.defn(name=name)
    async def answer_call(payload: RawValue) -> RawValue:
        contain_tasks()
        task = asyncio.current_task()
        room = Room(stores=stores(activity.client().data_converter.external_storage))
        _check_that_all_is_there(payload)
        recorder = _Recorder(_checkpoint_of_earlier_attempts(), room)
        work: Work | None = None
        async with AsyncExitStack() as within:
            await within.enter_async_context(recorder.heartbeats.beating())
            within.enter_context(measuring(meter_of(activity.client()), method=name))
            try:
                request = await _aside(_decode, method, payload.payload.data, size=len(payload.payload.data))
                within.enter_context(measuring_also(role=request.role))
                recorder.go_on_from(request.paused)
                recorder.heartbeats.call = _context(name, request)
                within.enter_context(answering(recorder.heartbeats.call))
                desk = _desk(agent, name, request)
                within.enter_context(working_at(desk))
                work = work_for_run(
                    agent, method, request, recorder.checkpoint, _memory(request, room), recorder.record, desk
                )
                within.enter_context(_heard(recorder, work))
                with listening(recorder.hear):
                    return await _answer(name, work, recorder, len(payload.payload.data))
            except BaseException as error:  # whatever it is: it ends the call, and not the worker
                if is_closed_by(error, task):
                    raise
                if says_stop(error):
                    _ended(recorder, "stopped")
                    raise _cancellation(recorder.checkpoint) or error from None
                if not isinstance(raised_by(error), WAITS_TO_BE_MENDED):
                    recorder.checkpoint.failures += 1
                recorder.record()
                failure = _failure(name, method, error, recorder.checkpoint)
                _count_failure(recorder, failure)
                if failure.non_retryable and work is not None:
                    await work.give_up(f"{failure.type}: {failure.message}")
                raise failure from None

    return answer_call


def _context(name: str, request: CallRequest[Any]) -> CallContext:
    return CallContext(
        workflow_id=request.workflow_id,
        run_id=request.run_id,
        instance=request.instance,
        method=name,
        step=request.step,
        budget_left=request.budget_left,
    )


async def _answer(name: str, work: Work, recorder: _Recorder, asked: int) -> RawValue:
    level = logging.INFO if work.method.kind == "prompt" else logging.DEBUG
    logger.log(level, "started, attempt %d", activity.info().attempt)
    try:
        leases = Fleet(activity.client(), _team())
        with with_patience(patience_of(type(work.agent), work.method), _tell_run, leases):
            if work.desk is not None:
                await asyncio.to_thread(work.desk.begin)
            value = await _in_time(name, work.method, work.run())
            branches = await asyncio.to_thread(work.desk.end) if work.desk is not None else {}
    except CallPaused as pause:
        logger.info("paused until this is approved: %s", pause)
        key = work.desk.call.key if work.desk is not None else ""
        paused = _paused(name, pause, recorder.checkpoint, recorder.room.bytes - asked, key)
        _ended(recorder, "paused")
        return paused
    took = round(time.monotonic() - recorder.began, 3)
    answer = CallReply(
        value=value,
        usage=recorder.checkpoint.usage,
        position=work.memory.position,
        branches=branches,
        waited_s=_waited(),
        took_s=took,
    )
    reply = await _encode(name, work.method, answer, recorder.room)
    logger.log(level, "done: %s", _in_short(recorder.checkpoint))
    _ended(recorder, "done")
    return reply


def _ended(recorder: _Recorder, outcome: str) -> None:
    if outcome in ("paused", "failed") or _is_cancelled():
        call_is_over(well=outcome == "paused")
    count(metrics.CALLS, outcome=outcome)
    observe(metrics.CALL_SECONDS, time.monotonic() - recorder.began)


def _count_failure(recorder: _Recorder, failure: ApplicationError) -> None:
    retried = not failure.non_retryable
    _ended(recorder, "tried_again" if retried else "failed")
    count(metrics.CALL_ERRORS, error=failure.type or "Error", retried="yes" if retried else "no")


async def _in_time(name: str, method: Method[..., Any], work: Awaitable[Any]) -> Any:
    seconds = method.options.timeout
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            with without_waiting(limit):
                return await work
    except TimeoutError:
        if not limit.expired():  # it is the method's own
            raise
        raise AttemptTimedOut(
            f"{name} was not done after {seconds:g} s. Give it more time, @{method.kind}(timeout=…), or less to do."
        ) from None


async def _tell_run(notice: Notice) -> None:
    """Tell the run of a call what its calls wait for."""
    info = activity.info()
    run = activity.client().get_workflow_handle(info.workflow_id or "", run_id=info.workflow_run_id)
    try:
        await run.signal(WAITS_FOR_MODEL_SIGNAL, args=[notice.about, notice.step, notice.text])
    except RPCError as error:
        logger.debug("the run could not be told: %s", error)


def _memory(request: CallRequest[Any], room: Room) -> Memory:
    if request.conversation is None:
        return Nothing()
    info = activity.info()
    return Durable(
        activity.client(),
        request.conversation,
        Owner(workflow_id=request.workflow_id, run_id=request.run_id),
        # A run that is reset goes on under another run id, and makes calls anew.
        f"{info.workflow_run_id}/{request.step}",
        position=request.position,
        attempt=info.attempt,
        outlives=request.outlives,
        queue=of_team(_team(), CHOREOGRAPHY_QUEUE),
        room=room,
    )


def _heard(recorder: _Recorder, work: Work) -> AbstractContextManager[None]:
    """Have the call asked for what it says."""
    info, call = activity.info(), recorder.heartbeats.call
    assert call is not None  # it is known by now whose it is
    began = info.started_time.timestamp()
    name = digest_of(f"{info.workflow_run_id}/{call.step}")[:12]
    attempt = digest_of(f"{name}/{info.attempt}/{began}")
    recorder.received.begin(call, name, attempt, began, work.said_so_far)
    return in_flight(call.workflow_id, recorder.received)


def _desk(agent: type[Agent], name: str, request: CallRequest[Any]) -> Desk | None:
    """Return where the call works, if that is a branch of the run's repository."""
    repository = repository_of(agent)
    if repository is None or request.repository is None:
        return None
    info = activity.info()
    call = Call(
        # A run that is reset goes on under another run id, and makes calls anew; one that was paused goes on.
        key=(request.paused and request.paused.key) or f"{info.workflow_run_id}/{request.step}",
        at=int(info.scheduled_time.timestamp()),
        run=request.workflow_id,
        step=request.step,
        method=name,
        instance=request.instance,
        item=request.repository.item,
    )
    return repository.desk((request.workflow_id, request.run_id), call, request.repository)


def _team() -> str:
    """Return the team of the call: its queue is named after its method, or after the class of that."""
    info = activity.info()
    return team_of(info.task_queue, info.activity_type) or team_of(
        info.task_queue, info.activity_type.partition(".")[0]
    )


class _Recorder:
    """Writes checkpoints down as heartbeat details."""

    def __init__(self, checkpoint: Checkpoint | None, room: Room) -> None:
        self.checkpoint = checkpoint or Checkpoint()
        self.room = room
        self.began = time.monotonic()
        self.received = Received()
        self._keep()
        self.heartbeats = Heartbeats(self._told)
        self._is_first_attempt = checkpoint is None

    def go_on_from(self, paused: PausedCall | None) -> None:
        """Go on where the call was paused, unless an earlier attempt has gone on from there."""
        if paused is not None and self._is_first_attempt:
            self.checkpoint = Checkpoint.read(paused.checkpoint)
            self._keep()

    def record(self) -> None:
        self.received.forget()
        self._keep()
        self.heartbeats.tell(self._told)

    def hear(self, delta: Delta) -> None:
        """Have the next heartbeat, whenever it is due, tell what has come of an answer."""
        self.received.hear(delta)
        self.heartbeats.mention(self._told)

    def _keep(self) -> None:
        """Take the checkpoint as it is now; it is written down once, however often it is told."""
        self._recorded = _once(functools.partial(self.checkpoint.snapshot().record, self.room.bytes))

    def _told(self) -> Any:
        return {**self._recorded(), **self.received.told()}


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Return what makes something when it is first wanted; to make a `functools.cache` of it takes far longer."""
    made: list[T] = []

    def kept() -> T:
        if not made:
            made.append(make())
        return made[0]

    return kept


def _decode(method: Method[..., Any], data: bytes) -> CallRequest[dict[str, Any]]:
    try:
        request = method.request.model_validate_json(data, by_alias=True, by_name=True)
    except ValidationError as error:
        sent = said(json.dumps(from_json(data).get("arguments")), 300)
        raise ArgumentInvalid(
            f"the arguments do not fit: {explain(error, skip=('arguments',))}. The choreography sent {sent}"
        ) from None
    arguments = {name: p.default for name, p in method.signature.parameters.items() if p.default is not p.empty}
    return request.model_copy(update={"arguments": {**arguments, **request.arguments}})


async def _encode(name: str, method: Method[..., Any], reply: CallReply[Any], room: Room) -> RawValue:
    try:
        # How large it is, is not known before it is written. To write it back and compare may take half a second.
        size = len(reply.value) if isinstance(reply.value, (str, bytes)) else 0
        value = await _aside(_written, method, reply.value, size=size)
    except ValidationError as error:
        explained = explain(error, skip=("value",))
        raise ResultInvalid(f"{name} returned something else than it declares: {explained}") from None
    except NotKept as error:
        raise ResultInvalid(f"{name} returned what would not arrive as it is: {error}") from None
    data = f'{reply.model_dump_json(exclude={"value"})[:-1]},"value":{value}}}'.encode()
    if not room.takes(len(data)):
        instead = "Write it to the workspace and return its path."
        raise ResultInvalid(room.refusal(f"{name} returned {len(data):,} bytes", instead))
    return _json(data)


def _written(method: Method[..., Any], value: Any) -> str:
    return method.result_values.write(method.result_values.check(value))


_LARGE = 1_000_000
"""Bytes from which on a value is read or written in a thread, so that the worker's event loop goes on."""


async def _aside(work: Callable[..., T], *args: Any, size: int) -> T:
    return await asyncio.to_thread(work, *args) if size > _LARGE else work(*args)


def _json(data: bytes) -> RawValue:
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data))


_ROOM_FOR_AN_ANSWER = 4 * (MESSAGE_LIMIT + LONGEST_NAME) + 1_000
"""Bytes that each answer may take, at least, when the call is made again."""


def _paused(name: str, pause: CallPaused, checkpoint: Checkpoint, room: int, key: str) -> RawValue:
    """Say what the call waits for, with all that it needs to go on where it is.

    Args:
        name: The activity.
        pause: What it waits for.
        checkpoint: How far it is.
        room: Bytes that are left where all of this is sent back, beside the call's arguments.
        key: What its work in a repository is known by.
    """
    reply = PausedCall(wants=pause.wants, usage=checkpoint.usage, key=key)
    limit = room - len(reply.model_dump_json().encode()) - _ROOM_FOR_AN_ANSWER * len(pause.wants)
    reply.checkpoint = checkpoint.record(limit)
    data = reply.model_dump_json().encode()
    if len(data) > room:
        raise ResultInvalid(
            f"{name} can't be put aside until {pause} is approved: what was said and its arguments are more than "
            "the server takes. Give it less to do before that."
        )
    return _json(data)


def _waited() -> float:
    """Return the seconds that this attempt was in its queue, by the server's clock."""
    info = activity.info()
    return round(max((info.started_time - info.current_attempt_scheduled_time).total_seconds(), 0.0), 3)


def _check_that_all_is_there(payload: RawValue) -> None:
    """Check, before a heartbeat takes the place of earlier ones, that what a call begins with is to be had.

    Raises:
        ApplicationError: It is not, and is tried again.
    """
    for given in (payload, *activity.info().heartbeat_details):
        if (why := missing_in(given)) is not None:
            logger.warning("can't begin: %s", why)
            raise ApplicationError(clip(why), type=StoreMissing.__name__)


def _checkpoint_of_earlier_attempts() -> Checkpoint | None:
    details = activity.info().heartbeat_details
    return Checkpoint.read(details[0]) if details else None


def _failure(name: str, method: Method[..., Any], error: BaseException, checkpoint: Checkpoint) -> ApplicationError:
    """Say whether the call is tried again, and when; the message is cut, as the server loses long ones."""
    error = raised_by(error)
    kind, message, delay, may_pass = name_of(error), words_of(error), None, True
    if isinstance(error, ApplicationError):
        kind, message, delay = said(error.type or kind), said(error.message), _sensible(error.next_retry_delay)
        may_pass = not error.non_retryable
    elif isinstance(error, ModelUnavailable):
        delay = _sensible(error.retry_after)
    elif isinstance(error, AgentError):
        may_pass = isinstance(error, (AttemptTimedOut, *WAITS_TO_BE_MENDED))
    else:
        message = f"{message} ({place_of(error)})"
    final = not may_pass or checkpoint.failures > method.options.retries
    logger.log(
        logging.ERROR if final else logging.WARNING,
        "%s: %s: %s%s",
        "failed" if final else "failed, tried again",
        kind,
        clip(message),
        "" if isinstance(error, (AgentError, ApplicationError)) else f"\n{stack_of(error)}",
    )
    used = checkpoint.usage.model_dump(mode="json")
    return ApplicationError(clip(message), used, type=kind, non_retryable=final, next_retry_delay=delay)


_LONGEST_WAIT = timedelta(days=7)


def _sensible(delay: Any) -> timedelta | None:
    """Return a wait that the server takes; None for any other, whoever asks for it."""
    try:
        wait = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
    except (TypeError, ValueError, OverflowError):  # no number, or none that is finite
        return None
    return wait if timedelta() <= wait <= _LONGEST_WAIT else None


def _cancellation(checkpoint: Checkpoint) -> ApplicationError | None:
    """Return by what a cancelled call tells what it has used, if it has; a worker that stops cancels no call."""
    if not checkpoint.usage.model_calls or not _is_cancelled():
        return None
    used = checkpoint.usage.model_dump(mode="json")
    return ApplicationError(
        "cancelled", used, type=CALL_CANCELLED, non_retryable=True, category=ApplicationErrorCategory.BENIGN
    )


def _is_cancelled() -> bool:
    details = activity.cancellation_details()
    return details is not None and details.cancel_requested


def _in_short(checkpoint: Checkpoint) -> str:
    usage = checkpoint.usage
    if not usage.model_calls:
        return "no model asked"
    cost = "unknown cost" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    cached = f" ({usage.cache_read_tokens:,} of them cached)" if usage.cache_read_tokens else ""
    return f"{usage.model_calls} model calls, {usage.prompt_tokens + usage.completion_tokens:,} tokens{cached}, {cost}"
