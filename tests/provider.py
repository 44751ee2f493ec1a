"""A model provider on loopback: it speaks OpenAI's chat-completions protocol, with faults on demand.

A test says which replies come, and looks at what was asked:

    with Provider() as provider:
        provider.enqueue(Fault(429, retry_after=1), Text("hello"))
        await litellm.acompletion(model="openai/any", api_base=provider.url, api_key="any", messages=[...])
        assert provider.requests[0].last_user == "hi"
"""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, TypeAlias

JSON: TypeAlias = dict[str, Any]
Feature: TypeAlias = Literal["json_schema", "json_object", "response_format", "tools", "tool_choice"]


@dataclass(frozen=True)
class Text:
    """An answer in words, or in JSON when the request asked for it."""

    content: str | None
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int = 5


@dataclass(frozen=True)
class ToolCall:
    """One use of a tool. Arguments given as text are sent as they are, for malformed JSON."""

    name: str
    arguments: Mapping[str, Any] | str
    id: str | None = None


@dataclass(frozen=True)
class Tools:
    """An answer that calls tools, all of them at once."""

    calls: tuple[ToolCall, ...]
    content: str | None = None
    finish_reason: str = "tool_calls"
    prompt_tokens: int = 10
    completion_tokens: int = 5


@dataclass(frozen=True)
class Fault:
    """A refusal in OpenAI's form; `retry_after` is sent as it is: seconds, or an HTTP date."""

    status: int
    message: str = "The provider failed on demand."
    code: str | None = None
    type: str | None = None
    retry_after: float | str | None = None


@dataclass(frozen=True)
class Cut:
    """A connection that closes in the middle of the answer."""


@dataclass(frozen=True)
class Garbage:
    """A 200 with this body, whatever it is."""

    body: str = "{not json"


