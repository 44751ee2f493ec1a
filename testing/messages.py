"""Anthropic's protocol, seen as OpenAI's: its requests as chat completions, and answers as its messages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON = dict[str, Any]

_ids = itertools.count(1)
_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def as_completion_request(body: Mapping[str, Any]) -> JSON:
    """Return what a request would be in OpenAI's protocol."""
    tools = [{"type": "function", "function": _function(tool)} for tool in body.get("tools", ()) if "name" in tool]
    system = _text(body.get("system") or "")
    opening = [{"role": "system", "content": system}] if system else []
    said = [message for given in body["messages"] for message in _messages(given)]
    others = {key: value for key, value in (("tools", tools), ("stream", body.get("stream"))) if value}
    return {"model": body.get("model"), "messages": [*opening, *said], **others}


def answer(content: str | None, calls: Sequence[JSON], reason: str, model: str, usage: JSON) -> JSON:
    """Return an answer as a message of Anthropic's.

    Args:
        content: The words.
        calls: Tool calls, in OpenAI's form.
        reason: Why it ends, in OpenAI's word.
        model: Who says it.
        usage: Its tokens, by Anthropic's names.
    """
    words = [{"type": "text", "text": content}] if content else []
    return {
        "id": f"msg_{next(_ids)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [*words, *(_tool_use(call) for call in calls)],
        "stop_reason": _REASONS.get(reason, reason),
        "stop_sequence": None,
        "usage": usage,
    }


def failure(status: int, message: str, kind: str | None) -> JSON:
    """Return a refusal."""
    return {"type": "error", "error": {"type": kind or _KINDS.get(status, "api_error"), "message": message}}


def _function(tool: Mapping[str, Any]) -> JSON:
    return {"name": tool["name"], "description": tool.get("description"), "parameters": tool.get("input_schema")}


def _messages(given: Mapping[str, Any]) -> Iterator[JSON]:
    content = given["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for block in blocks:
        if block["type"] == "tool_result":
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": _text(block.get("content") or "")}
    words = _text([block for block in blocks if block["type"] == "text"])
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    if words or calls:
        yield {"role": given["role"], "content": words or None, **({"tool_calls": calls} if calls else {})}


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(block.get("text", "") for block in content)


def _call(block: Mapping[str, Any]) -> JSON:
    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
    return {"id": block["id"], "type": "function", "function": function}


def _tool_use(call: JSON) -> JSON:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        arguments = {"not_valid": function["arguments"]}
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}
