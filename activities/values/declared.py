"""What declared types tell of their values before there are any: whether these can cross at all, and how safely."""

from __future__ import annotations

import collections.abc
import itertools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NewType, TypeVar, Union, get_args, get_origin
from uuid import UUID

import annotated_types
from pydantic import (
    BaseModel,
    PlainSerializer,
    PlainValidator,
    PydanticSchemaGenerationError,
    PydanticUserError,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    WrapSerializer,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType, is_typeddict

SECRETS = (Secret, SecretStr, SecretBytes)

_UNION = (Union, types.UnionType)


def is_sure(hint: Any) -> bool:
    """Return whether each value that is of the type is kept, so that none has to be looked at."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (str, int, bool, float, None, type(None)):
        return True
    if origin is Annotated:
        return is_sure(arguments[0]) and all(map(_only_bounds, arguments[1:]))
    if origin is Literal:
        return all(type(value) is str for value in arguments)
    if origin in _UNION:
        others = [one for one in arguments if one is not type(None)]
        return len(others) == 1 and is_sure(others[0])
    if origin is dict:
        return arguments[0] is str and is_sure(arguments[1])
    if is_typeddict(hint):
        return all(is_sure(one) for _, one in _hints_of(hint)) and bool(hint.__annotations__)
    if origin in (list, tuple):
        return all(one is ... or is_sure(one) for one in arguments)
    return False


def _only_bounds(mark: Any) -> bool:
    bounds = (annotated_types.Interval, annotated_types.Gt, annotated_types.Ge, annotated_types.Lt, annotated_types.Le)
    lengths = (annotated_types.Len, annotated_types.MinLen, annotated_types.MaxLen)
    marks = mark.metadata if isinstance(mark, FieldInfo) else [mark]
    return all(isinstance(one, (*bounds, *lengths)) for one in marks)


def is_abstract(hint: Any) -> bool:
    """Return whether the type somewhere leaves it open which container a value is, as `Sequence` and `Mapping` do."""
    return any(get_origin(one) in _ABSTRACT or one in _ABSTRACT for _, one in _within(hint))


_ABSTRACT = (
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
    collections.abc.Set,
    collections.abc.MutableSet,
)


class Refusal(NamedTuple):
    """A part of a type that can't cross.

    Attributes:
        path: Where it is in a value, empty for the whole.
        why: What it is, and what to write instead.
    """

    path: str
    why: str

    def of(self, what: str, name: str = "") -> str:
        """Say it of an argument by its name, or of a result."""
        place = ".".join(part for part in (name, self.path) if part)
        return f"{what} {repr(place) + ' ' if place else ''}{self.why}"


def refusal(hint: Any) -> Refusal | None:
    """Return what in a type can't cross, if there is anything."""
    for path, one in _within(hint):
        if why := _why_not(one):
            return Refusal(".".join(path), why)
    return None


def look_alike(hint: Any) -> tuple[type, type] | None:
    """Return two classes of a union in a type that have the same fields: their JSON does not tell which it is."""
    for _, one in _within(hint):
        if get_origin(one) in _UNION:
            classes = [part for part in get_args(one) if _is_record(part)]
            for first, second in itertools.combinations(classes, 2):
                if dict(_fields_of(first)) == dict(_fields_of(second)):
                    return first, second
    return None


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and (issubclass(hint, BaseModel) or is_dataclass(hint) or is_typeddict(hint))


def _within(hint: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk through a type and all that it is made of, with the place of each part in a value."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), hint)]
    seen: list[Any] = []
    while todo:
        path, one = todo.pop()
        if isinstance(one, type):
            if one in _KNOWN or one in seen:
                continue
            seen.append(one)
        yield path, one
        todo.extend(((*path, name) if name else path, part) for name, part in reversed(list(_parts(one))))


def _parts(hint: Any) -> Iterable[tuple[str, Any]]:
    """Return what a type is made of, one step down; fields with their names."""
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, TypeAliasType):
        return [("", hint.__value__)]
    if isinstance(origin, TypeAliasType):
        return [("", origin.__value__), *(("", one) for one in arguments)]
    if isinstance(hint, NewType):
        return [("", hint.__supertype__)]
    if isinstance(hint, TypeVar):
        return [("", one) for one in (hint.__bound__, *hint.__constraints__) if one is not None]
    if origin is Annotated:
        return [] if any(isinstance(mark, _SAYS_HOW) for mark in arguments[1:]) else [("", arguments[0])]
    if origin is Literal or origin in _NO_DATA:
        return []
    if origin is not None:
        return [*(("", one) for one in arguments if one is not ...), *_fields_of(origin)]
    return _fields_of(hint)


_SAYS_HOW = (PlainSerializer, WrapSerializer, PlainValidator, WrapValidator)
"""By these an author says himself how a type is written and read."""


def _fields_of(hint: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(hint, type):
        return []
    if issubclass(hint, BaseModel):
        if not hint.__pydantic_fields_complete__:
            return _hints_of(hint)
        return [(name, field.annotation) for name, field in hint.model_fields.items()]
    if is_dataclass(hint) or is_typeddict(hint) or (issubclass(hint, tuple) and hasattr(hint, "_fields")):
        return _hints_of(hint)
    return []


def _hints_of(hint: type) -> Iterable[tuple[str, Any]]:
    try:
        hints = typing.get_type_hints(hint, include_extras=True)
        return [(name, _bare(one)) for name, one in hints.items() if get_origin(one) is not ClassVar]
    except (NameError, AttributeError):  # of a type that is defined later: the worker looks again
        return []


def _bare(hint: Any) -> Any:
    """Take away what only says where a type stands, `ClassVar` or `NotRequired`."""
    while str(get_origin(hint)) in _STANDING:
        hint = get_args(hint)[0]
    return hint


_STANDING = {
    f"{module}.{name}"
    for module in ("typing", "typing_extensions")
    for name in ("Required", "NotRequired", "ReadOnly", "Final")
}

_KNOWN = frozenset(
    {str, int, float, bool, bytes, complex, type(None), object, date, datetime, time, timedelta}
    | {Decimal, Path, PurePath, UUID, list, dict, tuple, set, frozenset}
)

_NO_DATA: Mapping[Any, str] = types.MappingProxyType(
    {
        collections.abc.Callable: "is code; send what it would be called with",
        collections.abc.Iterator: "is read once, where it is made; write list[…]",
        collections.abc.Iterable: "may be read only once; write Sequence[…] or list[…]",
        collections.abc.Generator: "is read once, where it is made; write list[…]",
        collections.abc.AsyncIterator: "is read once, where it is made; collect it and write list[…]",
        collections.abc.AsyncIterable: "is read once, where it is made; collect it and write list[…]",
        collections.abc.AsyncGenerator: "is read once, where it is made; collect it and write list[…]",
        collections.abc.Awaitable: "is no data yet; await it, and send the result",
        collections.abc.Coroutine: "is no data yet; await it, and send the result",
        type: "is a class; send its name",
    }
)

_SECRET = (
    "is a secret: it would arrive as asterisks, and must not be in a history; read it in the method that uses it, "
    "from the environment"
)


def _why_not(hint: Any) -> str | None:
    """Say why a type can't cross, leaving aside what it is made of."""
    origin = get_origin(hint) or hint
    if isinstance(origin, type) and issubclass(origin, SECRETS):
        return f"({_name(hint)}) {_SECRET}"
    if origin in _NO_DATA:
        return f"({_name(hint)}) {_NO_DATA[origin]}"
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) and get_args(hint):
        return _why_no_key(hint, get_args(hint)[0])
    if isinstance(hint, type):
        return _why_no_class(hint)
    return None


def _why_no_key(hint: Any, key: Any) -> str | None:
    for _, one in _within(key):
        kind = get_origin(one) or one
        if isinstance(kind, type) and (
            issubclass(kind, (tuple, list, dict, set, frozenset, BaseModel)) or is_dataclass(kind)
        ):
            return f"({_name(hint)}) has keys that are no text in JSON; write a list of pairs, or text as keys"
    return None


def _why_no_class(hint: type) -> str | None:
    if getattr(hint, "_is_protocol", False):
        return f"({_name(hint)}) says what something can do, and is no data; write a model"
    if issubclass(hint, (BaseModel, Enum)) or is_typeddict(hint) or is_dataclass(hint) or hasattr(hint, "_fields"):
        return None
    try:
        TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return (
            f"({_name(hint)}) can't be written as JSON; use types that pydantic knows (models, dataclasses, containers)"
        )
    except (PydanticUserError, NameError):
        return None
    return None


def _name(hint: Any) -> str:
    return (
        hint.__name__
        if isinstance(hint, type) and not get_args(hint)
        else str(hint).replace("typing.", "").replace("collections.abc.", "")
    )
