"""A model provider on loopback: it speaks OpenAI's chat-completions protocol, and Anthropic's, over real HTTP.

What it says is up to who inherits from it. A reply writes itself, so that there may be any, impossible ones included.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Protocol, Self, TypeAlias

from testing import messages, streams
from testing.prompt_cache import CacheUse, PromptCache
from testing.quota import Quota

JSON: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request for an answer; names of headers in lower case.

    Attributes:
        body: What was asked, as a chat-completions request.
        headers: Those that came with it.
        at: When it came, by the monotonic clock.
        sent: The body as it arrived, where that is in another protocol.
    """

    body: JSON
    headers: Mapping[str, str]
    at: float = field(default_factory=time.monotonic)
    sent: JSON | None = None

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.body.get("model"))

    @property
    def messages(self) -> list[JSON]:
        """The conversation so far."""
        return list(self.body["messages"])

    @property
    def tools(self) -> list[str]:
        """The names of the tools that may be called."""
        return [tool["function"]["name"] for tool in self.body.get("tools", [])]

    @property
    def response_format(self) -> JSON:
        """The form that the answer shall have; empty if none is asked for."""
        return dict(self.body.get("response_format") or {})

    @property
    def last_user(self) -> str:
        """What the user said last."""
        said = [message["content"] for message in self.messages if message["role"] == "user"]
        return str(said[-1]) if said else ""

    @property
    def digest(self) -> str:
        """What identifies the messages: equal messages have equal digests."""
        return hashlib.sha256(json.dumps(self.messages, sort_keys=True).encode()).hexdigest()


class Reply(Protocol):
    """Whatever is said to a request."""

    def send(self, to: Exchange) -> None:
        """Write itself."""


@dataclass(frozen=True)
class Text:
    """An answer in words, or in JSON when the request asked for it."""

    content: str | None
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int = 5

    def send(self, to: Exchange) -> None:
        """Write itself."""
        to.say(self)


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

    def send(self, to: Exchange) -> None:
        """Write itself."""
        to.say(self, self.calls)


