"""Persons: roles that are asked on the run itself, and that no worker answers for.

class Owner(Person):
    \"\"\"Who pays for it.\"\"\"

    @prompt(remind=24 * 3600)
    async def approve(self, plan: Plan) -> Decision:
        \"\"\"Shall this be built? {plan}\"\"\"
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from activities.contract.text import explain
from activities.declarations.agent import ASKING_OPTIONS, Agent, tools_of
from activities.declarations.method import Method, MethodOptions
from activities.errors import DeclarationError
from activities.values.values import NotKept

_USUAL = MethodOptions(timeout=3600.0, retries=8)
"""What `@prompt` sets where it is told nothing."""


class Person(Agent):
    """One who is asked and answers in their own time.

    Each method is a question: its docstring is what the person reads, its return annotation the type of the answer. In
    a choreography a call of it waits, for as long as it takes, for the update `answer` of the run. In a process of its
    own, in a notebook, the question is asked at the terminal.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if own := [name for name in vars(cls) if name in Agent.__annotations__ or name == "state"]:
            raise DeclarationError(
                f"{cls.__name__}.{own[0]}: a person has no model and keeps no state here; leave it out, "
                "or make it an Agent"
            )

    @classmethod
    def _check_method(cls, method: Method[..., Any]) -> None:
        where = f"{cls.__name__}.{method.name}"
        if method.kind != "prompt" or method.offered:
            raise DeclarationError(
                f"{where}: a person is asked, and runs no code; write @prompt alone, or move it to an Agent"
            )
        if useless := [name for name in method.options.set_beside(_USUAL) if name not in ASKING_OPTIONS]:
            raise DeclarationError(
                f"{where}: {', '.join(useless)}: these are for models; a person's method takes "
                f"{', '.join(ASKING_OPTIONS)}"
            )
        _check_times(where, method.options)
        _check_default(where, method)


def asks_people(agent: type[Agent], method: Method[..., Any]) -> bool:
    """Return whether a call of a method may wait for a person: the agent is one, or a tool of it wants approval."""
    if issubclass(agent, Person):
        return True
    return method.kind == "prompt" and any(tool.options.approve for tool in tools_of(agent).values())


def _check_times(where: str, options: MethodOptions) -> None:
    for name in ("remind", "deadline"):
        seconds = getattr(options, name)
        if seconds is not None and not seconds > 0:
            raise DeclarationError(f"{where}: {name}={seconds!r}: give the seconds, more than 0")
    if options.has_default and options.deadline is None:
        raise DeclarationError(f"{where}: the default is for when the deadline has passed; add deadline=seconds")
    if options.remind is not None and options.deadline is not None and options.remind >= options.deadline:
        raise DeclarationError(
            f"{where}: the first reminder would come {options.remind:g} s after the question, and the deadline is "
            f"after {options.deadline:g} s; remind earlier, or not at all"
        )


def _check_default(where: str, method: Method[..., Any]) -> None:
    if not method.options.has_default:
        return
    try:
        _ = method.returns
    except DeclarationError:  # of a type defined further down in the module
        return
    try:
        values = method.result_values
        values.write(values.check(method.options.default))
    except ValidationError as error:
        problem = explain(error, skip=("value",))
        raise DeclarationError(f"{where}: the default is no answer of the declared type: {problem}") from None
    except NotKept as error:
        raise DeclarationError(f"{where}: the default would not arrive as it is: {error}") from None
