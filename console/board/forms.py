"""Forms of answers: fields from a question's JSON schema, and an answer from what was filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["choice", "yes_no", "number", "text", "long", "json"]


class NotFilledIn(ValueError):
    """A field holds what it can't; says which and why."""


@dataclass(frozen=True)
class Field:
    """A field of a form.

    Attributes:
        name: As it is sent: `answer`, or `answer.verdict` for a part of it.
        label: What stands before it.
        kind: How it looks.
        choices: Among what is chosen, as JSON.
        required: Whether it has to be filled in.
        help: What is said of it.
        value: What is in it at first.
    """

    name: str
    label: str
    kind: Kind
    choices: tuple[str, ...] = ()
    required: bool = True
    help: str = ""
    value: str = ""


@dataclass(frozen=True)
class Form:
    """The fields of an answer; one without a name of its own is the whole answer.

    Attributes:
        fields: In order.
        is_object: Whether the answer is an object with a value for each field.
    """

    fields: tuple[Field, ...] = ()
    is_object: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Form:
        """Make the form for a schema; what has no form of its own is written as JSON."""
        whole = _resolved(schema, schema)
        if whole.get("type") == "object" and whole.get("properties"):
            required = whole.get("required", ())
            fields = tuple(
                _field(f"answer.{name}", name, _resolved(part, schema), required=name in required)
                for name, part in whole["properties"].items()
            )
            return cls(fields, is_object=True, schema=schema)
        return cls((_field("answer", "answer", whole, required=True),), schema=schema)

    def answer(self, filled: Mapping[str, Any]) -> Any:
        """Return the answer that was filled in.

        Raises:
            NotFilledIn: A field holds what it can't.
        """
        if not self.is_object:
            return _value(self.fields[0], str(filled.get("answer", "")))
        given = {one.name.removeprefix("answer."): (one, str(filled.get(one.name, ""))) for one in self.fields}
        return {name: _value(one, text) for name, (one, text) in given.items() if text or one.required}


def _resolved(part: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, and leave out that a value may be missing."""
    found: Any = part if isinstance(part, Mapping) else {}
    for _ in range(10):
        if "$ref" in found:
            found = {**schema.get("$defs", {}).get(found["$ref"].rpartition("/")[2], {}), **_without(found, "$ref")}
        elif "anyOf" in found:
            real = [one for one in found["anyOf"] if one.get("type") != "null"]
            if len(real) != 1:
                break
            found = {**real[0], **_without(found, "anyOf")}
        else:
            break
    return found if isinstance(found, Mapping) else {}


def _without(part: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != key}


def _field(name: str, label: str, part: Mapping[str, Any], *, required: bool) -> Field:
    told = str(part.get("description", ""))
    default = part.get("default")
    choices = part["enum"] if "enum" in part else [part["const"]] if "const" in part else []
    kinds: dict[Any, Kind] = {"boolean": "yes_no", "integer": "number", "number": "number", "string": "text"}
    kind: Kind = "choice" if choices else kinds.get(part.get("type"), "json")
    if kind == "text" and part.get("maxLength", 10_000) > 200:
        kind = "long"
    value = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    return Field(name, label, kind, tuple(json.dumps(one) for one in choices), required, told, value)


def _value(of: Field, text: str) -> Any:
    if of.kind in ("text", "long"):
        return text.replace("\r\n", "\n")
    try:
        return json.loads(text)
    except ValueError:
        wanted = {"number": "a number", "json": "JSON", "choice": "one of the choices", "yes_no": "yes or no"}
        raise NotFilledIn(f"'{of.label}' wants {wanted[of.kind]}, and not {text[:80]!r}.") from None
