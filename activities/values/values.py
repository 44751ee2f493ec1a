"""Values that cross: one place writes them as JSON, reads back what it wrote, and compares.

>>> values = Values(dict[str, float])
>>> values.read(enveloped(values.write({"least": float("-inf")})))
{'least': -inf}

So what arrives is what was sent, in types and contents, or it is refused where it was about to be sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from activities.border.washing import name_of, words_of
from activities.contract.envelope import CROSSING
from activities.contract.text import clip, explain
from activities.errors import AgentError
from activities.values.declared import SECRETS, is_abstract, is_sure

T = TypeVar("T")


class NotKept(AgentError):
    """A value would not arrive as it is; says which part of it, what would become of it, and the mend."""


class Crossing(BaseModel, Generic[T]):
    """What carries one value between a program and its workers."""

    model_config = CROSSING

    value: T


class Outside(BaseModel, Generic[T]):
    """What carries one value to or from people and other programs: bytes are text there."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    value: T


class Values(Generic[T]):
    """Writes and reads the values of one declared type."""

    def __init__(self, hint: Any, carrier: Any = Crossing, *, as_json: bool = False) -> None:
        """Prepare for a type.

        Args:
            hint: The type.
            as_json: Whether whoever reads a value has only its JSON: that will do where the type is `Any`.
            carrier: A generic model with a field `value`; its configuration says how bytes and odd numbers are written.

        Raises:
            PydanticUserError: Pydantic does not know the type.
        """
        self._carrier: type[Crossing[T]] = carrier[hint]
        if not self._carrier.__pydantic_complete__:
            self._carrier.model_rebuild(raise_errors=True)
        self._hint = hint
        self._is_sure = is_sure(hint)
        self._leeway = _Leeway(is_abstract(hint), as_json)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the type."""
        return TypeAdapter(self._hint).json_schema()

    def check(self, value: Any) -> T:
        """Return a value as the declared type.

        Raises:
            ValidationError: It is of another one.
        """
        return self._carrier.__pydantic_validator__.validate_python({"value": value}).value  # type: ignore[no-any-return]

    def write(self, value: T) -> str:
        """Write a value of the declared type as JSON.

        Raises:
            NotKept: It would not be read as it is.
        """
        if self._is_sure:
            return _inside(self._dump(value, by_alias=True))
        refused = None
        for by_alias in (True, False):  # a field that is read under another name than it is written still has its own
            try:
                text = self._dump(value, by_alias=by_alias)
                self._compare(value, text)
            except NotKept as error:
                refused = refused or error
            else:
                return _inside(text)
        assert refused is not None
        raise refused

    def read(self, text: str | bytes) -> T:
        """Read the value out of a message that carries it.

        Raises:
            ValidationError: It is not of the declared type.
        """
        read = self._carrier.__pydantic_validator__.validate_json
        return read(text, by_alias=True, by_name=True).value  # type: ignore[no-any-return]

    def _dump(self, value: T, *, by_alias: bool) -> str:
        fallback = _told if self._leeway.json else None
        made = self._carrier.__new__(self._carrier)
        vars(made)["value"] = value  # as model_construct does, which takes as long as all the rest
        try:
            return self._carrier.__pydantic_serializer__.to_json(
                made, include={"value"}, by_alias=by_alias, round_trip=True, warnings="none", fallback=fallback
            ).decode()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise NotKept(_no_data(value, error)) from None

    def _compare(self, value: T, text: str) -> None:
        try:
            arrived = self.read(text)
        except ValidationError as error:
            raise NotKept(_unread(value, explain(error, skip=("value",)))) from None
        except Exception as error:  # a validator of the user's that fails
            raise NotKept(_unread(value, f"{name_of(error)}: {words_of(error, 500)}")) from None
        try:
            found = _difference(value, arrived, self._leeway)
        except RecursionError:
            raise NotKept("it is nested too deeply to be compared; make it flatter") from None
        if found is not None:
            raise NotKept(found.in_words())


def enveloped(text: str) -> str:
    """Return the message that carries what `Values.write` has written, and nothing else."""
    return f'{{"value":{text}}}'


def _inside(text: str) -> str:
    return text.removeprefix('{"value":')[:-1]


class _Difference(NamedTuple):
    """Where what would arrive differs from what was sent."""

    path: tuple[str, ...]
    sent: Any
    arrived: Any
    mend: str = ""

    def within(self, part: Any) -> _Difference:
        return self._replace(path=(str(part), *self.path))

    def in_words(self) -> str:
        return (
            f"{_place(self.path)}{_named(self.sent)} would arrive as {_named(self.arrived)}; "
            f"{self.mend or _mend(self.sent, self.arrived)}"
        )


class _Leeway(NamedTuple):
    """What may differ between what is sent and what arrives.

    Attributes:
        abstract: The kind of a container, as the declared type leaves it open, as `Sequence` does.
        json: Anything that is JSON where it arrives, as whoever reads it has only that.
    """

    abstract: bool = False
    json: bool = False


_JSON = frozenset({str, int, float, bool, list, dict})


def _told(value: Any) -> str:
    """Write an error that was collected as what it says."""
    if isinstance(value, BaseException):
        return words_of(value)
    raise PydanticSerializationError(f"{type(value).__name__} is no data")


def _is_lost(sent: Any, arrived: Any) -> bool:
    return isinstance(sent, SECRETS) or (_is_record(sent) and type(arrived) is not dict)


_PLAIN = frozenset({str, int, bool, type(None), bytes})

_SEQUENCES = (list, tuple)
_SETS = (set, frozenset)


def _difference(sent: Any, arrived: Any, leeway: _Leeway) -> _Difference | None:
    """Return the first difference in types or contents.

    Args:
        sent: What is sent.
        arrived: What would arrive.
        leeway: What may differ.
    """
    kind = type(sent)
    if kind is int and type(arrived) is float:  # declared as a number with a fraction, and given without one
        return None if sent == arrived else _Difference((), sent, arrived)
    if kind is not type(arrived):
        if leeway.json and type(arrived) in _JSON and not _is_lost(sent, arrived):
            return None
        if not (leeway.abstract and _are_alike(sent, arrived)):
            return _Difference((), sent, arrived)
    if kind in _PLAIN:
        return None if sent == arrived else _Difference((), sent, arrived)
    if kind is float:
        same = sent == arrived or (math.isnan(sent) and math.isnan(arrived))
        return None if same else _Difference((), sent, arrived)
    # By their attributes, as isinstance is slow in a workflow's sandbox.
    if hasattr(kind, "__pydantic_fields__"):
        return _in_model(sent, arrived, leeway)
    if hasattr(kind, "__dataclass_fields__"):
        return _in_attributes(sent, arrived, kind.__dataclass_fields__, leeway)
    if kind is list or isinstance(sent, _SEQUENCES):
        return _in_sequence(sent, arrived, leeway)
    if kind is dict or isinstance(sent, Mapping):
        return _in_mapping(sent, arrived, leeway)
    if isinstance(sent, _SETS):
        same = {(type(one), one) for one in sent} == {(type(one), one) for one in arrived}
        return None if same else _Difference((), sent, arrived)
    return _in_others(sent, arrived, leeway)


def _are_alike(sent: Any, arrived: Any) -> bool:
    return any(isinstance(sent, kinds) and isinstance(arrived, kinds) for kinds in (_SEQUENCES, _SETS, (Mapping,)))


def _in_model(sent: BaseModel, arrived: BaseModel, leeway: _Leeway) -> _Difference | None:
    found = _in_attributes(sent, arrived, type(sent).model_fields, leeway)
    if found is None and sent.__pydantic_extra__:
        found = _in_mapping(sent.__pydantic_extra__, arrived.__pydantic_extra__ or {}, leeway)
    if found is None and sent.__pydantic_private__:
        found = _in_private(sent.__pydantic_private__, arrived.__pydantic_private__ or {})
    return found


def _in_private(sent: Mapping[str, Any], arrived: Mapping[str, Any]) -> _Difference | None:
    for name, value in sent.items():
        other = arrived.get(name)
        if _has_no_equals(type(value)):  # a lock, a client: nothing that could be sent
            continue
        if _difference(value, other, _Leeway()) is not None:
            return _Difference((name,), value, other, "a private attribute is not sent: make it a field")
    return None


def _in_attributes(sent: Any, arrived: Any, names: Any, leeway: _Leeway) -> _Difference | None:
    for name in names:
        found = _difference(getattr(sent, name, None), getattr(arrived, name, None), leeway)
        if found is not None:
            return found.within(name)
    return None


def _in_mapping(sent: Mapping[Any, Any], arrived: Mapping[Any, Any], leeway: _Leeway) -> _Difference | None:
    kinds = {key: type(key) for key in arrived}
    for key, value in sent.items():
        if kinds.get(key) is not type(key):
            if leeway.json and str(key) in kinds:
                continue
            return _Difference(
                (), sent, arrived, f"the key {key!r} is not kept: declare the type of the keys, or use text"
            )
        found = _difference(value, arrived[key], leeway)
        if found is not None:
            return found.within(key)
    return None if len(sent) == len(arrived) else _Difference((), sent, arrived)


def _in_sequence(sent: Any, arrived: Any, leeway: _Leeway) -> _Difference | None:
    if len(sent) != len(arrived):
        return _Difference((), sent, arrived)
    for number, (one, other) in enumerate(zip(sent, arrived, strict=True)):
        found = _difference(one, other, leeway)
        if found is not None:
            return found.within(number)
    return None


def _in_others(sent: Any, arrived: Any, leeway: _Leeway) -> _Difference | None:
    """Compare what has neither fields nor items that are known here."""
    kind = type(sent)
    if _has_no_equals(kind) and not isinstance(sent, Enum):
        if hasattr(sent, "__dict__"):
            return _in_mapping(vars(sent), vars(arrived), leeway)
        return None  # there is nothing of it to be seen
    try:
        same = bool(sent == arrived)
    except Exception:
        same = False
    if isinstance(sent, (datetime, time)):
        same = same and sent.utcoffset() == arrived.utcoffset()
    if isinstance(sent, Decimal):
        same = same and str(sent) == str(arrived)
    return None if same else _Difference((), sent, arrived)


def _has_no_equals(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _mend(sent: Any, arrived: Any) -> str:
    before, after = type(sent), type(arrived)
    if _is_odd(sent):
        return _ODD
    if isinstance(sent, SECRETS):
        return "read secrets in the method that uses them"
    if before is after:
        return "it is written otherwise than it is read (exclude, init=False, a serializer): make the two agree"
    if issubclass(before, after) and (_is_record(sent) or _is_record(arrived)):
        return f"declare {before.__name__}, or a union of the two with a discriminator"
    if _is_record(sent) and _is_record(arrived):
        return (
            "the JSON of one fits the other: give each class of the union a field like kind: Literal['…'], "
            "and the union Field(discriminator='kind')"
        )
    return (
        "declare the type that it has, or send it as one that JSON keeps (text, numbers, lists, dicts with text keys)"
    )


def _is_record(value: Any) -> bool:
    return isinstance(value, BaseModel) or is_dataclass(value)


_ODD = (
    "JSON has no such number: write None instead, or give the class that holds it "
    "model_config = ConfigDict(ser_json_inf_nan='strings')"
)


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _unread(value: Any, problem: str) -> str:
    """Say why what was written can't be read."""
    if "None" in problem or "valid number" in problem:
        for path, leaf in _leaves(value, _is_odd):
            return f"{_place(path)}{leaf!r} can't be read back; {_ODD}"
    return (
        f"it can't be read back as its type: {problem.rstrip('.')}; "
        "its class writes otherwise than it reads (a serializer, an exclude, a field set to another type): "
        "make the two agree"
    )


