"""An agent method as a Temporal activity: decode the call, heartbeat, answer, sort the errors."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from activities.agent import Agent
from activities.answer import Progress, TurnLoop, accounting_to
from activities.call import CallContext, answering
from activities.contract import (
    HEARTBEAT_TIMEOUT_S,
    PAYLOAD_LIMIT,
    CallReply,
    CallRequest,
    clip,
    explain,
    method_name,
)
from activities.errors import (
    AgentError,
    ArgumentInvalid,
    ModelUnavailable,
    ResultInvalid,
)
from activities.method import Method

logger = logging.getLogger(__name__)

Activity = Callable[[RawValue], Awaitable[RawValue]]


class AttemptTimedOut(AgentError):
    """An attempt took longer than its method allows; it is tried again like one that failed."""


def activity_for(agent: type[Agent], method: Method[..., Any]) -> Activity:
    """Return the activity that answers calls of a method, named `Coder.implement_module`."""
    name = method_name(agent.__name__, method.name)

    @activity.defn(name=name)
    async def answer_call(payload: RawValue) -> RawValue:
        progress = _progress_of_earlier_attempts()
        record = _Record(progress)
        beating = asyncio.create_task(_beat(record))
        try:
            return await _answer(agent, method, payload.payload.data, record)
        except (Exception, SystemExit) as error:  # a SystemExit would end the whole worker
            progress.failures += 1
            record.send()
            raise _failure(name, method, error, progress) from None
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    return answer_call


async def _answer(agent: type[Agent], method: Method[..., Any], data: bytes, record: _Record) -> RawValue:
    request = _decode(method, data)
    call = CallContext(
        workflow_id=request.workflow_id,
        run_id=request.run_id,
        instance=request.instance,
        method=method_name(agent.__name__, method.name),
        step=request.step,
    )
    with answering(call):
        logger.info("started, attempt %d", activity.info().attempt)
        made = _new_agent(agent, request.model)
        value = await _in_time(call.method, method, _perform(made, method, request.arguments, record))
        reply = _encode(call.method, method, CallReply(value=value, usage=record.progress.usage))
        logger.info("done: %s", _in_short(record.progress))
        return reply


async def _in_time(name: str, method: Method[..., Any], work: Awaitable[Any]) -> Any:
    seconds = method.options.timeout
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():  # it is the method's own
            raise
        raise AttemptTimedOut(
            f"{name} was not done after {seconds:g} s. Give it more time, @{method.kind}(timeout=…), or less to do."
        ) from None


async def _perform(agent: Agent, method: Method[..., Any], arguments: dict[str, Any], record: _Record) -> Any:
    if method.kind == "prompt":
        loop = TurnLoop(agent, method, arguments, record.progress, record=record.send)
        return await loop.run()
    with accounting_to(record.progress):
        return await getattr(agent, method.name)(**arguments)


def _new_agent(agent: type[Agent], model: str | None) -> Agent:
    """Make the agent for one call; what outlives the call is not kept in it."""
    made = agent()
    if model:
        made.model = model
    return made


def _decode(method: Method[..., Any], data: bytes) -> CallRequest[dict[str, Any]]:
    try:
        request = method.request.model_validate_json(data)
    except ValidationError as error:
        raise ArgumentInvalid(
            f"the arguments do not fit: {explain(error, skip=('arguments',))}. "
            "Caller and worker may run different versions of the code."
        ) from None
    arguments = {name: p.default for name, p in method.signature.parameters.items() if p.default is not p.empty}
    return request.model_copy(update={"arguments": {**arguments, **request.arguments}})


def _encode(name: str, method: Method[..., Any], reply: CallReply[Any]) -> RawValue:
    try:
        checked = method.reply.model_validate({"value": reply.value, "usage": reply.usage})
        data = checked.model_dump_json(by_alias=True, round_trip=True).encode()
    except ValidationError as error:
        raise ResultInvalid(f"{name} returned something else than it declares: {explain(error)}") from None
    except PydanticSerializationError as error:
        raise ResultInvalid(f"{name} returned something that is no data: {error}") from None
    if len(data) > PAYLOAD_LIMIT:
        raise ResultInvalid(
            f"{name} returned {len(data):,} bytes; {PAYLOAD_LIMIT:,} is the most that the server takes. "
            "Write it to the workspace and return its path."
        )
    return RawValue(_json(data))


def _json(data: bytes) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=data)


def _progress_of_earlier_attempts() -> Progress:
    details = activity.info().heartbeat_details
    return Progress.model_validate(details[0]) if details else Progress()


class _Record:
    """What the server is told of a call's progress, with its heartbeats; the next attempt starts from there."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._last_that_fitted = Progress()

    def send(self) -> None:
        """Send the progress, or of one that is too large what was there before: its heartbeat would end the attempt."""
        data = self.progress.model_dump_json().encode()
        if len(data) <= PAYLOAD_LIMIT:
            self._last_that_fitted = self.progress.model_copy(update={"messages": list(self.progress.messages)})
        else:
            spent = {"usage": self.progress.usage, "failures": self.progress.failures}
            data = self._last_that_fitted.model_copy(update=spent).model_dump_json().encode()
        activity.heartbeat(RawValue(_json(data)))


async def _beat(record: _Record) -> None:
    """Tell the server every second that this call lives, from its first moment on."""
    while True:
        record.send()
        await asyncio.sleep(HEARTBEAT_TIMEOUT_S / 5)


def _failure(name: str, method: Method[..., Any], error: BaseException, progress: Progress) -> ApplicationError:
    """Say whether the call is tried again, and when; the message is cut, as the server loses long ones."""
    kind, message, delay, may_pass = type(error).__name__, str(error), None, True
    if isinstance(error, ApplicationError):
        kind, message, delay = error.type or kind, error.message, error.next_retry_delay
        may_pass = not error.non_retryable
    elif isinstance(error, ModelUnavailable):
        delay = None if error.retry_after is None else timedelta(seconds=error.retry_after)
    elif isinstance(error, AgentError):
        may_pass = isinstance(error, AttemptTimedOut)
    else:
        message = f"{error} ({_place_of(error)})"
    final = not may_pass or progress.failures > method.options.retries
    logger.log(
        logging.ERROR if final else logging.WARNING,
        "%s: %s: %s%s",
        "failed" if final else "failed, tried again",
        kind,
        clip(message),
        "" if isinstance(error, (AgentError, ApplicationError)) else "\n" + "".join(traceback.format_exception(error)),
    )
    return ApplicationError(clip(message), type=kind, non_retryable=final, next_retry_delay=delay)


def _place_of(error: BaseException) -> str:
    """Name the line that raised: the innermost one outside installed packages."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _in_short(progress: Progress) -> str:
    usage = progress.usage
    if not usage.model_calls:
        return "no model asked"
    cost = "unknown cost" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"
    return f"{usage.model_calls} model calls, {usage.prompt_tokens + usage.completion_tokens:,} tokens, {cost}"