@dataclass(frozen=True)
class Raw:
    """These bytes as the body, with these headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False


@dataclass(frozen=True)
class Drip:
    """A 200 that comes one byte at a time, also its headers if need be, with this many seconds between two."""

    body: str
    seconds: float
    in_headers: bool = False


@dataclass(frozen=True)
class Slow:
    """A reply that comes late."""

    seconds: float
    then: Reply


Reply: TypeAlias = Text | Tools | Fault | Cut | Garbage | Raw | Drip | Slow

INVALID_KEY = Fault(401, "Incorrect API key provided: sk-no.", "invalid_api_key")
UNKNOWN_MODEL = Fault(404, "The model `nobody` does not exist.", "model_not_found")
NO_QUOTA = Fault(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
CONTENT_POLICY = Fault(400, "Your request was rejected by our safety system.", "content_policy_violation")
CONTEXT_LENGTH = Fault(400, "This model's maximum context length is 128000 tokens.", "context_length_exceeded")


@dataclass(frozen=True)
class Request:
    """A chat-completions request as it arrived; names of headers in lower case."""

    body: JSON
    headers: Mapping[str, str]
    at: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> str:
        return str(self.body.get("model"))

    @property
    def messages(self) -> list[JSON]:
        return list(self.body["messages"])

    @property
    def tools(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def response_format(self) -> JSON:
        return dict(self.body.get("response_format") or {})

    @property
    def last_user(self) -> str:
        """Return what the user said last."""
        said = [message["content"] for message in self.messages if message["role"] == "user"]
        return str(said[-1]) if said else ""

    @property
    def digest(self) -> str:
        """Identify the messages: equal messages have equal digests."""
        return hashlib.sha256(json.dumps(self.messages, sort_keys=True).encode()).hexdigest()

    def uses(self, feature: Feature) -> bool:
        return bool(self.body.get(feature)) or self.response_format.get("type") == feature


class Provider:
    """Serve chat completions on a free loopback port for as long as the context lasts.

    Refused features come first. Then a request that has replies of its own (`on`) gets the next of
    them; any other gets the next in the queue (`enqueue`), then the responder's. When nothing is left,
    the answer is a 400 that says so.

    Attributes:
        requests: Every request for a completion, recorded before its reply is chosen.
        abandoned: Those whose client hung up while a `Slow` reply was due.
    """

    def __init__(self, responder: Callable[[Request], Reply] | None = None, *, anywhere: bool = False) -> None:
        self.requests: list[Request] = []
        self.anywhere = anywhere
        self.abandoned: list[Request] = []
        self._responder = responder
        self._queue: deque[Reply] = deque()
        self._own: list[tuple[str, deque[Reply]]] = []
        self._refused: dict[Feature, int] = {}
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

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
        """Record a request and choose its reply."""
        with self._lock:
            self.requests.append(request)
            for feature, status in self._refused.items():
                if request.uses(feature):
                    return Fault(status, f"{feature} is not supported by this server")
            own = [replies for text, replies in self._own if text in request.last_user]
            for replies in own or [self._queue]:
                if replies:
                    return replies.popleft()
        if own or self._responder is None:
            return Fault(400, f"no reply left for {request.last_user[:200]!r}", "no_reply_left")
        return self._responder(request)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # with the default of 5, a burst of connections waits seconds to be let in

    def __init__(self, provider: Provider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider
        self.stopping = False
        self.connections: set[socket.socket] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about clients that hang up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Stop, and end the connections that clients keep alive or wait on."""
        self.stopping = True
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written apart, and the second would wait for an answer
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the requests are on record."""

    def do_GET(self) -> None:
        self._send(200, {"object": "list", "data": [{"id": "any", "object": "model", "owned_by": "tests"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions" and not self.server.provider.anywhere:
            self._reply(Fault(404, f"no such path: {self.path}"))
            return
        request = Request(body, {name.lower(): value for name, value in self.headers.items()})
        try:
            reply = self.server.provider.reply(request)
        except Exception as error:
            reply = Fault(400, f"the test's provider: {type(error).__name__}: {error}")
        while isinstance(reply, Slow):
            if self._ends_within(reply.seconds):
                if not self.server.stopping:
                    self.server.provider.abandoned.append(request)
                return
            reply = reply.then
        self._reply(reply, request.model)

    def _ends_within(self, seconds: float) -> bool:
        """Wait, and tell whether the connection ended meanwhile."""
        self.connection.settimeout(seconds)
        try:
            # A waiting client sends nothing: whatever there is to read is the end.
            self.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            self.connection.settimeout(None)
            return False
        except ConnectionError:
            pass
        self.close_connection = True
        return True

    def _reply(self, reply: Text | Tools | Fault | Cut | Garbage | Raw | Drip, model: str = "any") -> None:
        match reply:
            case Text() | Tools():
                self._send(200, _completion(reply, model))
            case Fault():
                kind = reply.type or _KINDS.get(reply.status, "server_error")
                error = {"message": reply.message, "type": kind, "param": None, "code": reply.code}
                self._send(reply.status, {"error": error}, reply.retry_after)
            case Garbage():
                self._send(200, reply.body)
            case Raw():
                self._send_raw(reply)
            case Drip():
                self._drip(reply)
            case Cut():
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")
                self.close_connection = True

    def _send_raw(self, reply: Raw) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        if reply.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        with suppress(OSError):  # a client need not read it all
            if not reply.chunked:
                self.wfile.write(reply.body)
                return
            for start in range(0, len(reply.body), 10_000):
                part = reply.body[start : start + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

    def _drip(self, reply: Drip) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(reply.body)}\r\n"
        drops = "X-Slow: " + "x" * 10_000 if reply.in_headers else reply.body
        self.close_connection = True
        with suppress(OSError):  # the client hangs up
            self.wfile.write(f"{head}{'' if reply.in_headers else chr(13) + chr(10)}".encode())
            for drop in drops:
                self.wfile.write(drop.encode())
                if self.server.stopping:
                    return
                time.sleep(reply.seconds)

    def _send(self, status: int, body: JSON | str, retry_after: float | str | None = None) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(data)


_KINDS = {
    **dict.fromkeys((400, 401, 404, 422), "invalid_request_error"),
    403: "request_forbidden",
    429: "requests",
}
_ids = itertools.count(1)


def _completion(reply: Text | Tools, model: str) -> JSON:
    message: JSON = {"role": "assistant", "content": reply.content}
    if isinstance(reply, Tools):
        message["tool_calls"] = [_tool_call(call) for call in reply.calls]
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }


def _tool_call(call: ToolCall) -> JSON:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id or f"call_{next(_ids)}", "type": "function", "function": function}
