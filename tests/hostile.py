"""A provider that says whatever a provider must not say: every way that is known, as scripted replies over real HTTP.

Each scene is what the provider replies to one call, one reply after the other, and how the call is to end:

    SCENES["a lone surrogate in the text"].replies, .ends, .requests
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import zlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.provider import Drip, Fault, Garbage, Provider, Raw, Reply, Request, Text

MEGABYTE = 1_000_000
GOOD = Text('{"verdict": "PASS"}')


def completion(message: Any, finish_reason: Any = "stop", choice: dict[str, Any] | None = None, **more: Any) -> Garbage:
    """Return an answer that is made by hand."""
    choices = [{"index": 0, "finish_reason": finish_reason, "message": message, **(choice or {})}]
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    whole = {"id": "x", "object": "chat.completion", "model": "any", "choices": choices, "usage": usage, **more}
    return Garbage(json.dumps(whole))


def says(content: Any, **more: Any) -> Garbage:
    """Return a message with this content."""
    return completion({"role": "assistant", "content": content}, **more)


def calls(*tool_calls: Any, **message: Any) -> Garbage:
    """Return a message with these tool calls, whatever they are."""
    return completion({"role": "assistant", "content": None, "tool_calls": list(tool_calls), **message}, "tool_calls")


def call(function: Any = None, **more: Any) -> dict[str, Any]:
    """Return a tool call made by hand."""
    return {"id": "1", "type": "function", "function": function, **more}


def noise(size: int) -> str:
    """Return text that hardly compresses."""
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()


def packed(body: str, encoding: str = "gzip") -> Raw:
    """Return a 200 whose body is compressed."""
    data = gzip.compress(body.encode()) if encoding == "gzip" else zlib.compress(body.encode())
    return Raw(200, data, {"Content-Encoding": encoding})


def bomb(size: int, status: int = 200) -> Raw:
    """Return a small body that unpacks to a large one."""
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * MEGABYTE
    data = b"".join(packer.compress(block) for _ in range(size // MEGABYTE)) + packer.flush()
    return Raw(status, data, {"Content-Encoding": "gzip"})


ANSWER = json.loads(completion({"role": "assistant", "content": GOOD.content}).body)
PASS = '{"verdict": "PASS"}'


@dataclass(frozen=True)
class Scene:
    """What a provider replies to a call.

    Attributes:
        replies: One after the other.
        ends: `PASS`, or how the failure begins that the call ends with.
        requests: How many requests the call makes.
    """

    replies: Sequence[Reply]
    ends: str = "PASS"
    requests: int | None = None

    @property
    def asked(self) -> int:
        """How often the provider is asked."""
        return len(self.replies) if self.requests is None else self.requests


def _taken(*replies: Reply) -> Scene:
    """Return a scene in which the first reply is the answer."""
    return Scene(replies)


def _told(reply: Reply) -> Scene:
    """Return a scene in which the model is told what is wrong, and answers then."""
    return Scene((reply, GOOD))


_retried = _told


def _usage(**usage: Any) -> Scene:
    return _taken(says(PASS, usage=usage))


SCENES: dict[str, Scene] = {
    # Texts
    "a lone surrogate in the text": _taken(says('{"verdict": "PASS", "why": "a\ud800b"}')),
    "a lone surrogate as an escape in the JSON": _taken(says(r'{"verdict": "PASS", "why": "a\ud800b"}')),
    "a lone surrogate in a tool's name": _told(calls(call({"name": "lo\udc00ok", "arguments": "{}"}))),
    "a lone surrogate in a tool's arguments": _told(calls(call({"name": "look", "arguments": '{"what": "\ud800"}'}))),
    "a lone surrogate as an escape in arguments": _told(
        calls(call({"name": "look", "arguments": r'{"what":"\ud800"}'}))
    ),
    "a lone surrogate in the id of a call": _told(calls(call({"name": "look", "arguments": "{}"}, id="\udfff"))),
    "a lone surrogate in reasoning": _taken(
        completion({"role": "assistant", "content": PASS, "reasoning_content": "\ud800"})
    ),
    "a NUL in the text": _taken(says(f"{PASS}\0")),
    "a lone surrogate in an error": _retried(Fault(500, "a\ud800b", retry_after=0)),
    "a NUL and an escape code in an error": _retried(Fault(503, "a\0b\x1b[2J", retry_after=0)),
    "a lone surrogate in a refusal": Scene(
        (completion({"role": "assistant", "content": None, "refusal": "no\ud800"}),), "ModelRefused: openai/any refused"
    ),
    "text that is no UTF-8": _retried(Raw(200, b'{"choices": [{"message": {"content": "\xff\xfe"}}]}')),
    # Tool calls
    "empty arguments": _told(calls(call({"name": "look", "arguments": ""}))),
    "cut arguments": _told(calls(call({"name": "look", "arguments": '{"what": "a'}))),
    "arguments that are a list": _told(calls(call({"name": "look", "arguments": "[1]"}))),
    "arguments that are null": _told(calls(call({"name": "look", "arguments": "null"}))),
    "arguments that are words": _told(calls(call({"name": "look", "arguments": "what=a"}))),
    "arguments that are no text": _told(calls(call({"name": "look", "arguments": {"what": "a"}}))),
    "arguments that are a number": _told(calls(call({"name": "look", "arguments": 7}))),
    "arguments nested deeply": _told(calls(call({"name": "look", "arguments": '{"what":' * 20_000}))),
    "no arguments": _told(calls(call({"name": "look"}))),
    "no name": _told(calls(call({"arguments": "{}"}))),
    "a name that is null": _told(calls(call({"name": None, "arguments": "{}"}))),
    "a name that is a number": _told(calls(call({"name": 5, "arguments": "{}"}))),
    "a name that is long": _told(calls(call({"name": "look" * 10_000, "arguments": "{}"}))),
    "a tool that is not there": _told(calls(call({"name": "functions.look", "arguments": "{}"}))),
    "no function": _told(calls(call())),
    "a function that is a text": _told(calls(call("look"))),
    "a call of type custom": _told(calls({"id": "1", "type": "custom", "custom": {"name": "look", "input": "a"}})),
    "a call of no type": _told(calls({"id": "1", "function": {"name": "look", "arguments": "{}"}})),
    "an id that is a number": _told(calls(call({"name": "look", "arguments": "{}"}, id=1))),
    "calls that are no list": _told(calls(tool_calls=call({"name": "look", "arguments": "{}"}))),
    "calls that are null": _told(calls(None)),
    "calls that are texts": _told(calls("look")),
    "a call in the old form": _told(calls(function_call={"name": "look", "arguments": "{}"})),
    "more calls than anybody makes": _told(calls(*[call({"name": "look", "arguments": "{}"})] * 5_000)),
    # Messages
    "the role of a user": _taken(completion({"role": "user", "content": PASS})),
    "a role that is a number": _taken(completion({"role": 5, "content": PASS})),
    "no role": _taken(completion({"content": PASS})),
    "content in parts": _taken(says([{"type": "text", "text": '{"verdict":'}, {"type": "text", "text": '"PASS"}'}])),
    "content as a part": _taken(says({"type": "text", "text": PASS})),
    "content with thoughts": _taken(says([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": PASS}])),
    "content that is a number": _told(says(5)),
    "content that is null": _told(says(None)),
    "a message that is a text": _taken(completion(PASS)),
    "a message that is null": _retried(completion(None)),
    "a message that is not there": _retried(Garbage(json.dumps({**ANSWER, "choices": [{"index": 0}]}))),
    "a choice that is null": _retried(Garbage(json.dumps({**ANSWER, "choices": [None]}))),
    "choices that are no list": _taken(Garbage(json.dumps({**ANSWER, "choices": ANSWER["choices"][0]}))),
    "no choices": _retried(Garbage(json.dumps({**ANSWER, "choices": []}))),
    "a reason that is a number": _taken(says(PASS, finish_reason=5)),
    "pictures that are a number": _taken(completion({"role": "assistant", "content": PASS, "images": 5, "audio": "x"})),
    "a model and a time of other types": _taken(says(PASS, model=5, created="now", id=None)),
    "a list": _retried(Garbage("[1]")),
    "nothing": _retried(Garbage("")),
    "a page": _retried(Garbage("<html>Bad gateway</html>")),
    "JSON nested deeply": _retried(Garbage('{"choices":' + "[" * 100_000)),
    # Answers
    "a fence in capitals": _taken(says(f"```JSON\n{PASS}\n```")),
    "a fence on one line": _taken(says(f"```json {PASS}```")),
    "a fence without a label": _taken(says(f"Here:\n```\n{PASS}\n```\nDone.")),
    "a fence that is not closed": _taken(says(f"```json\n{PASS}")),
    "words around": _taken(says(f"It is {PASS}, I think.")),
    "thoughts before": _taken(says(f"<think>{{hm}}</think>\n{PASS}")),
    "many fences": _told(says("```" * 100_000)),
    "many empty lines in a fence": _told(says("```" + "\n" * 500_000)),
    "a validator that raises": _told(says('{"verdict": "BREAK"}')),
    "a validator that stops": _told(says('{"verdict": "STOP"}')),
    "a validator that exits": _told(says('{"verdict": "EXIT"}')),
    # Failures that look like successes
    "a choice that is an error": _retried(
        completion({"role": "assistant", "content": ""}, "error", {"error": {"message": "upstream", "code": 502}})
    ),
    "a choice that ends with an error": _retried(says("{", finish_reason="error")),
    "a choice with an error of 400": _retried(says("", choice={"error": {"message": "upstream", "code": 400}})),
    "a success that is an error": _retried(Garbage('{"error": {"message": "upstream", "code": 502}}')),
    "a success that is an error in a word": _retried(Garbage('{"error": "upstream"}')),
    # Usage
    "no usage": _taken(says(PASS, usage=None)),
    "usage without numbers": _usage(),
    "usage that is negative": _usage(prompt_tokens=-500, completion_tokens=-300, total_tokens=-800),
    "usage that is endless": _usage(prompt_tokens=10**30, completion_tokens=10**30, total_tokens=10**30),
    "usage in words": _usage(prompt_tokens="many", completion_tokens="few", total_tokens="x"),
    "usage that is no number": _usage(prompt_tokens=float("nan"), completion_tokens=float("inf"), total_tokens=1),
    "usage in text": _usage(prompt_tokens="10", completion_tokens="5", total_tokens="15"),
    "usage that is a list": _taken(says(PASS, usage=[1])),
    "usage with odd details": _usage(prompt_tokens=10, completion_tokens=5, prompt_tokens_details="x", cost="free"),
    "a cost that is negative": _usage(prompt_tokens=10, completion_tokens=5, cost=-1e30),
    # Time and size
    "one byte at a time": _retried(Drip(json.dumps(ANSWER), 0.5)),
    "headers one byte at a time": _retried(Drip("", 0.5, in_headers=True)),
    "much text that does not compress": Scene((says(noise(8 * MEGABYTE)),), "ModelRefused: openai/any's answer is not"),
    "much text in chunks": Scene(
        (Raw(200, b" " * 8 * MEGABYTE, chunked=True),), "ModelRefused: openai/any's answer is"
    ),
    "a bomb": Scene((bomb(200 * MEGABYTE),), "ModelRefused: openai/any's answer is not read"),
    "a bomb as an error": _retried(bomb(200 * MEGABYTE, 500)),
    "an error of five megabytes": _retried(Raw(500, b"x" * 5 * MEGABYTE)),
    "an error of five megabytes in JSON": _retried(Fault(500, "x " * 2 * MEGABYTE, retry_after=0)),
    "an error full of braces": _retried(Raw(500, b'{"error":' * 500_000)),
    "an error of half a character": _retried(Raw(500, b"\xff" * MEGABYTE)),
    "a compressed answer": _taken(packed(json.dumps(ANSWER))),
    "a deflated answer": _taken(packed(json.dumps(ANSWER), "deflate")),
    "an encoding that was not asked for": _retried(Raw(200, b"x", {"Content-Encoding": "br"})),
    "a broken compression": _retried(Raw(200, b"x" * 100, {"Content-Encoding": "gzip"})),
    "a page of two megabytes": _retried(Garbage("<html>" + "a " * (MEGABYTE - 10))),
    "a model with a long name": _taken(says(PASS, model="x" * MEGABYTE)),
    "a failure of a megabyte": _retried(Garbage(json.dumps({"error": {"message": "{" * 100_000 + "x" * MEGABYTE}}))),
    "much beside no message": _retried(completion(None, much="x" * MEGABYTE)),
    "many keys": _taken(
        completion({"role": "assistant", "content": PASS} | dict.fromkeys(map(str, range(100_000)), 1))
    ),
    "many numbers of tokens": _usage(**dict.fromkeys(map(str, range(100_000)), 1)),
    "many small lists": Scene((says(PASS, much=[[]] * 400_000),), "ModelRefused: openai/any's answer is not read"),
    "a reason of a megabyte": _taken(says(PASS, finish_reason="x" * MEGABYTE)),
    "many choices": _taken(Garbage(json.dumps({**ANSWER, "choices": ANSWER["choices"] * 5_000}))),
    "an answer of a megabyte": _taken(says(json.dumps({"verdict": "PASS", "why": noise(MEGABYTE)}))),
}

WAYS_REFUSED: dict[str, Reply] = {
    "500 that names the format": Fault(500, "response_format of type json_schema is not supported"),
    "500 that names the schema": Fault(500, "This model doesn't do JSON schema."),
    "501": Fault(501, "json_schema: not implemented"),
    "503": Fault(503, "Unsupported: structured outputs"),
    "404": Fault(404, "unknown field response_format"),
    "405": Fault(405, "guided decoding is disabled"),
    "500 of a validator": Raw(
        500,
        b"""{"error": {"message": "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), """
        b"""'msg': \\"Input should be 'text' or 'json_object'\\"}]", "code": null}}""",
    ),
    "a success that is an error": Garbage('{"error": {"message": "response_format is not supported", "code": 500}}'),
}
"""How servers say that they do not know a response format, beside 400 and 422."""


class HostileProvider(Provider):
    """Plays the scenes: which one, the first message of a request says."""

    def __init__(self, scenes: Mapping[str, Scene] = SCENES) -> None:
        super().__init__()
        self._left = {name: deque(scene.replies) for name, scene in scenes.items()}
        self.asked: Counter[str] = Counter()

    def reply(self, request: Request) -> Reply:
        """Return what comes next in its scene, and at its end the last again."""
        first = next(str(message["content"]) for message in request.messages if message["role"] == "user")
        name = first.partition("scene: ")[2]
        self.asked[name] += 1
        _check_history(request)
        left = self._left[name]
        return left.popleft() if len(left) > 1 else left[0]


def _check_history(request: Request) -> None:
    """Refuse what servers refuse that read the history they get: tool calls must have names and objects."""
    for message in request.messages:
        json.dumps(message).encode()
        for made in message.get("tool_calls") or ():
            assert re.fullmatch(r"[\w-]{1,64}", made["function"]["name"]), made
            assert isinstance(json.loads(made["function"]["arguments"]), dict), made
