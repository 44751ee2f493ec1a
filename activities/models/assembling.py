"""Answers that come in pieces, made whole: what the provider would have sent had it sent all at once.

So whatever is done with an answer is done with one form of it, streamed or not.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from activities.models.completion import MOST_CALLS
from activities.models.hearing import Delta

JSON = dict[str, Any]
_Pieces = dict[str, list[Any]]


class Assembly(ABC):
    """An answer that is being put together.

    Attributes:
        ended: Whether the provider has said that it is over.
        finished: Whether it has said why it is.
        failure: What it sent in place of the rest, where it failed.
        told_usage: Whether it has told what was used.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.ended = False
        self.finished = False
        self.failure: Any = None
        self.told_usage = False

    @abstractmethod
    def take(self, event: JSON) -> Iterator[Delta]:
        """Take in an event, and return what it says."""

    @abstractmethod
    def whole(self) -> tuple[int, JSON]:
        """Return the status and the body of the response that it would have been."""


class Completion(Assembly):
    """An answer in OpenAI's protocol."""

    def __init__(self) -> None:
        super().__init__()
        self._body: JSON = {}
        self._choice: JSON = {}
        self._said: _Pieces = {}
        self._calls: list[_Call] = []

    def take(self, event: JSON) -> Iterator[Delta]:
        """Take in a chunk."""
        if event.get("error"):
            self.failure, self.ended = event["error"], True
            return
        of_groq = event.get("x_groq")
        usage = event.get("usage") or (of_groq.get("usage") if isinstance(of_groq, dict) else None)
        self.told_usage = self.told_usage or bool(usage)
        _update(self._body, event, _OF_A_BODY)
        if usage is not None:
            self._body["usage"] = usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                yield from self._take_choice(choice)

    def _take_choice(self, choice: JSON) -> Iterator[Delta]:
        _update(self._choice, choice, _OF_A_CHOICE)
        self.finished = bool(self._choice.get("finish_reason"))
        delta = choice.get("delta")
        if delta is None and not self._said and not self._calls:
            delta = choice.get("message")
        if not isinstance(delta, dict):
            delta = {"content": choice.get("text")}
        for key, value in delta.items():
            if key == "tool_calls":
                for call in value if isinstance(value, list) else [value]:
                    if isinstance(call, dict):
                        yield from self._take_call(call)
            elif value is not None and key != "role":
                _keep(self._said, key, value)
                if isinstance(value, str) and value and key in _KINDS:
                    yield Delta(_KINDS[key], value)

    def _take_call(self, given: JSON) -> Iterator[Delta]:
        call = next((call for call in reversed(self._calls) if call.goes_on_with(given)), None)
        if call is None:
            if len(self._calls) > MOST_CALLS:  # of which more are not taken
                return
            call = _Call(given)
            self._calls.append(call)
        yield from call.take(given)

    def whole(self) -> tuple[int, JSON]:
        """Return it as one completion, or as the failure that it became."""
        if self.failure:
            return 200, {"error": self.failure}
        message = {key: _joined(pieces) for key, pieces in self._said.items()}
        if isinstance(message.get("thinking_blocks"), list):
            message["thinking_blocks"] = list(_whole_blocks(message["thinking_blocks"]))
        calls = sorted(self._calls, key=lambda call: call.index)
        if calls:
            message["tool_calls"] = [call.whole() for call in calls]
        choices = [{"index": 0, "message": {"role": "assistant", **message}, **self._choice}]
        body = {**self._body, "object": "chat.completion"}
        return 200, {**body, "choices": choices} if message or self._choice else self._body


_OF_A_BODY = ("id", "object", "created", "model", "service_tier")
_OF_A_CHOICE = ("finish_reason", "provider_specific_fields", "error")
_KINDS: Any = {"content": "text", "reasoning_content": "reasoning", "reasoning": "reasoning"}


class _Call:
    """A tool call that comes in pieces."""

    def __init__(self, first: JSON) -> None:
        self.index = first["index"] if isinstance(first.get("index"), int) else MOST_CALLS
        self.id: Any = None
        self._others: JSON = {}
        self._name = ""
        self._arguments: list[Any] = []

    def goes_on_with(self, given: JSON) -> bool:
        """Whether a piece is of this call; some servers give all of them the same index, or none."""
        index, other_id = given.get("index"), given.get("id")
        if isinstance(index, int) and index != self.index:
            return False
        if other_id and self.id:
            return bool(other_id == self.id)
        return isinstance(index, int) or not _named(given)

    def take(self, given: JSON) -> Iterator[Delta]:
        self.id = self.id or given.get("id")
        function = given.get("function")
        if not isinstance(function, dict):
            self._others |= {key: value for key, value in given.items() if value is not None}
            return
        self._others |= {
            key: value for key, value in given.items() if value is not None and key not in ("id", "function")
        }
        name, arguments = function.get("name"), function.get("arguments")
        first = ""
        if isinstance(name, str) and name and name != self._name:  # some say it again with each piece
            self._name += name
            first = self._name
        if arguments is not None:
            self._arguments.append(arguments)
        text = arguments if isinstance(arguments, str) else ""
        if first or text:
            yield Delta("tool", text, first)

    def whole(self) -> JSON:
        made = {key: value for key, value in self._others.items() if key != "index"}
        if self.id:
            made["id"] = self.id
        if self._name or self._arguments:
            made["function"] = {"name": self._name or None, "arguments": _joined(self._arguments)}
        return made


