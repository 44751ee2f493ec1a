"""What comes over the wire from providers, before litellm reads it: bounded in size, and regular in form.

litellm reads a body to its end however long it is, unpacks it however large it becomes, searches an error's for half
a minute, and fails on an answer of which the part that matters is well.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.contract.text import clip
from activities.errors import SettingInvalid
from activities.models.completion import failure_in, regular

if TYPE_CHECKING:
    import httpx

LARGEST_RESPONSE = 2_000_000
"""Bytes of a response, unpacked, that are read unless MAX_RESPONSE_BYTES says otherwise. The server records no more."""

LARGEST_ERROR = 64_000
"""Bytes of an error's body that are read; the rest is left."""

SHORT_ERROR = 8_000
"""Bytes of an error's body that litellm gets to see."""

MOST_BRACKETS = 200_000
"""Brackets and braces in a response that is read: to make as many lists and objects holds up every thread."""

_ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class TooMuch(Exception):
    """A provider sent a longer response than is read."""


@dataclass
class _Bounds:
    size: int
    seconds: float
    end: float | None = None
    """When the time is over; it begins with the first request."""

    def until(self) -> float:
        if self.end is None:
            self.end = asyncio.get_running_loop().time() + self.seconds
        return self.end


_bounds: ContextVar[_Bounds | None] = ContextVar("bounds of a request", default=None)


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Guard the requests that litellm makes inside.

    Args:
        seconds: What they and the responses may take together.

    Raises:
        SettingInvalid: MAX_RESPONSE_BYTES is no number.
    """
    given = os.environ.get("MAX_RESPONSE_BYTES", str(LARGEST_RESPONSE))
    if not given.isdecimal() or not int(given):
        raise SettingInvalid(f"MAX_RESPONSE_BYTES is '{given}'; write a number of bytes, such as {LARGEST_RESPONSE}.")
    token = _bounds.set(_Bounds(int(given), seconds))
    try:
        yield
    finally:
        _bounds.reset(token)


def guard_litellm() -> None:
    """Have the HTTP clients that litellm makes, for whatever provider, read by way of this module.

    Nor may it look for secrets in megabytes: its regular expressions take half a minute, and stop all threads.
    """
    import httpx
    from litellm.litellm_core_utils import secret_redaction
    from litellm.llms.custom_httpx import http_handler
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    class Guarded(httpx.AsyncHTTPTransport):
        handle_async_request = _guarded(httpx.AsyncHTTPTransport.handle_async_request)

    def create_httpx_transport() -> httpx.AsyncHTTPTransport:
        verify, http2 = http_handler.get_ssl_configuration(), http_handler.http2_enabled()
        return make() or Guarded(verify=verify, http2=http2)

    over_aiohttp: Any = LiteLLMAiohttpTransport
    handler: Any = http_handler
    make = handler.AsyncHTTPHandler._create_httpx_transport
    over_aiohttp.handle_async_request = _guarded(over_aiohttp.handle_async_request)
    handler.AsyncHTTPTransport = Guarded
    handler.AsyncHTTPHandler._create_httpx_transport = staticmethod(create_httpx_transport)
    redaction: Any = secret_redaction
    redact = redaction.python_redact_string
    redaction.python_redact_string = lambda text: redact(clip(text, SHORT_ERROR))


def _guarded(send: Callable[[Any, httpx.Request], Awaitable[httpx.Response]]) -> Any:
    async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
        import httpx

        bounds = _bounds.get()
        if bounds is None:  # litellm is used by somebody else
            return await send(transport, request)
        request.headers["Accept-Encoding"] = "gzip, deflate"
        try:
            async with asyncio.timeout_at(bounds.until()):
                response = await send(transport, request)
                try:
                    body = await _body_of(response, bounds.size if response.is_success else LARGEST_ERROR)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise httpx.ReadTimeout("Request timed out.", request=request) from None
        return _as_read(request, response, body)

    return handle_async_request


async def _body_of(response: httpx.Response, limit: int) -> bytes:
    """Read a body and unpack it, both up to a limit; past it, an error's is cut and any other refused."""
    announced = response.headers.get("content-length", "")
    if response.is_success and announced.isdecimal() and int(announced) > limit:
        raise _too_much(limit)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            break
    unpacked: bytes = bytes(body)
    for name in reversed([name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]):
        if name not in ("", "identity"):
            unpacked = _unpacked(name, unpacked, limit)
    if len(unpacked) > limit and response.is_success:
        raise _too_much(limit)
    if unpacked.count(b"[") + unpacked.count(b"{") > MOST_BRACKETS:
        raise TooMuch(f"it has more than {MOST_BRACKETS:,} brackets and braces")
    return unpacked[:limit]


def _too_much(limit: int) -> TooMuch:
    return TooMuch(f"it sends more than {limit:,} bytes")


def _unpacked(encoding: str, data: bytes, limit: int) -> bytes:
    import httpx

    if encoding not in _ENCODINGS:
        raise httpx.DecodingError(f"the response is in the encoding '{encoding[:40]}', which was not asked for")
    try:
        return zlib.decompressobj(_ENCODINGS[encoding]).decompress(data, limit + 1)
    except zlib.error as error:
        if encoding == "deflate":  # some servers leave its header out
            with suppress(zlib.error):
                return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit + 1)
        raise httpx.DecodingError(f"the response can't be unpacked: {error}") from None


def _as_read(request: httpx.Request, response: httpx.Response, body: bytes) -> httpx.Response:
    """Return the response as it is handed on: a completion in its regular form, a failure as one."""
    import httpx

    status, headers = response.status_code, response.headers.copy()
    for name in ("content-encoding", "content-length", "transfer-encoding"):
        headers.pop(name, None)
    completion = _completion_in(request, body) if response.is_success else None
    if completion is not None:
        if failure := failure_in(completion):
            status, message = failure
            body = json.dumps({"error": {"message": message[:LARGEST_ERROR], "code": status}}).encode()
        elif (made := regular(completion)) != completion:
            body = json.dumps(made).encode()
    if not response.is_success and len(body) > SHORT_ERROR:
        body = _short_error(body)
    return httpx.Response(status, headers=headers, content=body, request=request, extensions=response.extensions)


def _short_error(body: bytes) -> bytes:
    """Return an error's body with as much of it as is told to anybody."""
    try:
        error = json.loads(body)["error"]
        told = {key: clip(value, SHORT_ERROR // 4) for key, value in error.items() if isinstance(value, str)}
        told |= {key: value for key, value in error.items() if isinstance(value, int)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return body[:SHORT_ERROR]
    return json.dumps({"error": told}).encode()


def _completion_in(request: httpx.Request, body: bytes) -> dict[str, Any] | None:
    if not request.url.path.endswith("/chat/completions"):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):  # litellm says what is wrong with it
        return None
    return found if isinstance(found, dict) and ("choices" in found or "error" in found) else None
