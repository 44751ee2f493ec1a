"""Arguments that a person changes in a tool call of a model before they agree to it.

The model's call stays in the conversation as it was made. The tool runs with what was made of it, and its
result says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from activities.answering.checkpoint import Checkpoint
from activities.border.washing import washed, washed_json
from activities.contract.envelope import Approval
from activities.declarations.template import in_short
from activities.memory.transcript import Message


def arguments_of(call: Message) -> str:
    """Return the arguments of a tool call as JSON, as the model gave them."""
    arguments = washed_json(call["function"]["arguments"])
    return "{}" if arguments.strip() in ("", "null") else arguments


def waiting_arguments(recorded: Mapping[str, Any], tool_call: str) -> str:
    """Return the arguments of a tool call that waits for a person.

    Args:
        recorded: How far the call is in which it was made, as `Checkpoint.record` wrote it.
        tool_call: Its id.
    """
    entries = Checkpoint.read(recorded).entries
    calls = (call for entry in reversed(entries) for call in entry.get("tool_calls") or ())
    return arguments_of(next(call for call in calls if call["id"] == tool_call))


def merged(arguments: str, changes: Mapping[str, Any]) -> str:
    """Return arguments with some of them changed.

    >>> merged('{"title": "Roses", "copies": 1}', {"copies": 2})
    '{"title": "Roses", "copies": 2}'
    """
    return json.dumps({**from_json(arguments), **changes})


def differing(arguments: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes that change something: who sends a form back sends all of it.

    >>> differing('{"title": "Roses", "copies": 1}', {"title": "Roses", "copies": True})
    {'copies': True}
    """
    given = from_json(arguments)
    return {name: value for name, value in changes.items() if name not in given or _text(given[name]) != _text(value)}


def with_changes(call: Message, approval: Approval | None) -> Message:
    """Return a tool call as it is made: with the arguments that a person has given it, if one has."""
    if approval is None or not approval.arguments:
        return call
    return {**call, "function": {**call["function"], "arguments": merged(arguments_of(call), approval.arguments)}}


def with_notice(result: str, approval: Approval | None) -> str:
    """Return a tool's result as the model is told it: with what a person has changed, if one has."""
    if approval is None or not approval.arguments:
        return result
    who = f"A person ({approval.by})" if approval.by else "A person"
    shown = json.dumps(in_short(approval.arguments), ensure_ascii=False)
    why = f" They say: {approval.reason}" if approval.reason else ""
    return f"{washed(f'{who} has changed this call before it was made, to {shown}.{why}')}\n\n{result}"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
