"""`@choreography`: a plain async function over inputs and roles becomes a Temporal workflow of the same name.

@choreography(coder=2)
async def build(spec: str, coder: Coder) -> Implementation:
    return await coder.implement_module(spec)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar, overload

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError

from activities.border.washing import name_of
from activities.contract.names import method_name
from activities.declarations.agent import Agent, methods_of
from activities.declarations.declaration import check_made
from activities.declarations.person import Person
from activities.errors import says_stop
from activities.values.schema import fields_of, with_bounds, with_plain_defaults
from workflows.engine.continuation import Continuation, Resumed
from workflows.engine.options import MOST_INSTANCES, RunOptions
from workflows.engine.pool import Pool
from workflows.engine.run import Run
from workflows.errors import ChoreographyInvalid, ProgramChanged, tell
from workflows.program.interface import Interface
from workflows.program.role import Role, pool_of
from workflows.tree.current import inside

P = ParamSpec("P")
R = TypeVar("R")

PoolSize = int | Sequence[str]


class Choreography(Generic[P, R]):
    """A function that says how agents work together, and the workflow made from it.

    Called, it is the plain function: in a unit test with fakes for its roles, in a notebook with agents, in another
    choreography with that one's roles.

    Attributes:
        function: The undecorated function.
        name: The workflow type.
        roles: The agent class of each role.
        inputs: The parameters that are no roles.
        interface: What reads these, and writes the result.
        pools: The names of each role's instances, where the run's options do not say otherwise.
        workflow: The workflow class, for a Temporal worker.
    """

    def __init__(self, function: Callable[P, Coroutine[Any, Any, R]], pool_sizes: Mapping[str, PoolSize]) -> None:
        self.function = function
        self.name = function.__name__
        if not inspect.iscoroutinefunction(function):
            raise ChoreographyInvalid(f"{self.name}: a choreography is asynchronous; write 'async def'.")
        signature = _signature_of(function)
        hints = with_bounds(_hints_of(function), fields_of(signature))
        parameters = _parameters_of(function, hints)
        self.roles: dict[str, type[Agent]] = {n: hints[n] for n in parameters if _is_agent(hints[n])}
        self.inputs = {name: p for name, p in parameters.items() if name not in self.roles}
        self.pools = _pools(self.name, self.roles, pool_sizes)
        for agent in self.roles.values():
            check_made(agent)
        self.interface: Interface[R] = Interface(self.name, self.inputs, hints, fields_of(signature))
        functools.update_wrapper(self, function)
        self.workflow = _workflow_class(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Run the function with these very objects as its roles, here and now."""
        function: Callable[..., Coroutine[Any, Any, R]] = self.function
        given = inspect.signature(function).bind_partial(*args, **kwargs).arguments
        return function(*args, **{**kwargs, **self.interface.defaults(given)})

    def __repr__(self) -> str:
        return f"<choreography {self.name}>"

    def decode(self, payloads: Sequence[Any]) -> tuple[dict[str, Any], RunOptions]:
        """Turn a run's inputs into the function's arguments and the run's options.

        Args:
            payloads: Plain JSON values, in the order of the parameters; options may follow the last one.

        Raises:
            InputInvalid: Names the parameter.
        """
        values, options = self.interface.read(payloads)
        options.check({role: _methods_with_models(agent) for role, agent in self.roles.items()})
        return values, options

    def cast(self, options: RunOptions) -> dict[str, Role]:
        """Make the roles of a run, each with its pool."""
        return {
            role: Role(agent, self._pool(role, options.instances.get(role, self.pools[role])))
            for role, agent in self.roles.items()
        }

    def _pool(self, role: str, size: PoolSize) -> Pool:
        return Pool(role, _instances(role, size), named=not isinstance(size, int))


@overload
def choreography(function: Callable[P, Coroutine[Any, Any, R]], /) -> Choreography[P, R]: ...
@overload
def choreography(
    **pool_sizes: PoolSize,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Choreography[P, R]]: ...
def choreography(function: Callable[..., Any] | None = None, /, **pool_sizes: PoolSize) -> Any:
    """Make a function into a choreography.

    Parameters whose type is an `Agent` subclass are roles; the others are the inputs of a run.

    Args:
        function: The function, where the decorator is used without arguments.
        **pool_sizes: For each role the number of its instances (1 where none is given), or their names.

    Raises:
        ChoreographyInvalid: The function can't be one; says why.
    """
    if function is not None:
        return Choreography(function, {})
    return lambda function: Choreography(function, pool_sizes)


