"""Prompt templates: docstrings with `{parameter}` and `{parameter.field}`."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from activities.errors import DeclarationError

_anything: TypeAdapter[Any] = TypeAdapter(Any)


def render(template: str, arguments: Mapping[str, Any]) -> str:
    """Put the arguments into a template: text as it is, None as `none`, anything else as indented JSON.

    >>> render("Review {path}: {notes}", {"path": "a.py", "notes": None})
    'Review a.py: none'
    """
    parts = []
    for literal, placeholder, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if placeholder is not None:
            parts.append(as_text(_look_up(arguments, placeholder)))
    return "".join(parts)


def as_text(value: Any) -> str:
    """Write a value for a model to read."""
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return value.model_dump_json(indent=2, by_alias=True)
    return _anything.dump_json(value, indent=2, by_alias=True, fallback=str).decode()


def check(where: str, template: str, parameters: Collection[str], hints: Mapping[str, Any]) -> None:
    """Check that every placeholder names a parameter, and a field that its type has.

    Raises:
        DeclarationError: Names the method (`where`), the placeholder and the mend.
    """
    try:
        found = [placeholder for _, placeholder, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise DeclarationError(
            f"{where}: its docstring: {error}; write '{{{{' or '}}}}' for a brace that is meant"
        ) from None
    for placeholder in found:
        if placeholder is not None:
            _check_one(where, placeholder, parameters, hints)


def _check_one(where: str, placeholder: str, parameters: Collection[str], hints: Mapping[str, Any]) -> None:
    parameter, *path = placeholder.split(".")
    if parameter not in parameters:
        raise DeclarationError(
            f"{where}: the placeholder '{{{placeholder}}}' names no parameter "
            f"(there are: {', '.join(parameters) or 'none'}); "
            "correct the name, or write '{{' and '}}' for braces that are meant"
        )
    hint = hints.get(parameter)
    for name in path:
        fields = _fields_of(hint)
        if fields is None:
            return
        if name not in fields and not hasattr(hint, name):
            raise DeclarationError(
                f"{where}: the placeholder '{{{placeholder}}}': {getattr(hint, '__name__', hint)} has no field "
                f"'{name}' (it has: {', '.join(fields)})"
            )
        hint = fields.get(name)


def _fields_of(hint: Any) -> dict[str, Any] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return {name: field.annotation for name, field in hint.model_fields.items()}
    fields = getattr(hint, "__dataclass_fields__", None)
    return dict.fromkeys(fields) if fields else None


def _look_up(arguments: Mapping[str, Any], placeholder: str) -> Any:
    parameter, *path = placeholder.split(".")
    value = arguments[parameter]
    for name in path:
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value
