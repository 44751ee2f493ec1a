"""Forms of answers: fields from a question's JSON schema, and an answer from what was filled in."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Kind = Literal["choice", "yes_no", "number", "text", "long", "json"]


class NotFilledIn(ValueError):
    """Fields hold what they can't.

    Attributes:
        places: What is wrong, by the names of the fields.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__("; ".join(places.values()))
        self.places = dict(places)


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
        empty: What it means if it is left empty, as JSON; None if it can't be.
        cut: Whether there is too much to be in it; left empty, it stays.
    """

    name: str
    label: str
    kind: Kind
    choices: tuple[str, ...] = ()
    required: bool = True
    help: str = ""
    value: str = ""
    empty: str | None = None
    cut: bool = False


@dataclass(frozen=True)
class Form:
    """The fields of an answer; one without a name of its own is the whole answer.

    Attributes:
        fields: In order.
        is_object: Whether the answer is an object with a value for each field.
        changes: Of a tool that is to be approved, its arguments as they are.
    """

    fields: tuple[Field, ...] = ()
    is_object: bool = False
    changes: tuple[Field, ...] = ()

    @property
    def buttons(self) -> Field | None:
        """The field that is answered by pressing a button, if there is one."""
        first = self.fields[0]
        alone = len(self.fields) == 1
        return first if first.kind == "yes_no" or (first.kind == "choice" and alone) else None

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields that are filled in."""
        return self.fields[1:] if self.buttons else self.fields

    @classmethod
    def of(
        cls, schema: Mapping[str, Any], arguments: Mapping[str, Any] | None = None, in_short: Collection[str] = ()
    ) -> Form:
        """Make the form for a schema; what has no form of its own is written as JSON.

        Args:
            schema: Of the answer.
            arguments: What the question is about; the answer may change those that the schema has.
            in_short: Those of them that are not there as a whole.
        """
        whole = _resolved(schema, schema)
        if whole.get("type") != "object" or not whole.get("properties"):
            return cls((_field("answer", "answer", whole, required=True),))
        parts = dict(whole["properties"])
        changes: list[Field] = []
        if arguments is not None and "approve" in parts and "arguments" in parts:
            for name, part in parts.pop("arguments").get("properties", {}).items():
                changes.append(_change(name, part, schema, arguments, cut=name in in_short))
        required = whole.get("required", ())
        fields = (
            _field(f"answer.{name}", name, _resolved(part, schema), required=name in required)
            for name, part in parts.items()
        )
        return cls(tuple(fields), is_object=True, changes=tuple(changes))

    def answer(self, filled: Mapping[str, Any]) -> Any:
        """Return the answer that was filled in.

        Raises:
            NotFilledIn: Fields hold what they can't.
        """
        wrong: dict[str, str] = {}

        def read(one: Field) -> Any:
            try:
                return _value(one, str(filled.get(one.name, "")))
            except ValueError as error:
                wrong[one.name] = str(error)
                return None

        if not self.is_object:
            answer = read(self.fields[0])
        else:
            answer = {one.label: read(one) for one in self.fields if filled.get(one.name) or one.required}
            changes = {one.label: read(one) for one in self.changes if _is_changed(one, filled)}
            if changes and answer.get("approve") is not False:
                answer["arguments"] = changes
        if wrong:
            raise NotFilledIn(wrong)
        return answer

    def has_changes(self, filled: Mapping[str, Any]) -> bool:
        """Whether an argument was changed."""
        return any(_is_changed(one, filled) for one in self.changes)


def _is_changed(one: Field, filled: Mapping[str, Any]) -> bool:
    given = _lines(str(filled.get(one.name, one.value)))
    return given != _lines(one.value)


def _lines(text: str) -> str:
    """Return a text as it was before a browser sent it."""
    return text.replace("\r\n", "\n")


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
    value = "" if default is None else _shown(kind, default)
    return Field(name, label, kind, tuple(json.dumps(one) for one in choices), required, told, value)


def _change(name: str, part: Any, schema: Mapping[str, Any], arguments: Mapping[str, Any], *, cut: bool) -> Field:
    """Make the field of an argument, with what is in it."""
    plain = _resolved(part, schema)
    field = _field(f"answer.arguments.{name}", name, plain, required=False)
    now = arguments.get(name, plain.get("default"))
    if field.kind in ("text", "long") and not (now is None or isinstance(now, str)):
        field = replace(field, kind="json")
    if field.kind == "number" and not (isinstance(now, (int, float)) and math.isfinite(now)) and now is not None:
        field = replace(field, kind="json")
    if cut:
        return replace(field, kind="long" if field.kind == "text" else field.kind, value="", cut=True)
    value = "" if now is None and field.kind != "json" else _shown(field.kind, now)
    if field.kind == "text" and "\n" in value:
        field = replace(field, kind="long")
    choices = field.choices if not field.choices or value in field.choices else (value, *field.choices)
    return replace(field, value=value, choices=choices, empty=_empty(part, plain, field.kind))


def _empty(part: Any, plain: Mapping[str, Any], kind: Kind) -> str | None:
    if any(one.get("type") == "null" for one in part.get("anyOf", ())):
        return "null"
    if kind in ("text", "long"):
        return '""'
    return json.dumps(plain["default"]) if "default" in plain else None


def _shown(kind: Kind, value: Any) -> str:
    if kind in ("text", "long"):
        return value if isinstance(value, str) else json.dumps(value)
    return json.dumps(value, indent=2 if kind == "json" else None, ensure_ascii=kind == "choice")


def _value(of: Field, text: str) -> Any:
    """Read what is in a field.

    Raises:
        ValueError: It can't hold that.
    """
    if not text and of.empty is not None:
        return json.loads(of.empty)
    if of.kind in ("text", "long"):
        return _lines(text)
    try:
        return json.loads(text)
    except ValueError:
        wanted = {"number": "a number", "json": "JSON", "choice": "one of the choices", "yes_no": "yes or no"}
        raise ValueError(f"'{of.label}' wants {wanted[of.kind]}, and not {text[:80]!r}.") from None
