"""JSON that is the same in every process: what is in a set comes in an order of its own, not in that of its hashes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

_MAY_HOLD_SETS = ("set", "frozenset", "any", "is-instance", "custom-error", "function-plain")
"""Kinds of pydantic's schemas whose values are sets, or may be."""


def may_hold_sets(schema: Any) -> bool:
    """Whether values of a type may hold sets, by its pydantic core schema; True where it can't be known."""
    if isinstance(schema, Mapping):
        if schema.get("type") in _MAY_HOLD_SETS or "allow" in (
            schema.get("extra_behavior"),
            schema.get("extra_fields_behavior"),
        ):
            return True
        return any(may_hold_sets(inner) for inner in schema.values())
    return isinstance(schema, (list, tuple)) and any(map(may_hold_sets, schema))


def in_order(value: Any, data: Any) -> Any:
    """Return JSON data with everything that comes from a set sorted.

    Args:
        value: What was written as JSON.
        data: The JSON that it was written as. Where it has another form than its value, it is left as it is.
    """
    if isinstance(value, Set) and not isinstance(value, Mapping) and _is_as_long(value, data, list):
        return sorted((in_order(*pair) for pair in zip(value, data, strict=True)), key=_text)
    if isinstance(value, (list, tuple, deque)) and _is_as_long(value, data, list):
        return [in_order(*pair) for pair in zip(value, data, strict=True)]
    if isinstance(value, Mapping) and _is_as_long(value, data, dict):
        return {name: in_order(inner, data[name]) for name, inner in zip(data, value.values(), strict=True)}
    inside = _fields(value) if isinstance(data, dict) else {}
    return {**data, **{name: in_order(inside[name], data[name]) for name in inside if name in data}} if inside else data


def _is_as_long(value: Any, data: Any, kind: type[list[Any] | dict[str, Any]]) -> bool:
    return isinstance(data, kind) and len(value) == len(data)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a model or dataclass by every name that they may have in JSON."""
    found: dict[str, Any] = {}
    if isinstance(value, BaseModel):
        found.update(value.model_extra or {})
        for name, field in type(value).model_fields.items():
            found.update(dict.fromkeys((name, field.serialization_alias or name), getattr(value, name, None)))
        for name in type(value).model_computed_fields:
            found[name] = getattr(value, name)
    elif is_dataclass(value) and not isinstance(value, type):
        found.update({field.name: getattr(value, field.name) for field in fields(value)})
    return found


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