def _no_data(value: Any, error: Exception) -> str:
    """Say what can't be written, and where it is."""
    reason = str(error).removeprefix("Error serializing to JSON: ").removeprefix("Error calling function ")
    for path, leaf in _leaves(value, _is_no_data):
        if isinstance(leaf, (bytes, bytearray)):
            return (
                f"{_place(path)}bytes that are no text can't be written; give the class that holds them model_config = "
                "ConfigDict(ser_json_bytes='base64', val_json_bytes='base64'), or write them to the workspace and "
                "send the path"
            )
        if isinstance(leaf, str):
            return f"{_place(path)}text with half a character (a lone surrogate) can't be written; replace it"
        return f"{_place(path)}{_named(leaf)} is no data; send what it is made from (text, numbers, models)"
    return f"it is no data: {clip(reason, 500)}; send text, numbers, models, lists or dicts"


def _is_no_data(leaf: Any) -> bool:
    try:
        to_json(leaf)
    except Exception:
        return True
    return False


def _leaves(value: Any, wanted: Callable[[Any], bool]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Find parts of a value, each with its place."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), value)]
    for _ in range(_MOST_LOOKED_AT):
        if not todo:
            return
        path, part = todo.pop()
        if len(path) > _DEEPEST:
            continue
        inner = _parts(part)
        todo.extend(((*path, str(name)), one) for name, one in reversed(inner))
        if not inner and wanted(part):
            yield path, part


_MOST_LOOKED_AT = 100_000
_DEEPEST = 100


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, BaseModel):
        return [(name, getattr(value, name, None)) for name in type(value).model_fields]
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, (*_SEQUENCES, *_SETS)):
        return list(enumerate(value))
    return []


def _place(path: tuple[str, ...]) -> str:
    return f"'{'.'.join(path)}': " if path else ""


def _named(value: Any) -> str:
    """Say what a value is, in short."""
    try:
        said = clip(repr(value), 100)
    except Exception:
        said = ""
    return said if value is None or _is_record(value) else f"{type(value).__name__} {said}".rstrip()
