"""Fakes: objects that stand for agents, and give the answers that a test sets.

plan = Plan(modules=[...])
coder, reviewer = fake(Coder, implement_module=done), fake(Reviewer, review_module=[bad, good])
team = fake(Architect, plan_modules=plan), coder, reviewer, fake(Merger, merge=merged)
assert await build_project("a library", *team) == [good]
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from activities.contract.text import explain
from activities.declarations.agent import Agent, methods_of
from activities.declarations.method import Method
from activities.errors import AgentError

A = TypeVar("A", bound=Agent)


class FakeError(AssertionError):
    """A fake was made or used wrongly; says how to set it up."""


@dataclass(frozen=True)
class FakeCall:
    """What a fake was asked.

    Attributes:
        method: The method's name.
        arguments: By name, defaults applied, as their types.
    """

    method: str
    arguments: Mapping[str, Any]


def fake(agent: type[A], /, **answers: Any) -> A:
    """Make an object that stands for an agent, or a person, where a choreography is called as a plain function.

    Arguments are checked against the method's signature, and answers against its return type, as they are in a run.

    Args:
        agent: The class.
        **answers: For each method that will be called: the answer; a list of answers, one for each call; a function,
            synchronous or not, of the method's arguments; or an exception to raise. A list that is itself the answer
            stands in another list, or is returned by a function.

    Returns:
        The fake, typed as the agent. `calls_of(it)` tells what it was asked.

    Raises:
        FakeError: The class has no such method.

    >>> import asyncio
    >>> from activities import prompt
    >>> class Poet(Agent):
    ...     @prompt
    ...     async def write(self, about: str) -> str:
    ...         '''Write about {about}.'''
    >>> poet = fake(Poet, write=lambda about: f"O {about}!")
    >>> asyncio.run(poet.write("rain"))
    'O rain!'
    >>> calls_of(poet)
    [FakeCall(method='write', arguments={'about': 'rain'})]
    """
    methods = methods_of(agent)
    for name in answers:
        if name not in methods:
            raise FakeError(f"{agent.__name__} has no method '{name}' to answer for; it has {', '.join(methods)}.")
    return cast("A", _Fake(agent, methods, answers))


def calls_of(made: Agent) -> list[FakeCall]:
    """Return what a fake was asked, in order.

    Raises:
        FakeError: It is no fake.
    """
    if not isinstance(made, _Fake):
        raise FakeError(f"{made!r} is no fake: make it with fake({type(made).__name__}, …).")
    return made._calls


class _Fake:
    def __init__(self, agent: type[Agent], methods: Mapping[str, Method[..., Any]], answers: Mapping[str, Any]) -> None:
        self._agent = agent
        self._methods = methods
        self._answers = {
            name: deque(answer) if isinstance(answer, list) else answer for name, answer in answers.items()
        }
        self._calls: list[FakeCall] = []
        self.name = agent.__name__.lower()

    def __repr__(self) -> str:
        return f"<fake {self._agent.__name__}>"

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = self.__dict__["_methods"].get(name)
        if method is None:
            raise AttributeError(
                f"{self._agent.__name__} has no agent method '{name}'; it has {', '.join(self._methods)}."
            )

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            asked = FakeCall(name, method.check(method.bind(args, kwargs)))
            return self._answer(method, asked)

        return call

    async def _answer(self, method: Method[..., Any], asked: FakeCall) -> Any:
        self._calls.append(asked)
        answer = self._next_answer(asked.method)
        if callable(answer) and not isinstance(answer, type):
            answer = answer(**asked.arguments)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        where = f"{self._agent.__name__}.{asked.method}"
        try:
            method.result_values.write(method.result_values.check(answer))
        except ValidationError as error:
            raise FakeError(f"the answer set for {where} is not of its return type: {explain(error)}") from None
        except AgentError as error:
            raise FakeError(f"the answer set for {where} would not arrive as it is: {error}") from None
        return method.result_values.check(answer)

    def _next_answer(self, name: str) -> Any:
        where = f"{self._agent.__name__}.{name}"
        if name not in self._answers:
            raise FakeError(f"{where} was called, and has no answer: fake({self._agent.__name__}, {name}=…).")
        answers = self._answers[name]
        if not isinstance(answers, deque):
            return answers
        if not answers:
            raise FakeError(f"{where} was called more often than it has answers; add one to its list.")
        return answers.popleft()
