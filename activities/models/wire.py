"""What comes over the wire from providers, before litellm reads it: bounded in size, and regular in form.

litellm reads a body to its end however long it is, unpacks it however large it becomes, searches an error's for half
a minute, and fails on an answer of which the part that matters is well.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.contract.text import clip
from activities.errors import SettingInvalid
from activities.models.bounds import (
    LARGEST_ERROR,
    LARGEST_RESPONSE,
    MOST_BRACKETS,
    SHORT_ERROR,
    NoKey,
    TooMuch,
    Unreadable,
    too_much,
)
from activities.models.completion import failure_in, regular
from activities.models.events import json_in
from activities.models.hearing import Hearing
from activities.models.rates import HEADERS
from activities.models.streaming import Asking, is_stream, stalled
from activities.models.unpacking import Unpacking

if TYPE_CHECKING:
    import httpx

_COMPLETIONS = "/chat/completions"
_FORMS = {
    _COMPLETIONS: ("choices", "error"),
    "/messages": ("content", "error"),
    ":generateContent": ("candidates", "promptFeedback", "error"),
    "/converse": ("output",),
}
"""Ends of the addresses at which answers are given, and of what an answer has something."""


Send = Callable[["httpx.Request"], Awaitable["httpx.Response"]]


@dataclass(frozen=True)
class Read:
    """A response that was read.

    Attributes:
        response: Without its body.
        status: Its status; of a stream that tells of a failure, that of this.
        body: What was read of it; of a stream, what it would have been at once.
    """

    response: httpx.Response
    status: int
    body: bytes


@dataclass
class Bounds:
    """What the requests are guarded by that are made of one question, and what became of them.

    Attributes:
        model: Who is asked, by litellm's name.
        hearing: What is heard of the answer.
        size: The most bytes that an answer may have.
        seconds: What all of it may take.
        wants_key: Whether nothing is to be sent without a key.
        sent: What litellm has made of the question: the last request, and what sends such.
        come: What has come of the question already. litellm is handed it in place of what it asks for.
    """

    model: str
    hearing: Hearing
    size: int
    seconds: float
    wants_key: bool
    sent: tuple[httpx.Request, Send] | None = None
    come: Read | Exception | None = None
    _end: float | None = None

    def until(self) -> float:
        """Return when the time is over; it begins with the first request."""
        if self._end is None:
            self._end = asyncio.get_running_loop().time() + self.seconds
        return self._end


_bounds: ContextVar[Bounds | None] = ContextVar("bounds of a request", default=None)


@contextmanager
def bounded(model: str, hearing: Hearing, seconds: float, *, wants_key: bool = False) -> Iterator[Bounds]:
    """Guard the requests that litellm makes inside.

    Args:
        model: Who is asked, by litellm's name.
        hearing: What is heard of the answer.
        seconds: What they and the responses may take together.
        wants_key: Whether none of them is to be sent without a key.

    Raises:
        SettingInvalid: MAX_RESPONSE_BYTES is no number.
    """
    given = os.environ.get("MAX_RESPONSE_BYTES", str(LARGEST_RESPONSE))
    if not given.isdecimal() or not int(given):
        raise SettingInvalid(f"MAX_RESPONSE_BYTES is '{given}'; write a number of bytes, such as {LARGEST_RESPONSE}.")
    bounds = Bounds(model, hearing, int(given), seconds, wants_key)
    token = _bounds.set(bounds)
    try:
        yield bounds
    finally:
        _bounds.reset(token)


def hearing_now() -> Hearing | None:
    """Return what is heard of the answer that is asked for here."""
    bounds = _bounds.get()
    return bounds.hearing if bounds else None


def guarded(send: Callable[[Any, httpx.Request], Awaitable[httpx.Response]]) -> Any:
    """Return what an HTTP transport sends requests by, with all that this module promises."""

    async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
        bounds = _bounds.get()
        if bounds is None:  # litellm is used by somebody else
            return await send(transport, request)
        if bounds.wants_key and "authorization" not in request.headers:
            raise NoKey("none is set")
        await request.aread()  # one that follows to another address is not
        request.headers["Accept-Encoding"] = "gzip, deflate"
        bounds.sent = request, functools.partial(send, transport)
        come, bounds.come = bounds.come, None
        if come is None:
            come = await asked(*bounds.sent, bounds)
        if isinstance(come, Exception):
            raise come
        return _as_read(request, come)

    return handle_async_request


async def asked(request: httpx.Request, send: Send, bounds: Bounds) -> Read:
    """Send a request, and read its response.

    Raises:
        HTTPError: It has not arrived, or not been answered in time.
        Stalled, TooMuch, Unreadable: An answer began to come.
    """
    import httpx

    asking = Asking(request, bounds.model, bounds.hearing)
    try:
        async with asyncio.timeout_at(bounds.until()) as time:
            return await _asked(send, asking, bounds, time)
    except TimeoutError:
        if bounds.hearing.broke_off and asyncio.get_running_loop().time() < bounds.until():
            raise stalled(bounds.hearing) from None
        raise httpx.ReadTimeout("Request timed out.", request=request) from None
    except (httpx.ConnectError, httpx.RemoteProtocolError) as error:
        # litellm would send it once more, though it may have arrived.
        raise httpx.NetworkError(str(error), request=request) from error


async def _asked(send: Send, asking: Asking, bounds: Bounds, time: asyncio.Timeout) -> Read:
    """Ask in the best way that is taken."""
    while True:
        response = await send(asking.request())
        bounds.hearing.told = _limits_in(response.headers)
        try:
            if asking.in_pieces and is_stream(response):
                status, body = await asking.answer(response, bounds.size, time)
            else:
                status = response.status_code
                body = await _body_of(response, bounds.size if response.is_success else LARGEST_ERROR)
                status, body = asking.answer_in(body, bounds.size) or (status, body)
        finally:
            await response.aclose()
        if not asking.was_refused(response.status_code, body):
            return Read(response, status, body)


def _limits_in(headers: httpx.Headers) -> dict[str, str]:
    """Return what headers tell of limits; to look each up by its name would go through all of them each time."""
    told = [name.lower() for name, value in headers.raw if value and b"ratelimit" in name.lower()]
    return {name: headers[name] for name in map(bytes.decode, told) if name in HEADERS} if told else {}


async def _body_of(response: httpx.Response, limit: int) -> bytes:
    """Read a body and unpack it, both up to a limit; past it, an error's is cut and any other refused."""
    announced = response.headers.get("content-length", "")
    if response.is_success and announced.isdecimal() and int(announced) > limit:
        raise too_much(limit)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            break
    unpacked = Unpacking(response.headers.get("content-encoding", "")).whole(bytes(body), limit)
    if len(unpacked) > limit and response.is_success:
        raise too_much(limit)
    if unpacked.count(b"[") + unpacked.count(b"{") > MOST_BRACKETS:
        raise TooMuch(f"it has more than {MOST_BRACKETS:,} brackets and braces")
    return unpacked[:limit]