def _workflow_class(choreography: Choreography[Any, Any]) -> type[Run]:
    """Make the workflow class and put it into the function's module, where Temporal's sandbox looks for it."""
    function = choreography.function
    class_name = f"_{choreography.name}_workflow"

    # No parameters of its own: Temporal would decode inputs by their hints, and what doesn't fit would fail the
    # workflow task, which is repeated for ever.
    def begin(self: _ChoreographyRun, *payloads: Any) -> None:
        Run.__init__(self, *_begun_with(self, choreography, payloads))

    async def run(self: _ChoreographyRun, *payloads: Any) -> Any:
        with self.listed():
            async with self.announced():
                return await self.settling_up(_perform(self, choreography))

    begin.__name__ = "__init__"
    for method in (begin, run):
        method.__qualname__ = f"{class_name}.{method.__name__}"
        method.__module__ = function.__module__
        method.__doc__ = function.__doc__
    namespace = {
        "__module__": function.__module__,
        "__doc__": function.__doc__,
        "__init__": workflow.init(begin),
        "run": workflow.run(run),
    }
    made = workflow.defn(name=choreography.name)(type(class_name, (_ChoreographyRun,), namespace))
    setattr(sys.modules[function.__module__], class_name, made)
    return made


class _ChoreographyRun(Run):
    """A run of a choreography.

    Attributes:
        inputs: Of its function.
        refusal: Why it can't begin with what it was given: an initializer has no way to end a run.
    """

    inputs: dict[str, Any]
    refusal: FailureError | None = None


def _begun_with(
    run: _ChoreographyRun, choreography: Choreography[Any, Any], payloads: Sequence[Any]
) -> tuple[Resumed, RunOptions]:
    try:
        with _failing_readably(choreography):
            resumed = Resumed.from_inputs(payloads)
            run.inputs, options = choreography.decode(resumed.inputs)
            return resumed, options
    except FailureError as refusal:
        run.refusal = refusal
        return Resumed(None, b"", b"", payloads), RunOptions()


async def _perform(run: _ChoreographyRun, choreography: Choreography[Any, Any]) -> RawValue:
    with _failing_readably(choreography):
        if run.refusal is not None:
            raise run.refusal
        # Decoded anew, as the program may change what it was given.
        run.started_with = lambda: choreography.interface.write_inputs(
            Continuation((), choreography.decode(run.given)[0]), run.options
        )
        roles = choreography.cast(run.options)
        run.cast([pool_of(role) for role in roles.values()])
        value = await run.perform(_program(run, choreography, {**run.inputs, **roles}))
        if isinstance(value, Continuation):
            run.begin_again_with(choreography.interface.write_inputs(value, run.options))
        return choreography.interface.write(value)


async def _program(run: Run, choreography: Choreography[Any, R], arguments: dict[str, Any]) -> R:
    with _failing_readably(choreography), inside(run.main):
        return await choreography.function(**arguments)


@contextmanager
def _failing_readably(choreography: Choreography[Any, Any]) -> Iterator[None]:
    """Make an error of the program end the run, readably; left alone it would repeat the workflow task for ever."""
    try:
        yield
    except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:  # two would end the worker
        if says_stop(error) or isinstance(error, (FailureError, ProgramChanged)):
            raise
        failure = ApplicationError(f"{choreography.name}: {tell(error)}", type=name_of(error), non_retryable=True)
        raise failure.with_traceback(error.__traceback__) from error.__cause__


def _methods_with_models(agent: type[Agent]) -> list[str]:
    if issubclass(agent, Person):
        return []
    return [method_name(agent.__name__, method) for method in methods_of(agent)]


def _hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ChoreographyInvalid(
            f"{function.__name__}: {error}; define or import the types of its parameters above it in the module."
        ) from error


def _parameters_of(function: Callable[..., Any], hints: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(with_plain_defaults(inspect.signature(function)).parameters)
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            written = parameter.replace(annotation=parameter.empty)
            raise ChoreographyInvalid(f"{function.__name__}: '{written}' is no plain parameter; write one.")
        if name not in hints:
            raise ChoreographyInvalid(
                f"{function.__name__}: the parameter '{name}' has no type; write an agent class for a role, "
                "or the type of an input."
            )
    return parameters


def _signature_of(function: Callable[..., Any]) -> inspect.Signature:
    try:
        with_plain_defaults(inspect.signature(function))
    except ValueError as error:  # Field(…) gave no default after one that did
        raise ChoreographyInvalid(f"{function.__name__}: {error}; order the parameters so.") from None
    return inspect.signature(function)


def _is_agent(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Agent)


def _pools(name: str, roles: Mapping[str, type[Agent]], pool_sizes: Mapping[str, PoolSize]) -> dict[str, PoolSize]:
    for role, size in pool_sizes.items():
        if role not in roles:
            raise ChoreographyInvalid(
                f"{name}: @choreography({role}=…) names no role; the roles are {', '.join(roles) or 'none'}."
            )
        if not _makes_a_pool(size):
            raise ChoreographyInvalid(
                f"{name}: @choreography({role}={size!r}) is no pool; "
                f"give a number from 1 to {MOST_INSTANCES:,}, or different names."
            )
    return {role: pool_sizes.get(role, 1) for role in roles}


def _makes_a_pool(size: object) -> bool:
    if isinstance(size, int):
        return 1 <= size <= MOST_INSTANCES
    # A text is a sequence of texts too, but its letters are nobody's names.
    return isinstance(size, (list, tuple)) and len(set(size)) == len(size) > 0 and all(isinstance(n, str) for n in size)


def _instances(role: str, size: PoolSize) -> list[str]:
    return [f"{role}-{number}" for number in range(1, size + 1)] if isinstance(size, int) else list(size)
