"""What an item or a call is about, in a few words: as people see it in progress, in the UI and in errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

_LENGTH = 60
_LOOKED_AT = 10_000
"""Characters of a text that are looked at: it may have millions."""


def label(value: Any) -> str:
    """Say in a few words which item this is: a text itself, a model's path or name."""
    if isinstance(value, (tuple, list)) and value:
        return label(value[0])
    text = value if isinstance(value, str) else _telling_field(value)
    line = " ".join((text if text is not None else repr(value)).lstrip()[:_LOOKED_AT].split())
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 1]}…"


def _telling_field(value: Any) -> str | None:
    fields = _fields(value)
    texts = {str(name): field for name, field in fields.items() if isinstance(field, str) and field}
    for ending in ("path", "name", "id", "title"):
        for name, text in texts.items():
            if name == ending or name.endswith(f"_{ending}"):
                return text
    return next(iter(texts.values()), None)


def _fields(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {}
