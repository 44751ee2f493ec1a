"""State: what an agent keeps between its calls, as its class attribute `state` declares it.

class Coder(Agent):
    state: Notes = Notes()

Any type will do whose values can cross: a model, a dataclass, a dict, a list.
"""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any, ClassVar, Union, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, PydanticUserError, ValidationError
from pydantic_core import from_json, to_json

from activities.contract.text import clip, explain
from activities.errors import DeclarationError
from activities.values.declared import refusal
from activities.values.values import NotKept, Values, enveloped

_NONE = object()

_CACHE, _DECLARED = "_values_of_state", "_declares_state"


def declares_state(agent: type[Any]) -> bool:
    """Return whether an agent class keeps a state between its calls."""
    known: bool | None = vars(agent).get(_DECLARED)
    if known is None:
        state = inspect.getattr_static(agent, "state", _NONE)
        known = state is not _NONE and not hasattr(type(state), "__get__")
        setattr(agent, _DECLARED, known)
    return known


def state_of(agent: object) -> Any:
    """Return the state that an agent keeps between its calls, or None if its class declares none."""
    return getattr(agent, "state", None) if declares_state(type(agent)) else None


def restore_state(agent: object, saved: Any) -> None:
    """Give an agent the state that was saved of it; nothing changes where none was, or none is declared.

    Raises:
        NotKept: It is none of the type that the class declares.
    """
    if saved is None or not declares_state(type(agent)):
        return
    try:
        state = _values(type(agent)).read(enveloped(to_json(saved).decode()))
    except ValidationError as error:
        raise NotKept(
            f"{type(agent).__name__}.state: what was saved of it does not fit its type: "
            f"{explain(error, skip=('value',))}. It is {clip(str(saved), 300)}"
        ) from None
    vars(agent)["state"] = state


def saved_state(agent: object) -> Any:
    """Return an agent's state as plain JSON values, to be saved; None if its class declares none.

    Raises:
        NotKept: It can't be saved as it is; says which part of it.
    """
    if not declares_state(type(agent)):
        return None
    values, where = _values(type(agent)), f"{type(agent).__name__}.state"
    try:
        return from_json(values.write(values.check(state_of(agent))))
    except ValidationError as error:
        raise NotKept(f"{where} is something else than is declared: {explain(error, skip=('value',))}") from None
    except NotKept as error:
        raise NotKept(f"{where} can't be kept: {error}") from None


def differs(saved: Any, before: Any) -> bool:
    """Return whether a state was saved as something else than before: 1 is not True, though Python calls them equal."""
    return to_json(saved) != to_json(before)


def check_state(agent: type[Any]) -> None:
    """Check the state that a class declares.

    Raises:
        DeclarationError: It can't be kept from call to call; names the class, the field and the mend.
    """
    where = f"{agent.__name__}.state"
    if not declares_state(agent):
        if "state" in vars(agent).get("__annotations__", {}) and "state" not in vars(agent):
            raise DeclarationError(f"{where} has no beginning: write the value that it has at first, `= Notes()`")
        return
    try:
        hint = _declared(agent)
    except (NameError, AttributeError):  # of a type defined further down in the module: the worker looks again
        return
    if refused := refusal(hint):
        raise DeclarationError(f"{where}: {refused.of('it')}")
    if hint is type(None) or (type(None) in get_args(hint) and get_origin(hint) in (Union, types.UnionType)):
        raise DeclarationError(
            f"{where} may be None, which says that nothing was kept: use a model with a field for it"
        )
    _check_beginning(where, agent)


def _check_beginning(where: str, agent: type[Any]) -> None:
    state = inspect.getattr_static(agent, "state")
    try:
        values = _values(agent)
        values.write(values.check(state))
    except ValidationError as error:
        raise DeclarationError(f"{where} does not begin as its type: {explain(error, skip=('value',))}") from None
    except NotKept as error:
        raise DeclarationError(f"{where} can't be kept: {error}") from None


def _values(agent: type[Any]) -> Values[Any]:
    """Return what writes and reads the state of a class."""
    known: Values[Any] | None = vars(agent).get(_CACHE)
    if known is None:
        try:
            known = Values(_declared(agent))
        except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
            raise DeclarationError(f"{agent.__name__}.state can't be kept: {str(error).splitlines()[0]}") from error
        setattr(agent, _CACHE, known)
    return known


def _declared(agent: type[Any]) -> Any:
    """Return the type of the state: as it is annotated, or else that of the value."""
    for base in agent.__mro__:
        if "state" in vars(base).get("__annotations__", {}):
            hint = typing.get_type_hints(base, include_extras=True)["state"]
            return get_args(hint)[0] if get_origin(hint) is ClassVar else hint
        if "state" in vars(base):
            return type(vars(base)["state"])
    raise AssertionError(f"{agent} has no state")
