"""What is said of a value that would not arrive as it is: which part of it, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from activities.contract.text import clip
from activities.values.declared import SECRETS

SEQUENCES = (list, tuple)
SETS = (set, frozenset)


def mend(sent: Any, arrived: Any) -> str:
    """Say what to do about a value that would arrive as another one."""
    before, after = type(sent), type(arrived)
    if _is_odd(sent):
        return _ODD
    if isinstance(sent, SECRETS):
        return "read secrets in the method that uses them"
    if before is after:
        return "it is written otherwise than it is read (exclude, init=False, a serializer): make the two agree"
    if issubclass(before, after) and (is_record(sent) or is_record(arrived)):
        return f"declare {before.__name__}, or a union of the two with a discriminator"
    if is_record(sent) and is_record(arrived):
        return (
            "the JSON of one fits the other: give each class of the union a field like kind: Literal['…'], "
            "and the union Field(discriminator='kind')"
        )
    return (
        "declare the type that it has, or send it as one that JSON keeps (text, numbers, lists, dicts with text keys)"
    )


def is_record(value: Any) -> bool:
    """Whether a value has declared fields."""
    return isinstance(value, BaseModel) or is_dataclass(value)


_ODD = (
    "JSON has no such number: write None instead, or give the class that holds it "
    "model_config = ConfigDict(ser_json_inf_nan='strings')"
)


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def unread(value: Any, problem: str) -> str:
    """Say why what was written can't be read."""
    if "None" in problem or "valid number" in problem:
        for path, leaf in _leaves(value, _is_odd):
            return f"{place(path)}{leaf!r} can't be read back; {_ODD}"
    return (
        f"it can't be read back as its type: {problem.rstrip('.')}; "
        "its class writes otherwise than it reads (a serializer, an exclude, a field set to another type): "
        "make the two agree"
    )


def no_data(value: Any, error: Exception) -> str:
    """Say what can't be written, and where it is."""
    reason = str(error).removeprefix("Error serializing to JSON: ").removeprefix("Error calling function ")
    for path, leaf in _leaves(value, _is_no_data):
        if isinstance(leaf, (bytes, bytearray)):
            return (
                f"{place(path)}bytes that are no text can't be written; give the class that holds them model_config = "
                "ConfigDict(ser_json_bytes='base64', val_json_bytes='base64'), or write them to the workspace and "
                "send the path"
            )
        if isinstance(leaf, str):
            return f"{place(path)}text with half a character (a lone surrogate) can't be written; replace it"
        return f"{place(path)}{named(leaf)} is no data; send what it is made from (text, numbers, models)"
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
    if isinstance(value, (*SEQUENCES, *SETS)):
        return list(enumerate(value))
    return []


def place(path: tuple[str, ...]) -> str:
    """Say where in a value something is."""
    return f"'{'.'.join(path)}': " if path else ""


def named(value: Any) -> str:
    """Say what a value is, in short."""
    try:
        said = clip(repr(value), 100)
    except Exception:
        said = ""
    return said if value is None or is_record(value) else f"{type(value).__name__} {said}".rstrip()
