"""What comes from outside: whoever reaches the server may send anything to a workflow, and none of it does harm.

A signal that can't be taken is dropped, with a warning in the worker's log; an update or a query is refused, in words;
a workflow that is started with what it can't use fails, once. Left to the engine each of these would fail the workflow
task, which is repeated for ever, and with it everything that the workflow was to do.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleQueryInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from activities.contract.names import SHARD
from activities.contract.text import clip, explain
from workflows.engine.sdk import signals_of
from workflows.errors import ChoreographyError, ProgramChanged, tell

FAILS_A_WORKFLOW = (TypeError, ValidationError)
"""What an initializer raises that gets other inputs than it takes; a worker has to be told that it ends a workflow."""

_WORDS = 500


class Unfit(ChoreographyError):
    """What was sent is not what is taken; says what is."""


class Guarded(Interceptor):
    """Lets nothing from outside do harm to the workflows of a worker."""

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return what all that is sent to a workflow goes through."""
        return _Guard


class _Guard(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        workflow.set_dynamic_signal_handler(_drop_unknown)
        name = workflow.info().workflow_type
        if name == SHARD and workflow.info().parent is None:
            raise _failure(Unfit(f"{name} is a part of a run, which starts it; it can't be started by itself"))
        try:
            input.args = _fitting(name, input.run_fn, input.args)
        except Unfit as error:
            raise _failure(error) from None
        try:
            return await super().execute_workflow(input)
        except (FailureError, ProgramChanged):
            raise
        except Exception as error:
            raise _failure(error) from error

    async def handle_signal(self, input: HandleSignalInput) -> None:
        try:
            input.args = _fitting(input.signal, workflow.get_signal_handler(input.signal), input.args)
            await super().handle_signal(input)
        except Exception as error:
            _drop(input.signal, tell(error))

    def handle_update_validator(self, input: HandleUpdateInput) -> None:
        input.args = _fitting(input.update, workflow.get_update_handler(input.update), input.args)
        super().handle_update_validator(input)

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        try:
            input.args = _fitting(input.update, workflow.get_update_handler(input.update), input.args)
            return await super().handle_update_handler(input)
        except (FailureError, ProgramChanged):
            raise
        except Exception as error:
            raise _failure(error) from error

    async def handle_query(self, input: HandleQueryInput) -> Any:
        try:
            input.args = _fitting(input.query, workflow.get_query_handler(input.query), input.args)
            return await super().handle_query(input)
        except FailureError:
            raise
        except Exception as error:
            raise _failure(error) from error


def _drop_unknown(name: str, args: Sequence[RawValue]) -> None:
    known = signals_of(type(workflow.instance()))
    _drop(name, f"there is no such signal here; there are: {', '.join(known) or 'none'}")


def _drop(signal: str, why: str) -> None:
    workflow.logger.warning("dropped the signal %s that was sent here: %s", clip(signal, 100), clip(why, _WORDS))


def _failure(error: Exception) -> ApplicationError:
    return ApplicationError(tell(error), type=type(error).__name__, non_retryable=True)


def _fitting(name: str, handler: Callable[..., Any] | None, args: Sequence[Any]) -> list[Any]:
    """Return the arguments as a handler takes them.

    The engine reads them by their types only if there are as many as the handler has parameters, and null as any type.

    Raises:
        Unfit: There are too few, too many, or others.
    """
    if handler is None:
        return list(args)
    taken = _Taken.by(handler)
    try:
        taken.signature.bind(*args)
    except TypeError as error:
        raise Unfit(f"{error}; {taken.usage(name)}") from None
    if any(one.kind is one.VAR_POSITIONAL for one in taken.signature.parameters.values()):
        return list(args)
    return [_read(taken, name, parameter, value) for parameter, value in zip(taken.adapters, args, strict=False)]


def _read(taken: _Taken, name: str, parameter: str, value: Any) -> Any:
    if isinstance(value, RawValue):
        raise Unfit(f"'{parameter}' can't be read as JSON; {taken.usage(name)}")
    try:
        return taken.adapters[parameter].validate_python(value)
    except ValidationError as error:
        raise Unfit(f"'{parameter}' does not fit: {explain(error)}; {taken.usage(name)}") from None


@dataclass(frozen=True)
class _Taken:
    """What a handler or a run takes."""

    signature: inspect.Signature
    adapters: Mapping[str, TypeAdapter[Any]]

    @classmethod
    def by(cls, handler: Callable[..., Any]) -> _Taken:
        """Look at a handler, be it bound to its workflow or not."""
        return _taken(handler.func if isinstance(handler, functools.partial) else handler)

    def usage(self, name: str) -> str:
        """Say what is taken: `tell takes (text: str)`."""
        told = []
        for parameter in self.signature.parameters.values():
            default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
            told.append(f"{parameter.name}: {parameter.annotation}{default}")
        return f"{name} takes ({', '.join(told)})"


@functools.lru_cache(maxsize=200)
def _taken(function: Callable[..., Any]) -> _Taken:
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    hints = typing.get_type_hints(function, include_extras=True)
    return _Taken(
        inspect.Signature(parameters), {one.name: TypeAdapter(hints.get(one.name, Any)) for one in parameters}
    )
