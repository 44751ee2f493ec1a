"""Signatures and types as JSON schema: what a model is told of a tool's parameters and of its answer's type."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, NotRequired, get_args, get_origin

import docstring_parser
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, from_json
from typing_extensions import TypedDict

from activities.border.washing import washed_json
from activities.values.json_in_text import candidates

Schema = dict[str, Any]

ANSWER_TOOL = "final_answer"
"""The tool by which a model gives its answer where it can't be given otherwise."""

_WRAPPER = "answer"


def arguments_type(
    name: str, signature: inspect.Signature, hints: dict[str, Any], docstring: str, config: ConfigDict | None = None
) -> Any:
    """Return a typed dict with one key per parameter, which pydantic validates and describes.

    A typed dict rather than a model, because a parameter may have any name, `json` and `copy` among them.

    Args:
        name: Title of the schema.
        signature: The method's signature without `self`.
        hints: The method's resolved type hints.
        docstring: Where parameters without an own description are described.
        config: How values of some types are read, where it is not as a model writes them.
    """
    described = {item.arg_name: item.description for item in docstring_parser.parse(docstring).params}
    fields: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name, Any)
        if description := described.get(parameter.name):
            hint = _describe(hint, description)
        optional = parameter.default is not inspect.Parameter.empty
        fields[parameter.name] = NotRequired[hint] if optional else hint
    make: Any = TypedDict  # type checkers know its declarations only, not its calls
    typed = make(re.sub(r"\W", "_", name), fields)
    typed.__pydantic_config__ = ConfigDict(**(config or {}), extra="forbid")
    return typed


def plain_default(field: FieldInfo) -> Any:
    """Return the default that a `Field(…)` gives, anew each time; `inspect.Parameter.empty` if it gives none."""
    if field.is_required():
        return inspect.Parameter.empty
    return field.get_default(call_default_factory=True, validated_data={})


def bounds_of(field: FieldInfo) -> FieldInfo:
    """Return all that a `Field(…)` says but the default, for an annotation."""
    bounds = copy.copy(field)
    bounds.default, bounds.default_factory = PydanticUndefined, None
    bounds._attributes_set = {
        name: value for name, value in field._attributes_set.items() if name not in ("default", "default_factory")
    }
    return bounds


def with_plain_defaults(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature whose defaults are values, where they were written as `Field(default=…)`."""
    parameters = [
        parameter.replace(default=plain_default(parameter.default))
        if isinstance(parameter.default, FieldInfo)
        else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def with_bounds(hints: dict[str, Any], fields: dict[str, FieldInfo]) -> dict[str, Any]:
    """Return hints that say of each parameter what its `Field(…)` says."""
    return {**hints, **{name: Annotated[hints.get(name, Any), bounds_of(field)] for name, field in fields.items()}}


def fields_of(signature: inspect.Signature) -> dict[str, FieldInfo]:
    """Return the parameters whose default is written as a `Field(…)`."""
    return {name: p.default for name, p in signature.parameters.items() if isinstance(p.default, FieldInfo)}


def description_of(docstring: str) -> str:
    """Return a docstring's text without its sections of parameters, returns and errors."""
    parsed = docstring_parser.parse(docstring)
    if parsed.meta and parsed.style is not docstring_parser.DocstringStyle.GOOGLE:
        return (parsed.description or "").strip()
    return _SECTIONS.sub("", docstring).strip()  # the parser would drop examples, and notes beside them, as well


_SECTIONS = re.compile(
    r"^(Args|Arguments|Params|Parameters|Returns|Yields|Raises):[ \t]*\n(?:[ \t]*\n|[ \t]+.*(?:\n|\Z))*", re.MULTILINE
)


_BEGINS_WITH_SECTION = re.compile(
    r"(Args|Arguments|Params|Parameters|Returns|Yields|Raises|Examples?|Notes?):[ \t]*(\n|\Z)|:[a-z]+[ :]|\Z"
)


def is_described(docstring: str) -> bool:
    """Return whether a docstring says what its method does, before its sections."""
    return not _BEGINS_WITH_SECTION.match(docstring)


NAME_LENGTH = 64
"""Characters that providers take in the name of a tool or of a schema."""


def name_for_models(name: str) -> str:
    """Return a name as providers take it.

    >>> name_for_models("größe")
    'gr__e'
    """
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:NAME_LENGTH]


