"""A tool call of a model as a person may change it: what is offered for that, and what fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from activities.answering.changes import differing, merged
from activities.border.washing import name_of, said, words_of
from activities.contract.envelope import Approval
from activities.contract.text import explain
from activities.declarations.method import Method
from activities.values.values import Outside, Values
from workflows.errors import AnswerRefused

APPROVAL: Values[Approval] = Values(Approval, Outside)


@dataclass(frozen=True)
class Changeable:
    """A tool call that waits for a person.

    Attributes:
        tool: The tool, as the run knows it; None if it knows none of that name, as when a worker is newer.
        made: Returns its arguments as JSON, as the model gave them.
        room: Bytes that the answer may have: the call is made again with it.
    """

    tool: Method[..., Any] | None
    made: Callable[[], str]
    room: int

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of an answer: of the arguments, those need to be named that are changed."""
        whole = APPROVAL.json_schema()
        parts = {name: part for name, part in whole["properties"].items() if name != "by"}
        if self.tool is None:
            del parts["arguments"]
            return {**whole, "properties": parts}
        arguments = dict(self.tool.arguments.json_schema())
        definitions = arguments.pop("$defs", None)
        for name in ("required", "title"):
            arguments.pop(name, None)
        arguments["properties"] = {
            name: {**_default(self.tool, name), **part} for name, part in arguments.get("properties", {}).items()
        }
        parts["arguments"] = {**arguments, "description": parts["arguments"]["description"]}
        return {**whole, "properties": parts, **({"$defs": definitions} if definitions else {})}

    def fitting(self, given: Approval) -> Approval:
        """Return an approval with the changes that are some.

        Raises:
            AnswerRefused: The tool does not take them.
        """
        if not given.arguments:
            return given
        if self.tool is None:
            raise AnswerRefused("its arguments can't be changed: the workers of the choreography do not know this tool")
        made = self.made()
        changes = differing(made, given.arguments)
        self._check(self.tool, merged(made, changes))
        changed = given.model_copy(update={"arguments": changes})
        if (size := len(changed.model_dump_json().encode())) > self.room:
            raise AnswerRefused(
                f"the changed arguments are {size:,} bytes, and {self.room:,} have room; refuse the call, and tell the "
                "model what to do instead"
            )
        return changed

    def _check(self, tool: Method[..., Any], arguments: str) -> None:
        try:
            tool.arguments.validate_json(arguments)
        except ValidationError as error:
            raise AnswerRefused(explain(error), places_in(error, under="arguments")) from None
        except (Exception, SystemExit) as error:  # a validator of the user's that fails
            raise AnswerRefused(f"{name_of(error)}: {words_of(error)}") from None


def _default(tool: Method[..., Any], name: str) -> dict[str, Any]:
    """Return what an argument is that a model leaves out, as a member of a schema; nothing if that is not known."""
    parameter = tool.signature.parameters.get(name)
    if parameter is None or parameter.default is parameter.empty:
        return {}
    try:
        return {"default": from_json(to_json(parameter.default))}
    except ValueError:  # it is of a type that has no JSON
        return {}


def places_in(error: ValidationError, *, under: str = "") -> dict[str, str]:
    """Return what pydantic refused, by the places of the parts: `{"arguments.copies": "Input should be …"}`.

    Args:
        error: What it raised, of an envelope's field `value` or of the value itself.
        under: A place before all others.
    """
    try:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    except Exception:  # a validator's error says itself what is wrong, and may fail to
        return {}
    places: dict[str, str] = {}
    for detail in details:
        where = [str(part) for part in detail["loc"]]
        where = where[1:] if where[:1] == ["value"] and not under else where
        place = ".".join([under, *where] if under else where)
        places.setdefault(place, said(detail["msg"].removeprefix("Value error, "), _MOST_OF_A_PLACE))
    return places


_MOST_OF_A_PLACE = 500
