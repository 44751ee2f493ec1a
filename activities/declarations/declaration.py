"""What an agent class may be: everything that would be lost or shared between calls without a word is refused.

The harness makes an agent anew for each call, on whichever worker pulls it.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel

from activities.declarations.method import Method
from activities.errors import DeclarationError
from activities.workspace.repository import Repository

_KEPT = "keep what has to last in the class's state, `state: Notes = Notes()`"

_SET_BY_THE_HARNESS = {
    "name": "in a choreography it is the instance's; give the instances names there, @choreography(coder=['alice'])",
    "call": "it is the call that is being answered",
    "transcript": "it is what was said so far",
    "conversation": "it is what was said so far",
    "workspace": "it is the run's folder; write a property or Repository(), or give it to an agent in your own process",
}


def check_made(agent: type) -> None:
    """Check that agents of a class can be made anew for each call.

    Raises:
        DeclarationError: Names class and mend.
    """
    if hasattr(agent, "__dataclass_fields__"):
        raise DeclarationError(
            f"{agent.__name__} is a dataclass: its fields are gone after each call, as each has an agent of its own. "
            f"Leave @dataclass out, and {_KEPT}"
        )


def check_attributes(agent: type, root: type) -> None:
    """Check a class's own attributes, and those that it has from classes that are no agents.

    Args:
        agent: The class.
        root: `Agent`.

    Raises:
        DeclarationError: Names class, attribute and mend.
    """
    _check_init(agent, root)
    for base in agent.__mro__:
        if base is object or (base is not agent and issubclass(base, root)):
            continue
        for name, value in vars(base).items():
            _check_attribute(f"{agent.__name__}.{name}", base, name, value, root)


def check_assignment(agent: type, name: str) -> None:
    """Check that an attribute of an agent that answers a call may be set.

    Raises:
        DeclarationError: It would be lost; says where to keep it.
    """
    if name == "state" or name in _settings(agent) or hasattr(getattr(agent, name, None), "__set__"):
        return
    raise DeclarationError(
        f"{agent.__name__}.{name} is set in a call, and would be gone after it, as each call has an agent of its own: "
        f"{_KEPT}, or use a local variable"
    )


def _settings(agent: type) -> Iterator[str]:
    for base in agent.__mro__:
        if base.__module__ == "activities.declarations.agent":
            yield from vars(base).get("__annotations__", {})


def _check_init(agent: type, root: type) -> None:
    for name in ("__init__", "__new__"):
        function = getattr(agent, name)
        if function is getattr(root, name):
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        needed = [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if needed:
            raise DeclarationError(
                f"{agent.__name__}.{name} needs {', '.join(needed)}, but the harness makes an agent for each call by "
                f"itself, as {agent.__name__}(): give each a default, or read it from the environment"
            )


def _check_attribute(where: str, base: type, name: str, value: Any, root: type) -> None:
    if isinstance(value, Method):
        return
    if name in _SET_BY_THE_HARNESS and not (name == "workspace" and isinstance(value, (property, Repository))):
        raise DeclarationError(f"{where} is not yours to set: {_SET_BY_THE_HARNESS[name]}")
    if (inner := _wrapped_in(value)) is not None:
        raise DeclarationError(
            f"{where}: @{type(value).__name__} hides the {inner.kind}; write @{inner.kind} alone, outermost, "
            "on a method with self"
        )
    if _is_shared(base, name, value) and name not in vars(root):
        raise DeclarationError(
            f"{where} would be shared by all calls of all runs in a process, and by no other process: {_KEPT}; "
            "or write a tuple, a frozenset or a frozen model, or ClassVar where that is meant"
        )


def _wrapped_in(value: Any) -> Method[..., Any] | None:
    """Return the agent method that something is wrapped around."""
    for attribute in ("__func__", "__wrapped__", "fget", "func"):
        inner = inspect.getattr_static(value, attribute, None)
        inner = getattr(value, attribute) if inner is not None else None
        if isinstance(inner, Method):
            return inner
    return None


def _is_shared(base: type, name: str, value: Any) -> bool:
    if name == "state" or name.startswith("__") or name.isupper() or isinstance(value, type):
        return False
    if "ClassVar" in str(vars(base).get("__annotations__", {}).get(name, "")):
        return False
    if isinstance(value, BaseModel):
        return not value.model_config.get("frozen")
    if is_dataclass(value):
        return not getattr(value, "__dataclass_params__").frozen  # noqa: B009  # of the standard library
    return isinstance(value, (list, dict, set, bytearray, deque))
