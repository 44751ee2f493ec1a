"""A model provider on loopback, with faults on demand.

A test says which replies come, and looks at what was asked:

    with Provider() as provider:
        provider.enqueue(Fault(429, retry_after=1), Text("hello"))
        await litellm.acompletion(model="openai/any", api_base=provider.url, api_key="any", messages=[...])
        assert provider.requests[0].last_user == "hi"
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from testing.loopback import JSON, Exchange, Fault, Loopback, Reply, Request, Slow, Streamed, Text, ToolCall, Tools
from testing.prompt_cache import PromptCache
from testing.quota import Quota

__all__ = ["JSON", "Fault", "Reply", "Request", "Slow", "Streamed", "Text", "ToolCall", "Tools"]  # and what follows

Feature: TypeAlias = Literal[
    "json_schema", "json_object", "response_format", "tools", "tool_choice", "stream", "stream_options"
]


@dataclass(frozen=True)
class Cut:
    """A connection that closes in the middle of the answer."""

    def send(self, to: Exchange) -> None:
        to.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
        to.close_connection = True


@dataclass(frozen=True)
class HangUp:
    """A connection that ends before anything is answered, and rudely if so wished."""

    rudely: bool = False

    def send(self, to: Exchange) -> None:
        to.close_connection = True
        if self.rudely:
            to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            to.connection.close()


@dataclass(frozen=True)
class Garbage:
    """A 200 with this body, whatever it is."""

    body: str = "{not json"

    def send(self, to: Exchange) -> None:
        to.send(200, self.body)


@dataclass(frozen=True)
class Raw:
    """These bytes as the body, with these headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False

    def send(self, to: Exchange) -> None:
        to.send_response(self.status)
        for name, value in {"Content-Type": "application/json", **self.headers}.items():
            to.send_header(name, value)
        if self.chunked:
            to.send_header("Transfer-Encoding", "chunked")
        else:
            to.send_header("Content-Length", str(len(self.body)))
        to.end_headers()
        with suppress(OSError):  # a client need not read it all
            if not self.chunked:
                to.wfile.write(self.body)
                return
            for start in range(0, len(self.body), 10_000):
                part = self.body[start : start + 10_000]
                to.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            to.wfile.write(b"0\r\n\r\n")


@dataclass(frozen=True)
class Drip:
    """A 200 that comes one byte at a time, also its headers if need be, with this many seconds between two."""

    body: str
    seconds: float
    in_headers: bool = False

    def send(self, to: Exchange) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        drops = "X-Slow: " + "x" * 10_000 if self.in_headers else self.body
        to.close_connection = True
        with suppress(OSError):  # the client hangs up
            to.wfile.write(f"{head}{'' if self.in_headers else chr(13) + chr(10)}".encode())
            for drop in drops:
                to.wfile.write(drop.encode())
                if to.stopping:
                    return
                time.sleep(self.seconds)


INVALID_KEY = Fault(401, "Incorrect API key provided: sk-no.", "invalid_api_key")
UNKNOWN_MODEL = Fault(404, "The model `nobody` does not exist.", "model_not_found")
NO_QUOTA = Fault(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
CONTENT_POLICY = Fault(400, "Your request was rejected by our safety system.", "content_policy_violation")
CONTEXT_LENGTH = Fault(400, "This model's maximum context length is 128000 tokens.", "context_length_exceeded")


class Provider(Loopback):
    """Serve chat completions on a free loopback port for as long as the context lasts.

    Refused features come first. Then a request that has replies of its own (`on`) gets the next of
    them; any other gets the next in the queue (`enqueue`), then the responder's. When nothing is left,
    the answer is a 400 that says so.
    """

    def __init__(
        self,
        responder: Callable[[Request], Reply] | None = None,
        *,
        anywhere: bool = False,
        cache: PromptCache | None = None,
        quota: Quota | None = None,
    ) -> None:
        super().__init__(anywhere=anywhere, cache=cache, quota=quota)
        self._responder = responder
        self._queue: deque[Reply] = deque()
        self._own: list[tuple[str, deque[Reply]]] = []
        self._refused: dict[Feature, int] = {}
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counter[str]:
        """Count by digest how often the same messages were sent."""
        return Counter(request.digest for request in list(self.requests))

    def enqueue(self, *replies: Reply) -> None:
        """Add the next replies: first come, first served."""
        with self._lock:
            self._queue.extend(replies)

    def on(self, text: str, *replies: Reply) -> None:
        """Keep replies for the requests whose last user message contains this text, each for one."""
        with self._lock:
            self._own.append((text, deque(replies)))

    def refuse(self, feature: Feature, status: int = 400) -> None:
        """Refuse requests that use this feature, as small model servers do."""
        with self._lock:
            self._refused[feature] = status

    def reply(self, request: Request) -> Reply:
        with self._lock:
            for feature, status in self._refused.items():
                if _uses(request, feature):
                    return Fault(status, f"{feature} is not supported by this server")
            own = [replies for text, replies in self._own if text in request.last_user]
            for replies in own or [self._queue]:
                if replies:
                    return replies.popleft()
        if own or self._responder is None:
            return Fault(400, f"no reply left for {request.last_user[:200]!r}", "no_reply_left")
        return self._responder(request)


def _uses(request: Request, feature: Feature) -> bool:
    return bool(request.body.get(feature)) or request.response_format.get("type") == feature
