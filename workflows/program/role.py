"""Roles and instances, as the body of a choreography sees them: objects with the agent's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from activities.declarations.agent import Agent, methods_of
from workflows.engine.pool import Pool
from workflows.errors import UnknownMethod
from workflows.program.call import Call, FreeInstance, HeldInstance, Target

A = TypeVar("A")


class Role:
    """A parameter of a choreography: calling a method makes a call to any free instance of its pool."""

    def __init__(self, agent: type[Agent], pool: Pool) -> None:
        self._agent = agent
        self._pool = pool
        self._methods = methods_of(agent)

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self._pool.role

    def __getattr__(self, name: str) -> Callable[..., Call[Any]]:
        return _caller(self, name, FreeInstance(self._pool))

    def __repr__(self) -> str:
        return f"<role {self.name}: {self._agent.__name__}, {len(self._pool)} instances>"


class Instance:
    """One instance of a role."""

    def __init__(self, role: Role, name: str, target: Target) -> None:
        self._role = role
        self._target = target
        self.name = name

    def __getattr__(self, name: str) -> Callable[..., Call[Any]]:
        return _caller(self._role, name, self._target)

    def __repr__(self) -> str:
        return f"<instance {self.name}: {self._role._agent.__name__}>"


class AsksForName(Exception):
    """The body of a scatter wants to know its instance before that is known."""


class _AnyInstance(Instance):
    """Stands for whichever instance of a role will do a call."""

    def __init__(self, role: Role, target: Target) -> None:
        self._role = role
        self._target = target

    @property
    def name(self) -> str:  # type: ignore[override]
        raise AsksForName

    def __repr__(self) -> str:
        raise AsksForName


def instance(role: A, name: str) -> A:
    """Name one instance of a role; each call of it claims it for as long as the call takes.

    `await instance(coder, "coder-2").implement_module(module)`

    Args:
        role: A parameter of the choreography.
        name: The instance's name in this run, `<role>-<number from 1>`.

    Raises:
        UnknownInstance: The pool has none of that name; raised when a call is awaited.
    """
    if not isinstance(role, Role):
        return role
    return cast("A", Instance(role, name, FreeInstance(role._pool, name)))


def held_instance(role: Role, name: str) -> tuple[Any, HeldInstance]:
    """Return an instance that is claimed, for a body to use, and the claim by which to end that use."""
    held = HeldInstance(name)
    return Instance(role, name, held), held


def any_instance(role: Role) -> tuple[Any, Target]:
    """Return what stands for any instance of a role in a call that is made elsewhere, and that call's target."""
    target = FreeInstance(role._pool)
    return _AnyInstance(role, target), target


def pool_of(role: Role) -> Pool:
    """Return a role's pool."""
    return role._pool


def _caller(role: Role, name: str, target: Target) -> Callable[..., Call[Any]]:
    agent, pool, methods = role._agent, role._pool, role._methods
    if name not in methods:
        raise UnknownMethod(
            f"The role '{pool.role}' has no method '{name}': {agent.__name__} has {', '.join(methods) or 'none'}. "
            "In a choreography only agent methods (@prompt, @task, @tool) can be used."
        )
    method = methods[name]

    def call(*args: Any, **kwargs: Any) -> Call[Any]:
        return Call(agent, pool, method, method.check(method.bind(args, kwargs)), target)

    return call
