"""An agent method: a function of an agent class, what it was declared as, and its types.

`@prompt`, `@task` and `@tool` in `agent.py` make these.
"""

from __future__ import annotations

import asyncio
import dis
import functools
import inspect
import math
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from activities.border.author import Line
from activities.border.user_code import in_thread, on_the_loop
from activities.contract.envelope import CROSSING, CallReply, CallRequest
from activities.contract.text import explain
from activities.declarations import template
from activities.errors import ArgumentInvalid, DeclarationError, NoRole
from activities.values import schema
from activities.values.canonical import may_hold_sets
from activities.values.declared import look_alike, refusal
from activities.values.values import NotKept, Outside, Values

P = ParamSpec("P")
R = TypeVar("R", covariant=True)

Kind = Literal["prompt", "task", "tool"]


@dataclass(frozen=True)
class MethodOptions:
    """What a decorator may set for its method.

    Times are in seconds. `None` leaves the choice to the agent class, or to the default of the kind.
    """

    timeout: float = 3600.0
    retries: int = 3
    model: str | None = None
    require: tuple[str, ...] = ()
    turns: int | None = None
    reasks: int | None = None
    strategy: str | None = None
    memory: bool = True
    approve: bool = False
    remind: float | None = None
    deadline: float | None = None
    default: Any = inspect.Parameter.empty
    patience: float | None = None
    per_minute: float | None = None
    silence: float | None = None
    tell_budget: bool = False

    @property
    def has_default(self) -> bool:
        """Whether there is an answer for when no person gives one in time."""
        return self.default is not inspect.Parameter.empty

    def set_beside(self, usual: MethodOptions) -> list[str]:
        """Return the names of those that differ from what is usual."""
        return [field.name for field in fields(self) if getattr(self, field.name) != getattr(usual, field.name)]


