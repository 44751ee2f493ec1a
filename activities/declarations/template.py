"""Prompt templates: docstrings with `{parameter}` and `{parameter.field}`."""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import is_typeddict

from activities.errors import ArgumentInvalid, DeclarationError
from activities.memory.transcript import shortened


def render(template: str, arguments: Mapping[str, Any]) -> str:
    """Put the arguments into a template: text as it is, None as `none`, anything else as indented JSON.

    Raises:
        ArgumentInvalid: One can't be written; names the placeholder.

    >>> render("Review {path}: {notes}", {"path": "a.py", "notes": None})
    'Review a.py: none'
    """
    parts = []
    for literal, placeholder, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if placeholder is not None:
            parts.append(_written(placeholder, _look_up(arguments, placeholder)))
    return "".join(parts)


def _written(placeholder: str, value: Any) -> str:
    try:
        return as_text(value)
    except PydanticSerializationError as error:
        raise ArgumentInvalid(
            f"'{placeholder}' can't be written into the prompt: {error}; give text, or a path"
        ) from None


def as_text(value: Any) -> str:
    """Write a value for a model to read."""
    if isinstance(value, str):
        return value
    if value is None:
        return "none"
    return to_json(value, indent=2, by_alias=True, fallback=str, inf_nan_mode="constants").decode()


SHOWN_OF_AN_ARGUMENT = 2_000
"""Characters of an argument that a person is shown."""


def in_short(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for people to read: of a long one, head and tail."""
    shown = {}
    for name, value in arguments.items():
        text = as_text(value)
        shown[name] = value if len(text) <= SHOWN_OF_AN_ARGUMENT else shortened(text, SHOWN_OF_AN_ARGUMENT)
    return shown


def check(where: str, template: str, parameters: Collection[str], hints: Mapping[str, Any]) -> None:
    """Check that every placeholder names a parameter, and a field that its type has.

    Raises:
        DeclarationError: Names the method (`where`), the placeholder and the mend.
    """
    try:
        found = [tuple(placeholder) for _, *placeholder in string.Formatter().parse(template)]
    except ValueError as error:
        raise DeclarationError(
            f"{where}: its docstring: {error}; write '{{{{' or '}}}}' for a brace that is meant"
        ) from None
    for placeholder, format_spec, conversion in found:
        if placeholder is None:
            continue
        _check_one(where, placeholder, parameters, hints)
        if format_spec or conversion:
            raise DeclarationError(
                f"{where}: the placeholder '{{{placeholder}}}' can't be formatted further; write the name alone"
            )


def _check_one(where: str, placeholder: str, parameters: Collection[str], hints: Mapping[str, Any]) -> None:
    parameter, *path = placeholder.split(".")
    if parameter not in parameters:
        raise DeclarationError(
            f"{where}: the placeholder '{{{placeholder}}}' names no parameter "
            f"(there are: {', '.join(parameters) or 'none'}); "
            "correct the name, or write '{{' and '}}' for braces that are meant"
        )
    hint = _without_none(hints.get(parameter))
    for name in path:
        fields = _fields_of(hint)
        if fields is None:
            return
        if name not in fields and not hasattr(hint, name):
            raise DeclarationError(
                f"{where}: the placeholder '{{{placeholder}}}': {getattr(hint, '__name__', hint)} has no field "
                f"'{name}' (it has: {', '.join(fields) or 'none'}); correct the name"
            )
        hint = _without_none(fields.get(name))


def _fields_of(hint: Any) -> dict[str, Any] | None:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return {name: field.annotation for name, field in hint.model_fields.items()}
    if is_typeddict(hint):
        return dict.fromkeys(hint.__annotations__)
    fields = getattr(hint, "__dataclass_fields__", None)
    return dict.fromkeys(fields) if fields else None


def _without_none(hint: Any) -> Any:
    """Take the type out of an Optional."""
    types = [option for option in get_args(hint) if option is not type(None)]
    return types[0] if len(types) == 1 and type(None) in get_args(hint) else hint


def _look_up(arguments: Mapping[str, Any], placeholder: str) -> Any:
    parameter, *path = placeholder.split(".")
    value = arguments[parameter]
    for name in path:
        if value is None:
            return None
        value = value[name] if isinstance(value, Mapping) else getattr(value, name)
    return value
