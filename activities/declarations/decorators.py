"""`@prompt`, `@task` and `@tool`: how a method of an agent is declared, and with which options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from activities.declarations.method import Kind, Method, MethodOptions
from activities.errors import DeclarationError

P = ParamSpec("P")
R = TypeVar("R")


@overload
def prompt(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Method[P, R]: ...
@overload
def prompt(
    *,
    timeout: float = ...,
    retries: int = ...,
    model: str | None = ...,
    require: Sequence[str] = ...,
    turns: int | None = ...,
    reasks: int | None = ...,
    strategy: str | None = ...,
    memory: bool = ...,
    patience: float | None = ...,
    per_minute: float | None = ...,
    silence: float | None = ...,
    tell_budget: bool = ...,
    remind: float | None = ...,
    deadline: float | None = ...,
    default: Any = ...,
) -> Callable[[Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]], Method[P, R]]: ...
def prompt(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float = 3600.0,
    retries: int = 8,
    model: str | None = None,
    require: Sequence[str] = (),
    turns: int | None = None,
    reasks: int | None = None,
    strategy: str | None = None,
    memory: bool = True,
    patience: float | None = None,
    per_minute: float | None = None,
    silence: float | None = None,
    tell_budget: bool = False,
    remind: float | None = None,
    deadline: float | None = None,
    default: Any = inspect.Parameter.empty,
) -> Any:
    """Declare a model call: the docstring is the user prompt, the return annotation the schema of the answer.

    Of a `Person` it declares a question, with the last three options and no others.

    The docstring may hold `{parameter}` and `{parameter.field}`; `{{` and `}}` are braces. There is no body.

    Args:
        function: The method, where the decorator is used without arguments.
        timeout: Seconds that one attempt of the whole call may take.
        retries: How often a call is tried again after an error that may pass (answers that can't be read, a server
            error that others don't get). A worker's death is not counted, nor is waiting for a model.
        model: A litellm model string, before the class's.
        require: Names of tools that must have been called before an answer is taken.
        turns: The most model answers in one call; the class's `max_turns` where none is given.
        reasks: How often an answer that does not validate is sent back; the class's `max_reasks` otherwise.
        strategy: How a typed answer is asked for; see `Agent.strategy`.
        memory: Whether the instance remembers the call, and what it did before; without, each call starts afresh.
        patience: Seconds that the call waits for models that are not to be had; the class's otherwise.
        per_minute: How many calls begin in a minute, of all runs and on all workers together. Those that its own code
            or another method's makes are part of the call that makes them, and are not counted.
        silence: Seconds in which nothing may come of an answer that has begun; the class's otherwise.
        tell_budget: Whether the prompt ends with what is left of the call's budget, where there is one.
        remind: Seconds after which a person is reminded, and again each time they have passed.
        deadline: Seconds that a person has to answer; then the call fails, unless there is a default.
        default: The answer that is taken at the deadline.
    """
    required = (require,) if isinstance(require, str) else tuple(require)
    asked = MethodOptions(timeout, retries, model, required, turns, reasks, strategy, memory)
    asked = replace(asked, patience=patience, silence=silence, per_minute=per_minute, tell_budget=tell_budget)
    return _declare(function, "prompt", replace(asked, remind=remind, deadline=deadline, default=default))


@overload
def task(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Method[P, R]: ...
@overload
def task(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R]: ...
@overload
def task(*, timeout: float = ..., retries: int = ..., per_minute: float | None = ...) -> _Declare: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    timeout: float = 600.0,
    retries: int = 3,
    per_minute: float | None = None,
) -> Any:
    """Declare plain code, synchronous or asynchronous, as an agent method that no model is offered.

    Args:
        function: The method, where the decorator is used without arguments.
        timeout: Seconds that one attempt may take.
        retries: How often it is tried again after an error. A worker's death is not counted.
        per_minute: How many calls begin in a minute, of all runs and on all workers together; see `prompt`.
    """
    return _declare(function, "task", MethodOptions(timeout, retries, per_minute=per_minute))


@overload
def tool(function: Method[P, R], /) -> Method[P, R]: ...
@overload
def tool(function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Method[P, R]: ...
@overload
def tool(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R]: ...
@overload
def tool(*, timeout: float = ..., retries: int = ..., approve: bool = ...) -> _Declare: ...
def tool(
    function: Callable[..., Any] | Method[..., Any] | None = None,
    /,
    *,
    timeout: float = 600.0,
    retries: int = 3,
    approve: bool = False,
) -> Any:
    """Declare plain code that the model may call while it answers, and a choreography as well.

    Its name, parameters and docstring are what the model is told. Set above `@prompt` it offers a prompt as a tool.

    Args:
        function: The method, where the decorator is used without arguments.
        timeout: Seconds that one attempt may take when a choreography calls it.
        retries: How often it is tried again after an error when a choreography calls it.
        approve: Whether a person has to say yes to each call that a model makes. What a choreography or another
            method calls is meant by whoever wrote that.
    """
    if isinstance(function, Method):
        function.offered = True
        return function
    return _declare(function, "tool", MethodOptions(timeout, retries, approve=approve))


class _Declare:
    """The type of `@task(…)` and `@tool(…)`; it stands here for type checkers only."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Method[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Method[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        raise NotImplementedError


def _declare(
    function: Callable[..., Any] | None, kind: Kind, options: MethodOptions
) -> Method[..., Any] | Callable[[Callable[..., Any]], Method[..., Any]]:
    def make(function: Callable[..., Any]) -> Method[..., Any]:
        if isinstance(function, (staticmethod, classmethod, property)):
            raise DeclarationError(
                f"@{kind} above @{type(function).__name__}: a {kind} is a method of an agent; write it with self, and "
                f"without @{type(function).__name__}"
            )
        if isinstance(function, Method):
            raise DeclarationError(
                f"{function.function.__qualname__} is a {function.kind} already and can't be made a {kind}; write one "
                "decorator, with the options in it, and @tool without options above it to offer it to the model"
            )
        if next(iter(inspect.signature(function).parameters), "") != "self":
            raise DeclarationError(
                f"{function.__qualname__}: a {kind} is a method of an agent: write it in a class, "
                "`class Coder(Agent):`, with self as its first parameter"
            )
        return Method(function, kind, options)

    return make if function is None else make(function)