class Method(Generic[P, R]):
    """A declared agent method.

    On the class it is this description. On an agent it is callable and runs in this process. On a role, in a
    choreography, it makes a call that a worker pulls.
    """

    def __init__(self, function: Callable[..., Any], kind: Kind, options: MethodOptions) -> None:
        self.function = function
        self.kind: Kind = kind
        self.options = options
        self.offered = kind == "tool"
        self.name = function.__name__
        self.docstring = inspect.cleandoc(function.__doc__ or "")
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, agent: None, owner: type) -> Method[P, R]: ...
    @overload
    def __get__(self, agent: object, owner: type) -> Callable[P, Awaitable[R]]: ...
    def __get__(self, agent: object | None, owner: type) -> Method[P, R] | Callable[P, Awaitable[R]]:
        if agent is None:
            return self
        return functools.wraps(self.function)(functools.partial(self._run_in_process, agent))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.function.__qualname__}>"

    @cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature without `self`, with the values of its defaults."""
        try:
            return schema.with_plain_defaults(self._written_signature)
        except ValueError as error:  # Field(…) gave no default after one that did
            raise DeclarationError(f"{self.function.__qualname__}: {error}; order the parameters so") from None

    @cached_property
    def _written_signature(self) -> inspect.Signature:
        signature = inspect.signature(self.function)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @cached_property
    def _fields(self) -> dict[str, FieldInfo]:
        """The parameters whose default is written as a `Field(…)`."""
        return schema.fields_of(self._written_signature)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The resolved type hints.

        Raises:
            DeclarationError: A hint names something that can't be found from the module.
        """
        try:
            hints = typing.get_type_hints(self.function, include_extras=True)
        except (NameError, AttributeError) as error:
            raise DeclarationError(
                f"{self.function.__qualname__}: {error}; annotate it with types that the module "
                f"{self.function.__module__} defines or imports at its top level, and not under TYPE_CHECKING"
            ) from error
        return schema.with_bounds(hints, self._fields)

    @cached_property
    def returns(self) -> Any:
        """The type of the result; Any where none is declared."""
        return self.hints.get("return", Any)

    @cached_property
    def answer(self) -> schema.AnswerSchema:
        """The type of the answer as a model sees it.

        Raises:
            DeclarationError: The type has no JSON schema.
        """
        answer = schema.AnswerSchema(self.returns, schema.name_for_models(self.name))
        self._adapt(lambda: answer.schema)
        return answer

    @cached_property
    def arguments(self) -> TypeAdapter[dict[str, Any]]:
        """The validator of the arguments, by name, as a model gives them."""
        adapter: TypeAdapter[dict[str, Any]] = self._adapt(lambda: TypeAdapter(self._arguments_type()))
        return adapter

    @cached_property
    def argument_values(self) -> Values[dict[str, Any]]:
        """What writes and reads the arguments where they cross."""
        values: Values[dict[str, Any]] = self._adapt(lambda: Values(self._crossing_arguments))
        return values

    @cached_property
    def answer_values(self) -> Values[Any]:
        """What reads and writes the result where a person gives it."""
        values: Values[Any] = self._adapt(lambda: Values(self.returns, Outside))
        return values

    @cached_property
    def result_values(self) -> Values[Any]:
        """What writes and reads the result where it crosses."""
        values: Values[Any] = self._adapt(lambda: Values(self.returns, CallReply))
        return values

    @cached_property
    def request(self) -> type[CallRequest[dict[str, Any]]]:
        """The message that carries a call of this method."""
        message: type[CallRequest[dict[str, Any]]] = self._adapt(
            lambda: CallRequest.__class_getitem__(self._crossing_arguments)
        )
        return message

    @cached_property
    def may_take_sets(self) -> bool:
        """Whether arguments may hold sets, which every process has in another order."""
        return may_hold_sets(self.arguments.core_schema)

    @cached_property
    def reply(self) -> type[CallReply[Any]]:
        """The message that carries its result."""
        message: type[CallReply[Any]] = self._adapt(lambda: CallReply.__class_getitem__(self.returns))
        return message

    @cached_property
    def _crossing_arguments(self) -> Any:
        return self._arguments_type(CROSSING)

    def _arguments_type(self, config: ConfigDict | None = None) -> Any:
        return schema.arguments_type(self.name, self.signature, self.hints, self.docstring, config)

    def _adapt(self, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
            reason = str(error).splitlines()[0]
            raise DeclarationError(
                f"{self.function.__qualname__}: its types can't be written as JSON: {reason}; "
                "use types that pydantic knows (models, dataclasses, standard containers)"
            ) from error

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, defaults applied.

        Raises:
            ArgumentInvalid: They do not fit the signature.
        """
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentInvalid(f"{self.function.__qualname__}{self.signature}: {error}") from None
        given = set(bound.arguments)
        bound.apply_defaults()
        for name in self._fields.keys() - given:
            bound.arguments[name] = schema.plain_default(self._fields[name])
        return dict(bound.arguments)

    def write(self, arguments: Mapping[str, Any]) -> str:
        """Write arguments of the declared types as one JSON object, to be sent.

        Raises:
            ArgumentInvalid: One would not arrive as it is; names the parameter.
        """
        try:
            return self.argument_values.write(dict(arguments))
        except NotKept as error:
            raise ArgumentInvalid(f"{self.function.__qualname__}: {error}") from None

    def check(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the types that are declared for them.

        Raises:
            ArgumentInvalid: One is of another type; names the parameter.
        """
        try:
            return self.arguments.validate_python(arguments, by_alias=True, by_name=True)
        except ValidationError as error:
            raise ArgumentInvalid(f"{self.function.__qualname__}: {explain(error)}") from None

    def _run_in_process(self, agent: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the method here: in a notebook, in a test, or for another method of the same agent.

        A prompt and an asynchronous function give their coroutine. A synchronous function is awaited as well, in
        a thread of its own, except where no loop is running, in other synchronous code: there it is just called.

        Raises:
            NoRole: It is a choreography on the engine that calls it.
        """
        _refuse_on_the_engine(type(agent).__name__, self.name)
        if self.kind == "prompt":
            return _answerers[0](agent, self, self.check(self.bind(args, kwargs)))
        function = functools.partial(self.function, agent)
        if self._fields:  # the function itself would get these as its defaults
            function = functools.partial(function, **self.check(self.bind(args, kwargs)))
        else:
            function = functools.partial(function, *args, **kwargs)
        if self.is_async:
            return on_the_loop(function())
        return in_thread(function) if _loop_is_running() else function()


Answerer = Callable[[Any, Method[..., Any], dict[str, Any]], Coroutine[Any, Any, Any]]
"""What answers a prompt of an agent here, by its arguments, without a server."""

_answerers: list[Answerer] = []


def answered_here_by(answerer: Answerer) -> None:
    """Have prompts that are called here answered by this: declarations know of no model."""
    _answerers[:] = [answerer]


def _refuse_on_the_engine(agent: str, method: str) -> None:
    engine = sys.modules.get("temporalio.workflow")
    if engine is not None and engine.in_workflow():
        raise NoRole(
            f"{Line.here()} calls {agent}.{method} on an agent that is no role, so that every replay would do it "
            f"anew: make it a parameter of the choreography, 'async def …({agent.lower()}: {agent})', and call that."
        )


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_declaration(agent: str, method: Method[..., Any]) -> None:
    """Check what can be known of a method when its class is defined.

    Raises:
        DeclarationError: Names class, method and mend.
    """
    where = f"{agent}.{method.name}"
    for parameter in method._written_signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DeclarationError(
                f"{where}: the parameter '{parameter}' has no single name and type to send; "
                "write plain parameters, or one list or dict"
            )
    _ = method.signature
    if inspect.isasyncgenfunction(method.function) or inspect.isgeneratorfunction(method.function):
        raise DeclarationError(
            f"{where}: a {method.kind} returns one result, and this one yields; collect that in a list"
        )
    _check_rate(where, method.options.per_minute)
    if method.offered:
        _check_tool(where, method)
    if method.kind == "prompt":
        _check_prompt(where, method)
    _check_types(where, method, _known_hints(method.function))


def check_types(agent: str, method: Method[..., Any]) -> None:
    """Check what can be known of a method's types when all modules are loaded.

    Raises:
        DeclarationError: A type can't be found, or its values can't cross; names class, method, place and mend.
    """
    _check_types(f"{agent}.{method.name}", method, method.hints)
    _ = method.argument_values, method.result_values


def _check_types(where: str, method: Method[..., Any], hints: Mapping[str, Any]) -> None:
    for name, hint in hints.items():
        if refused := refusal(hint):
            said = refused.of("its result") if name == "return" else refused.of("the argument", name)
            raise DeclarationError(f"{where}: {said}")
    if method.kind == "prompt" and (alike := look_alike(hints.get("return"))):
        raise DeclarationError(
            f"{where}: an answer is never a {alike[1].__name__}, as its JSON is that of a {alike[0].__name__} too: "
            "give each a field like kind: Literal['…'], and the union Field(discriminator='kind')"
        )


def _check_rate(where: str, per_minute: Any) -> None:
    if per_minute is None:
        return
    is_number = isinstance(per_minute, (int, float)) and not isinstance(per_minute, bool)
    if not is_number or not 0 < per_minute < math.inf:
        raise DeclarationError(
            f"{where}: per_minute={per_minute!r}: give the number of calls that may begin in a minute, more than 0; "
            "or leave it out, and as many begin as there is room for"
        )


def _check_tool(where: str, method: Method[..., Any]) -> None:
    if not method.docstring:
        raise DeclarationError(f"{where}: a tool needs a docstring: it is what tells the model when to call it")
    if not schema.is_described(method.docstring):
        raise DeclarationError(
            f"{where}: its docstring begins with a section; write before it what the tool does: "
            "that is what tells the model when to call it"
        )
    if schema.name_for_models(method.name) != method.name:
        raise DeclarationError(
            f"{where}: models take names of at most {schema.NAME_LENGTH} letters, digits and underscores "
            f"(A to Z, 0 to 9), and this has {len(method.name)}: '{method.name}'; give the tool another one"
        )


def _check_prompt(where: str, method: Method[..., Any]) -> None:
    if not method.docstring:
        raise DeclarationError(f"{where}: a prompt needs a docstring: it is the text that the model is asked")
    if method.signature.return_annotation is inspect.Signature.empty:
        raise DeclarationError(
            f"{where}: a prompt needs a return annotation: it is the schema of the answer; write '-> str' for text"
        )
    if not method.is_async:
        raise DeclarationError(f"{where}: a prompt is awaited; write 'async def {method.name}'")
    if _does_something(method.function):
        raise DeclarationError(
            f"{where}: a prompt has no body but its docstring, what is written there would never run; "
            "write a @task that awaits a prompt, or a plain method"
        )
    template.check(where, method.docstring, method.signature.parameters, _known_hints(method.function))


def _known_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (
        NameError,
        AttributeError,
    ):  # of a type defined further down in the module: its fields are checked when it is there
        return {}


def _does_something(function: Callable[..., Any]) -> bool:
    """Tell whether a body is more than a docstring, `...`, `pass` or `raise NotImplementedError`."""
    return any(
        instruction.opname.startswith(("LOAD_", "RETURN_CONST"))
        and instruction.argval not in (None, "NotImplementedError")
        for instruction in dis.get_instructions(function)
    )
