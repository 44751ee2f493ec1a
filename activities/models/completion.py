"""A chat completion in OpenAI's form, made regular before anybody reads it.

Servers that speak the protocol bend it. What is meant is read: content in parts, arguments that are no text, a call in
the form of years ago. What can't be true is left out: a negative number of tokens, a picture that is a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from activities.border.washing import DEEPEST

MOST_TOKENS = 10_000_000
"""Tokens that one request may have used; no model's context window is larger."""

MOST_CALLS = 128
"""Tool calls in one answer that are taken."""

UNNAMED = "unnamed"
"""The tool that a call without a name asks for. There is none, which the model is told."""

_NAME_LENGTH = 64
_DEEP_SHOWN = 200
_ID_LENGTH = 200
_OTHER_KEYS = 30
_OF_A_COMPLETION = ("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint")
_NOT_OF_A_MESSAGE = ("annotations", "audio", "images")


def failure_in(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the status and the words of a failure that came as a success; None if there is an answer."""
    error = body.get("error")
    if error and not _first_choice(body):
        return _status(error, range(400, 600)), _words(error)
    choice = _first_choice(body)
    if isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") == "error"):
        told = choice.get("error") or error or "it broke off"
        return _status(told, (429, *range(500, 600))), _words(told)
    return None


def regular(body: dict[str, Any]) -> dict[str, Any]:
    """Return a completion that has one choice, with a message in the protocol's form, and usage that can be true."""
    choice = _first_choice(body)
    made = {key: body[key] for key in _OF_A_COMPLETION if key in body}
    if body.get("choices") is not None:
        made["choices"] = [_regular_choice(choice)] if isinstance(choice, dict) else []
    if usage := _regular_usage(body.get("usage")):
        made["usage"] = usage
    for key, kind in (("id", str), ("model", str), ("created", int), ("service_tier", str)):
        if key in made and not (isinstance(made[key], kind) and len(str(made[key])) <= _ID_LENGTH):
            del made[key]
    return made


def regular_message(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assistant's message in the protocol's form."""
    message = {key: value for key, value in _few_of(given).items() if key not in _NOT_OF_A_MESSAGE}
    message["role"] = "assistant"
    message["content"] = text_of(message.get("content"))
    for key in ("refusal", "reasoning_content", "reasoning"):
        if message.get(key) is not None:
            message[key] = text_of(message[key])
    blocks = message.get("thinking_blocks")
    if blocks is not None and not (isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks)):
        del message["thinking_blocks"]
    calls = message.pop("tool_calls", None) or []
    old_call = message.pop("function_call", None)
    calls = calls if isinstance(calls, list) else [calls]
    if not calls and isinstance(old_call, dict):
        calls = [{"function": old_call}]
    made = [_regular_call(call) for call in calls[:MOST_CALLS] if isinstance(call, dict)]
    return {**message, "tool_calls": made} if made else message


def _few_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as it is, if it has not more keys than anybody means: one with many is read too slowly."""
    known = ("role", "content", "tool_calls", "refusal", "reasoning_content", "thinking_blocks", "function_call")
    kept = {key: given[key] for key in known if key in given}
    return {**kept, **dict(islice(given.items(), _OTHER_KEYS))}


def text_of(content: Any) -> str | None:
    """Return content as a text, also where it comes in parts."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(filter(None, map(_text_of_part, content)))
    if isinstance(content, dict):
        return _text_of_part(content)
    return json.dumps(content)


def _text_of_part(part: Any) -> str | None:
    if not isinstance(part, dict):
        return text_of(part)
    return text_of(part.get("text")) if part.get("type", "text") in ("text", "output_text") else None


def _first_choice(body: Mapping[str, Any]) -> Any:
    choices = body.get("choices")
    if isinstance(choices, dict):
        return choices
    return choices[0] if isinstance(choices, list) and choices else None


def _regular_choice(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message", choice.get("delta", choice.get("text")))
    if isinstance(message, str):
        message = {"content": message}
    reason = choice.get("finish_reason")
    made: dict[str, Any] = {
        "index": 0,
        "finish_reason": reason if isinstance(reason, str) and len(reason) <= _NAME_LENGTH else "stop",
    }
    made["message"] = regular_message(message) if isinstance(message, dict) else None
    if isinstance(choice.get("provider_specific_fields"), dict):
        made["provider_specific_fields"] = choice["provider_specific_fields"]
    return made


def _regular_call(call: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in islice(call.items(), _OTHER_KEYS) if key not in ("id", "custom", "index")}
    given = call.get("function")
    function: dict[str, Any] = given if isinstance(given, dict) else {}
    custom = call.get("custom")
    if isinstance(custom, dict) and not function:
        function = {"name": custom.get("name"), "arguments": _as_arguments(custom.get("input"))}
    elif isinstance(given, str):
        function = {"name": given}
    if isinstance(call.get("id"), (str, int)) and 0 < len(str(call["id"])) <= _ID_LENGTH:
        made["id"] = str(call["id"])
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json.dumps(arguments)
    if _is_nested_deeply(arguments):
        arguments = json.dumps({"nested_too_deeply": arguments[:_DEEP_SHOWN]})
    return {**made, "type": "function", "function": {"name": _name(function.get("name")), "arguments": arguments}}


def _is_nested_deeply(text: str) -> bool:
    """Whether a text is JSON that is nested more deeply than everybody can read."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    try:
        level = [json.loads(text)]
    except ValueError:
        return False
    except RecursionError:
        return True
    for _ in range(DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    return bool(level)


def _name(name: Any) -> str:
    """Return a name that servers take, as it goes back to them in the conversation."""
    return (re.sub(r"[^\w-]", "_", name)[:_NAME_LENGTH] if isinstance(name, str) else "") or UNNAMED


def _as_arguments(text: Any) -> str:
    """Return what a tool was given in free form as arguments: they do not fit any, of which the model is told."""
    return text if isinstance(text, str) and is_object(text) else json.dumps({"input": text})


def is_object(text: str) -> bool:
    """Whether a text is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _regular_usage(usage: Any) -> dict[str, Any]:
    if not isinstance(usage, dict):
        return {}
    made: dict[str, Any] = {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    kept = {name: usage[name] for name in names if name in usage} | dict(islice(usage.items(), _OTHER_KEYS))
    for key, value in kept.items():
        if isinstance(value, dict) and key not in names:
            few = islice(value.items(), _OTHER_KEYS)
            made[key] = {name: tokens for name, item in few if (tokens := sensible_tokens(item)) is not None}
        elif key == "cost":
            made |= {key: value} if sensible_cost(value) is not None else {}
        elif (tokens := sensible_tokens(value)) is not None:
            made[key] = tokens
    prompt, completion = made.setdefault("prompt_tokens", 0), made.setdefault("completion_tokens", 0)
    if details := made.get("prompt_tokens_details"):  # of which there are no more than of the whole
        made["prompt_tokens_details"] = {name: min(tokens, prompt) for name, tokens in details.items()}
    made["total_tokens"] = max(made.get("total_tokens", 0), prompt + completion)
    return made


def sensible_tokens(value: Any) -> int | None:
    """Return a number of tokens that can be true; None for any other value."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return math.ceil(number) if 0 <= number <= MOST_TOKENS else None


def sensible_cost(value: Any) -> float | None:
    """Return the cost of one request in dollars, if it can be true."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= MOST_USD else None


MOST_USD = 10_000.0
"""Dollars that one request may cost."""


def _status(error: Any, known: Any) -> int:
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    status = int(code) if isinstance(code, str) and code.isdecimal() and len(code) < 4 else code
    return status if isinstance(status, int) and status in known else 502


def _words(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error
    return error if isinstance(error, str) else json.dumps(error)