def example(schema: Schema, definitions: Schema | None = None) -> Any:
    """Return a value of the form that a schema describes, for a person to change.

    >>> example({"type": "object", "properties": {"ok": {"type": "boolean"}, "why": {}}, "required": ["ok"]})
    {'ok': True}
    """
    definitions = schema.get("$defs", definitions or {})
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        inner = {key: value for key, value in definitions.items() if key != name}  # a type may hold itself
        return example(definitions[name], inner) if name in definitions else None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], definitions)
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        needed = [name for name in schema.get("required", ()) if name in properties]
        return {name: example(properties[name], definitions) for name in needed}
    return _EXAMPLES.get(schema.get("type", ""), "…")


_EXAMPLES = {"boolean": True, "integer": 1, "number": 1.0, "array": [], "null": None}


@dataclass(frozen=True)
class AnswerSchema:
    """The type of an answer, as a model sees it and as it is validated.

    Providers take only objects as a root, so anything else is wrapped into `{"answer": …}` on the way out and
    unwrapped on the way in.
    """

    hint: Any
    name: str

    @property
    def is_text(self) -> bool:
        """Whether the answer is the model's own words."""
        return self.hint is str

    @property
    def is_none(self) -> bool:
        """Whether there is no answer to give: the work is done by tools."""
        return self.hint is None or self.hint is type(None)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Pydantic's validator of the type."""
        return TypeAdapter(self.hint)

    @cached_property
    def schema(self) -> Schema:
        """The JSON schema whose root is an object."""
        schema = self.adapter.json_schema()
        if not self.wrapped:
            return schema
        definitions = schema.pop("$defs", None)
        root = {
            "type": "object",
            "properties": {_WRAPPER: schema},
            "required": [_WRAPPER],
            "additionalProperties": False,
        }
        return {**root, "$defs": definitions} if definitions else root

    @cached_property
    def wrapped(self) -> bool:
        """Whether the type's own schema can't stand at the root."""
        schema = self.adapter.json_schema()
        return schema.get("type") != "object" or "properties" not in schema

    @cached_property
    def strict_schema(self) -> Schema | None:
        """The schema as providers' strict mode wants it, or None where it can't be said strictly."""
        return strict(self.schema)

    def parse(self, text: str) -> Any:
        """Turn a model's text into the answer: the first part of it that is of the type.

        Raises:
            ValueError: The text is not JSON, or not of the type (pydantic's ValidationError is one).
            Exception: Whatever a validator of the type raises.
        """
        wrong: Exception | None = None
        for part in candidates(text):
            try:
                return self._read(washed_json(part))
            except Exception as error:  # a validator's may be any
                wrong = wrong or error
        raise wrong or ValueError("it is empty")

    def _read(self, data: str) -> Any:
        if not self.wrapped:
            return self.adapter.validate_json(data)
        value = from_json(data)
        if isinstance(value, dict) and set(value) == {_WRAPPER}:
            return TypeAdapter(dict[str, self.hint]).validate_json(data)[_WRAPPER]  # type: ignore[name-defined]
        return self.adapter.validate_json(data)


def strict(schema: Schema) -> Schema | None:
    """Return the schema with every object closed and every property required, or None where that changes its meaning.

    That is what the strict modes of providers take. An object with free keys has no such form.
    """
    try:
        closed = _close(schema)
    except _OpenObject:
        return None
    assert isinstance(closed, dict)
    return closed


class _OpenObject(Exception):
    pass


_NOT_IN_STRICT_MODE = ("default", "examples", "format", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems")


def _close(node: Any, *, names: bool = False) -> Any:
    if isinstance(node, list):
        return [_close(item) for item in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: _close(value) for key, value in node.items()}
    closed = {
        key: _close(value, names=key in ("properties", "$defs"))
        for key, value in node.items()
        if key not in _NOT_IN_STRICT_MODE
    }
    if "$ref" in closed and len(closed) > 1:  # OpenAI: "$ref cannot have keywords {'description'}"
        closed["anyOf"] = [{"$ref": closed.pop("$ref")}]
    if "oneOf" in closed:
        closed["anyOf"] = closed.pop("oneOf")
        closed.pop("discriminator", None)
    if closed.get("type") == "object":
        if "properties" not in closed or closed.get("additionalProperties"):
            raise _OpenObject
        closed["additionalProperties"] = False
        closed["required"] = list(closed["properties"])
    if "prefixItems" in closed or not closed.keys() - {"title", "description"}:
        raise _OpenObject
    return closed


def _describe(hint: Any, description: str) -> Any:
    if get_origin(hint) is Annotated and any(
        isinstance(item, FieldInfo) and item.description for item in get_args(hint)[1:]
    ):
        return hint
    return Annotated[hint, Field(description=description)]
