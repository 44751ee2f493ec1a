"""Answers as streams of events, in the pieces in which OpenAI's and Anthropic's servers send them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JSON = dict[str, Any]


def of_completion(body: Mapping[str, Any], *, counted: bool) -> list[str]:
    """Return a chat completion in events.

    Args:
        body: What it is at once.
        counted: Whether its usage was asked for.
    """
    choice = body["choices"][0]
    message = choice["message"]
    deltas: list[JSON] = [{"role": "assistant", "content": "" if message["content"] is not None else None}]
    deltas += [{"content": piece} for piece in _pieces(message["content"] or "")]
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        deltas.append({"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in _pieces(function["arguments"])
        ]
    same = {key: body[key] for key in ("id", "created", "model", "service_tier") if key in body}
    same["object"] = "chat.completion.chunk"
    chunks = [{**same, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**same, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if counted:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**same, "choices": [], "usage": body["usage"]})
    return [*(event(chunk) for chunk in chunks), "data: [DONE]\n\n"]


def of_message(body: Mapping[str, Any]) -> list[str]:
    """Return a message of Anthropic's in events."""
    usage = body["usage"]
    start = {**body, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    made: list[JSON] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(body["content"]):
        made += _of_block(index, block)
    ends = {key: body[key] for key in ("stop_reason", "stop_sequence")}
    made.append({"type": "message_delta", "delta": ends, "usage": {"output_tokens": usage["output_tokens"]}})
    made.append({"type": "message_stop"})
    return [event(one, one["type"]) for one in made]


def event(data: Mapping[str, Any], name: str | None = None) -> str:
    """Return an event as it is sent."""
    return f"{f'event: {name}{chr(10)}' if name else ''}data: {json.dumps(data)}\n\n"


def _of_block(index: int, block: Mapping[str, Any]) -> Iterator[JSON]:
    kind = block["type"]
    empty: Mapping[str, JSON] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty.get(kind, {})}}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _deltas(block: Mapping[str, Any]) -> Sequence[JSON]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
    if block["type"] == "thinking":
        thought = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        return [*thought, {"type": "signature_delta", "signature": block["signature"]}]
    if block["type"] == "tool_use":
        written = ["", *_pieces(json.dumps(block["input"]))]
        return [{"type": "input_json_delta", "partial_json": piece} for piece in written]
    return []


def _pieces(text: str) -> list[str]:
    """Return a text in pieces of about a word, and a long one in a thousand."""
    size = max(12, len(text) // 1_000)
    return re.findall(rf"\s*\S{{1,{size}}}|\s+$", text)