def _named(given: JSON) -> bool:
    function = given.get("function")
    return isinstance(function, dict) and bool(function.get("name"))


def _update(known: JSON, given: JSON, keys: Sequence[str]) -> None:
    for key in keys:
        if (value := given.get(key)) is not None:
            known[key] = value


def _keep(pieces: _Pieces, key: str, value: Any) -> None:
    if key in pieces:
        pieces[key].append(value)
    else:
        pieces[key] = [value]


def _joined(pieces: Sequence[Any]) -> Any:
    """Return what pieces are together: texts and lists one after the other, and of anything else the last."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if all(isinstance(piece, (str, list)) for piece in pieces):
        parts = ([{"type": "text", "text": piece}] if isinstance(piece, str) else piece for piece in pieces)
        return [part for some in parts for part in some]
    if all(isinstance(piece, dict) for piece in pieces):
        keys = dict.fromkeys(key for piece in pieces for key in piece)
        return {key: _joined([piece[key] for piece in pieces if piece.get(key) is not None]) for key in keys}
    return pieces[-1]


def _whole_blocks(blocks: Sequence[Any]) -> Iterator[JSON]:
    """Join blocks of thinking that are pieces of one, which its signature ends."""
    open_block: JSON | None = None
    for block in blocks:
        if not isinstance(block, dict) or block.get("type") != "thinking":
            if open_block is not None:
                yield open_block
            open_block = None
            if isinstance(block, dict):
                yield block
            continue
        if open_block is None:
            open_block = dict(block)
        else:
            for key in ("thinking", "signature"):
                open_block[key] = f"{open_block.get(key) or ''}{block.get(key) or ''}"
        if open_block.get("signature"):
            yield open_block
            open_block = None
    if open_block is not None:
        yield open_block


class AnthropicMessage(Assembly):
    """An answer in Anthropic's protocol."""

    def __init__(self) -> None:
        super().__init__()
        self._message: JSON = {}
        self._usage: JSON = {}
        self._blocks: dict[int, JSON] = {}
        self._pieces: dict[int, _Pieces] = {}

    def take(self, event: JSON) -> Iterator[Delta]:
        """Take in an event."""
        kind, number = event.get("type"), event.get("index")
        if kind == "error":
            self.failure, self.ended = event.get("error") or {}, True
        elif kind == "message_stop":
            self.ended = True
        elif kind in ("message_start", "message_delta"):
            self._take_message(event)
        elif kind == "content_block_start" and isinstance(number, int) and isinstance(event.get("content_block"), dict):
            block = self._blocks[number] = event["content_block"]
            if block.get("type") == "tool_use":
                yield Delta("tool", "", str(block.get("name")))
        elif kind == "content_block_delta" and number in self._blocks and isinstance(event.get("delta"), dict):
            yield from self._take_delta(number, event["delta"])

    def _take_message(self, event: JSON) -> None:
        given = event.get("message") if event["type"] == "message_start" else event.get("delta")
        message = given if isinstance(given, dict) else {}
        for usage in (message.get("usage"), event.get("usage")):
            if isinstance(usage, dict):
                self._usage |= {key: value for key, value in usage.items() if value is not None}
                self.told_usage = True
        self._message |= {key: value for key, value in message.items() if value is not None}
        self.finished = bool(self._message.get("stop_reason"))

    def _take_delta(self, number: int, delta: JSON) -> Iterator[Delta]:
        key = _HOLDS.get(str(delta.get("type")), "")
        value = delta.get(key)
        if value is None:
            return
        _keep(self._pieces.setdefault(number, {}), key, value)
        if isinstance(value, str) and value and key in _HEARD:
            yield Delta(_HEARD[key], value)

    def whole(self) -> tuple[int, JSON]:
        """Return it as one message, or as the failure that it became."""
        if self.failure is not None:
            kind = self.failure.get("type") if isinstance(self.failure, dict) else None
            return _STATUS.get(str(kind), 500), {"type": "error", "error": self.failure}
        if not self._message and not self._blocks:
            return 200, {}
        content = [_whole_block(block, self._pieces.get(number, {})) for number, block in sorted(self._blocks.items())]
        stated = {"type": "message", "role": "assistant", "stop_reason": "end_turn"}
        return 200, {**stated, **self._message, "content": content, "usage": self._usage}


_HOLDS = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "citations_delta": "citation",
}
"""In what each kind of a delta has what it adds."""

_HEARD: Any = {"text": "text", "thinking": "reasoning", "partial_json": "tool"}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_SHOWN = 2_000


def _whole_block(block: JSON, pieces: _Pieces) -> JSON:
    made = dict(block)
    for key in ("text", "thinking", "signature"):
        if key in pieces:
            made[key] = _joined([made.get(key) or "", *pieces[key]])
    if "citation" in pieces:
        made["citations"] = [*(made.get("citations") or ()), *pieces["citation"]]
    written = str(_joined(pieces.get("partial_json", [""])))
    if written.strip():
        try:
            made["input"] = json.loads(written)
        except (ValueError, RecursionError):  # cut off at the limit of tokens; the model is told that it does not fit
            made["input"] = {"not_valid": written[:_SHOWN]}
    return made