def completion_in(read: Read) -> dict[str, Any] | None:
    """Return the completion that has come, in its regular form; None if it is anything else."""
    if not 200 <= read.status < 300:
        return None
    answer = _answer_in(_COMPLETIONS, read.body)
    return None if answer is None or failure_in(answer) else regular(answer)


def _as_read(request: httpx.Request, read: Read) -> httpx.Response:
    """Return the response as it is handed on: a completion in its regular form, a failure as one."""
    import httpx

    response, status, body = read.response, read.status, read.body
    headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
    is_success = status < 300
    answer = _answer_in(request.url.path, body) if is_success else None
    if answer is not None and request.url.path.endswith(_COMPLETIONS):
        if failure := failure_in(answer):
            status, message = failure
            body = json.dumps({"error": {"message": message[:LARGEST_ERROR], "code": status}}).encode()
        elif (made := regular(answer)) != answer:
            body = json.dumps(made).encode()
    if not is_success and len(body) > SHORT_ERROR:
        body = _short_error(body)
    return httpx.Response(status, headers=headers, content=body, request=request, extensions=response.extensions)


_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")


def _short_error(body: bytes) -> bytes:
    """Return an error's body with as much of it as is told to anybody."""
    try:
        error = json.loads(body)["error"]
        told = {key: clip(value, SHORT_ERROR // 4) for key, value in error.items() if isinstance(value, str)}
        told |= {key: value for key, value in error.items() if isinstance(value, int)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return body[:SHORT_ERROR]
    return json.dumps({"error": told}).encode()


def _answer_in(path: str, body: bytes) -> dict[str, Any] | None:
    """Return what a provider answered; None for what is none of the known forms of an answer."""
    form = next((form for form in _FORMS if path.endswith(form)), None)
    if form is None:
        return None
    try:
        found = json_in(body)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise Unreadable("Empty or invalid response: it is no JSON object")
    if all(found.get(key) is None for key in _FORMS[form]):
        raise Unreadable(f"Empty or invalid response: it has no '{_FORMS[form][0]}'")
    return found