@dataclass(frozen=True)
class Fault:
    """A refusal in OpenAI's form; `retry_after` is sent as it is: seconds, or an HTTP date."""

    status: int
    message: str = "The provider failed on demand."
    code: str | None = None
    type: str | None = None
    retry_after: float | str | None = None

    def send(self, to: Exchange) -> None:
        """Write itself."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if to.asked.sent is not None:
            to.send(self.status, messages.failure(self.status, self.message, self.type), headers)
            return
        kind = self.type or _KINDS.get(self.status, "server_error")
        error = {"message": self.message, "type": kind, "param": None, "code": self.code}
        to.send(self.status, {"error": error}, headers)


@dataclass(frozen=True)
class Slow:
    """A reply that comes late."""

    seconds: float
    then: Reply

    def send(self, to: Exchange) -> None:
        """Write itself, unless the client hangs up before."""
        if not to.ends_within(self.seconds):
            self.then.send(to)


@dataclass(frozen=True)
class Streamed:
    """An answer that comes piece by piece, if it was asked for so, and may break off.

    Attributes:
        then: The answer.
        seconds: How long each piece takes.
        pieces: How many come before it breaks off.
        breaks: How it does.
        pings: Seconds between two signs of life, where it falls silent.
    """

    then: Text | Tools
    seconds: float = 0.0
    pieces: int | None = None
    breaks: Literal["silence", "cut", "end", "error", "junk"] = "silence"
    pings: float | None = None

    def send(self, to: Exchange) -> None:
        """Write itself."""
        to.pace = self
        self.then.send(to)


class Loopback:
    """Serve chat completions on a free port of this machine for as long as the context lasts.

    Attributes:
        url: Where, as `OPENAI_BASE_URL` takes it.
        anywhere: Whether completions are served at any path.
        cache: What it has of earlier prompts, if it is to tell the usage of a provider that caches them.
        quota: What it takes in a minute, if it is to refuse more.
        requests: Every request for a completion, recorded before it is replied to.
        abandoned: Those whose client hung up while a `Slow` reply was due.
    """

    def __init__(self, *, anywhere: bool = False, cache: PromptCache | None = None, quota: Quota | None = None) -> None:
        self.cache = cache
        self.quota = quota
        self.requests: list[Request] = []
        self.abandoned: list[Request] = []
        self.anywhere = anywhere
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which models are asked here: `MODEL`, and what `openai/…` and `anthropic/…` need."""
        return {
            "MODEL": "openai/any",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_BASE": self.url,
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_API_BASE": self.url.removesuffix("/v1"),
        }

    def reply(self, request: Request) -> Reply:
        """Choose what is said to a request, in any thread."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 512  # with the default of 5, a burst of connections waits seconds to be let in

    def __init__(self, provider: Loopback) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
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


class Exchange(BaseHTTPRequestHandler):
    """A request, and the connection on which it is replied to."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written apart, and the second would wait for an answer
    server: _Server
    asked: Request
    pace: Streamed | None = None

    @property
    def stopping(self) -> bool:
        """Whether the provider stops."""
        return self.server.stopping

    def setup(self) -> None:
        """Begin with a connection."""
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        """End with it."""
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: the requests are on record."""

    def do_GET(self) -> None:
        """List one model."""
        self.send(200, {"object": "list", "data": [{"id": "any", "object": "model", "owned_by": "tests"}]})

    def do_POST(self) -> None:
        """Reply to a request for a completion."""
        provider, self.pace = self.server.provider, None
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == _MESSAGES:
            self.asked = Request(messages.as_completion_request(body), headers, sent=body)
        else:
            self.asked = Request(body, headers)
        if self.path not in ("/v1/chat/completions", _MESSAGES) and not provider.anywhere:
            Fault(404, f"no such path: {self.path}").send(self)
            return
        provider.requests.append(self.asked)
        if provider.quota is not None and (seconds := provider.quota.refuses()) is not None:
            Fault(429, "Rate limit reached.", "rate_limit_exceeded", retry_after=round(seconds, 3)).send(self)
            return
        try:
            reply = provider.reply(self.asked)
        except Exception as error:
            reply = Fault(400, f"the test's provider: {type(error).__name__}: {error}")
        reply.send(self)

    def say(self, reply: Text | Tools, calls: Sequence[ToolCall] = ()) -> None:
        """Answer, in the protocol in which it was asked."""
        cache, asked = self.server.provider.cache, self.asked
        try:
            use = CacheUse(fresh=reply.prompt_tokens) if cache is None else _use_of(cache, asked)
        except ValueError as error:
            Fault(400, str(error)).send(self)
            return
        if self.server.provider.quota is not None:
            self.server.provider.quota.use(use.tokens + reply.completion_tokens)
        made = [_tool_call(call) for call in calls]
        in_pieces = bool(asked.body.get("stream"))
        if asked.sent is None:
            whole = _completion(reply, made, asked.model, use)
            if in_pieces:
                counted = bool((asked.body.get("stream_options") or {}).get("include_usage"))
                self.stream(streams.of_completion(whole, counted=counted))
            else:
                self.send(200, whole)
            return
        usage = {
            "input_tokens": use.fresh,
            "cache_creation_input_tokens": use.written,
            "cache_read_input_tokens": use.read,
            "output_tokens": reply.completion_tokens,
        }
        message = messages.answer(reply.content, made, reply.finish_reason, asked.model, usage)
        if in_pieces:
            self.stream(streams.of_message(message))
        else:
            self.send(200, message)

    def send(self, status: int, body: JSON | str, headers: Mapping[str, str] | None = None) -> None:
        """Write a whole response."""
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in {**self._limits(), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events: Sequence[str]) -> None:
        """Write an answer in pieces, as its pace says."""
        pace = self.pace or _AT_ONCE
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in self._limits().items():
            self.send_header(name, value)
        self.end_headers()
        comes = list(events) if pace.pieces is None else list(events[: pace.pieces])
        if not pace.seconds:
            comes = ["".join(comes)] if comes else []
        for piece in comes:
            if pace.seconds and self.ends_within(pace.seconds):
                return
            self._write_chunk(piece)
        if pace.pieces is not None:
            self._break_off(pace)
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def _limits(self) -> Mapping[str, str]:
        quota = self.server.provider.quota
        return {} if quota is None else quota.headers()

    def _break_off(self, pace: Streamed) -> None:
        if pace.breaks == "junk":
            self._write_chunk('data: {"choices": [{"del\n\n')
        elif pace.breaks == "error":
            failure = {"type": "overloaded_error", "message": "Overloaded on demand.", "code": 529}
            self._write_chunk(streams.event({"type": "error", "error": failure}, "error"))
        elif pace.breaks == "cut":
            self.close_connection = True
        elif pace.breaks == "silence":
            while not self.ends_within(pace.pings or _FOR_EVER_S) and pace.pings:
                self._write_chunk(": still here\n\n")

    def _write_chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def ends_within(self, seconds: float) -> bool:
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
        if not self.stopping:
            self.server.provider.abandoned.append(self.asked)
        return True


_KINDS = {
    **dict.fromkeys((400, 401, 404, 422), "invalid_request_error"),
    403: "request_forbidden",
    429: "requests",
}
_ids = itertools.count(1)
_AT_ONCE = Streamed(Text(""))
_FOR_EVER_S = 600.0
_MESSAGES = "/v1/messages"


def _use_of(cache: PromptCache, asked: Request) -> CacheUse:
    return cache.by_itself(asked.body) if asked.sent is None else cache.by_marks(asked.sent)


def _completion(reply: Text | Tools, calls: Sequence[JSON], model: str, use: CacheUse) -> JSON:
    message: JSON = {"role": "assistant", "content": reply.content}
    if calls:
        message["tool_calls"] = list(calls)
    return {
        "id": f"chatcmpl-{next(_ids)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "service_tier": "default",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": {
            "prompt_tokens": use.tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": use.tokens + reply.completion_tokens,
            **({"prompt_tokens_details": {"cached_tokens": use.read}} if use.read else {}),
        },
    }


def _tool_call(call: ToolCall) -> JSON:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id or f"call_{next(_ids)}", "type": "function", "function": function}
