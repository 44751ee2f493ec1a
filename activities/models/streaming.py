"""Asking for an answer in pieces, so that it is heard while it comes, and its silence is noticed.

litellm asks for a whole answer, and gets one: `stream` is added to its request on the way out, and the pieces are put
together on the way in. What a server does not take of this is left out from then on, and one that does not tell what a
streamed answer used is asked for all at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.models.assembling import AnthropicMessage, Assembly, Completion
from activities.models.bounds import AROUND_PIECES, BrokeOff, Stalled, Unreadable, too_much
from activities.models.events import DONE, Events, read
from activities.models.hearing import Hearing
from activities.models.unpacking import Unpacking

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

_AFTER_ITS_END_S = 1.0
"""Seconds in which a stream may close that is over, so that its connection can be used again."""

_LATER = 1.05
"""By how much more than its silence may pass until it is noticed."""

_COUNTED = '"stream":true,"stream_options":{"include_usage":true}'
_STREAMED = '"stream":true'
_AT_ONCE = ""


@dataclass(frozen=True)
class _Protocol:
    """How answers are asked for at an address.

    Attributes:
        ways: What is added to a request, the best first.
        assembly: Puts the pieces together.
    """

    ways: tuple[str, ...]
    assembly: Callable[[], Assembly]


_PROTOCOLS = {
    "/chat/completions": _Protocol((_COUNTED, _STREAMED, _AT_ONCE), Completion),
    "/messages": _Protocol((_STREAMED, _AT_ONCE), AnthropicMessage),
}
"""By how the address ends. What others stream, if they do, is not known here: they are asked for all at once."""

_ADDED = ("stream", "stream_options")
_REFUSES = re.compile(rb"\bstream(ed|ing|s)?\b|\bstream_options\b|\binclude_usage\b", re.IGNORECASE)
_SAYS_SOMETHING_ELSE = (401, 402, 403, 408, 429)

_best: dict[tuple[str, str], int] = {}
"""By model and address: the first way that its server takes."""


class Asking:
    """One request, and the ways in which its answer may be asked for."""

    def __init__(self, request: httpx.Request, model: str, hearing: Hearing) -> None:
        """Take a request.

        Args:
            request: The one for an answer at once.
            model: Who is asked, by litellm's name.
            hearing: What is heard of the answer.
        """
        self._request, self._model, self._hearing = request, model, hearing
        self._server = (model, str(request.url))
        self._protocol = None
        if hearing.silence and request.method == "POST":
            self._protocol = next((known for end, known in _PROTOCOLS.items() if request.url.path.endswith(end)), None)
        self._number = _best.get(self._server, 0)

    @property
    def in_pieces(self) -> bool:
        """Whether the answer is asked for in pieces."""
        return self._protocol is not None and bool(self._protocol.ways[self._number])

    def request(self) -> httpx.Request:
        """Return the request as it is to be sent."""
        return (
            _with(self._request, self._protocol.ways[self._number])
            if self._protocol and self.in_pieces
            else self._request
        )

    def was_refused(self, status: int, body: bytes) -> bool:
        """Whether a response refuses this way of asking, so that the next is to be tried."""
        says_so = status >= 400 and status not in _SAYS_SOMETHING_ELSE and bool(_REFUSES.search(body))
        if self.in_pieces and says_so:
            self._number += 1
            return True
        if status < 400 and self._number > _best.get(self._server, 0):
            _best[self._server] = self._number
            logger.info("%s takes no %s: answers come without it", self._model, _ADDED[-self._number :][0])
        return False

    async def answer(self, response: httpx.Response, limit: int, time: asyncio.Timeout) -> tuple[int, bytes]:
        """Read a stream to its end, and return the status and the body of what it would have been at once.

        Args:
            response: The stream.
            limit: The most bytes that an answer may have.
            time: What bounds the request. It is brought forward from piece to piece.

        Raises:
            TooMuch: It is longer than is read.
            Unreadable: It is no stream, or has broken off.
        """
        import httpx

        heard, end = _Heard(self._made(), self._hearing, limit), time.when()
        async with aclosing(_unpacked(response, limit)) as chunks:
            try:
                async for chunk in chunks:
                    heard.feed(chunk)
                    if heard.is_over:
                        break
                    if self._hearing.first_s is not None:
                        self._bring_forward(time, end)
            except (httpx.HTTPError, OSError) as error:
                if not self._hearing.broke_off:
                    raise
                raise _broke_off(self._hearing, str(error) or type(error).__name__) from error
            time.reschedule(end)
            if heard.is_over:
                with suppress(TimeoutError, httpx.HTTPError, OSError):
                    async with asyncio.timeout(_AFTER_ITS_END_S):
                        async for _ in chunks:
                            pass
        return self._whole(heard)

    def _bring_forward(self, time: asyncio.Timeout, end: float | None) -> None:
        """Let the time be over when it has been silent; some later, so that not every piece needs another timer."""
        now, silence, when = asyncio.get_running_loop().time(), self._hearing.silence, time.when()
        if when is None or when == end or when < now + silence:
            soon = now + silence * _LATER
            time.reschedule(soon if end is None else min(soon, end))

    def answer_in(self, body: bytes, limit: int) -> tuple[int, bytes] | None:
        """Return the same of a body that is a stream, though it was not said to be one; None of any other."""
        if not self.in_pieces or not body.lstrip()[:6].startswith((b"data:", b"event:", b":")):
            return None
        heard = _Heard(self._made(), self._hearing, limit)
        heard.feed(body)
        return self._whole(heard)

    def _made(self) -> Assembly:
        assert self._protocol is not None  # else nobody has asked for pieces
        return self._protocol.assembly()

    def _whole(self, heard: _Heard) -> tuple[int, bytes]:
        status, body = heard.whole()
        if self._hearing.whole and not heard.assembly.told_usage and self._protocol is not None:
            _best[self._server] = len(self._protocol.ways) - 1
            logger.warning(
                "%s does not tell what a streamed answer has used; from now on its answers are asked for at once",
                self._model,
            )
        return status, body


def is_stream(response: httpx.Response) -> bool:
    """Whether a response says that it is a stream of events."""
    return response.is_success and "event-stream" in response.headers.get("content-type", "")


def stalled(hearing: Hearing) -> Stalled:
    """Return what is raised of an answer that has fallen silent."""
    since = datetime.now(UTC) - timedelta(seconds=hearing.silence)
    return Stalled(
        f"it fell silent: nothing came for {hearing.silence:g} s, since {since:%H:%M:%S} UTC, "
        f"after {hearing.in_words()} of its answer"
    )


class _Heard:
    """What has come of a stream."""

    def __init__(self, assembly: Assembly, hearing: Hearing, limit: int) -> None:
        self.assembly = assembly
        self._hearing = hearing
        self._limit = limit
        self._events = Events(limit)
        self._last = b""

    @property
    def is_over(self) -> bool:
        return self.assembly.ended

    def feed(self, chunk: bytes) -> None:
        for data in self._events.feed(chunk):
            self._take(data)

    def _take(self, data: bytes) -> None:
        if self.assembly.ended:
            return
        for event in read(data) if data != DONE else ():
            for delta in self.assembly.take(event):
                self._hearing.hear(delta)
        self.assembly.ended = self.assembly.ended or data.endswith(DONE)
        if self._hearing.characters > self._limit:
            raise too_much(self._limit)

    def whole(self) -> tuple[int, bytes]:
        for data in self._events.end():
            self._take(data)
        if not self.assembly.ended and not self.assembly.finished:
            raise _broke_off(self._hearing, "the stream has no end")
        status, body = self.assembly.whole()
        self._hearing.whole = self.assembly.failure is None
        return status, json.dumps(body).encode()


def _broke_off(hearing: Hearing, why: str) -> Unreadable:
    return BrokeOff(f"it broke off after {hearing.in_words()}: {why}")


async def _unpacked(response: httpx.Response, limit: int) -> AsyncGenerator[bytes, None]:
    """Read a stream of an answer that may have some bytes, and unpack it."""
    unpacking, size = Unpacking(response.headers.get("content-encoding", "")), 0
    async for chunk in response.aiter_raw():
        for unpacked in unpacking.pieces(chunk):
            size += len(unpacked)
            if size > limit * AROUND_PIECES:
                raise too_much(limit)
            yield unpacked


def _with(request: httpx.Request, added: str) -> httpx.Request:
    """Return a request with something added to its body."""
    import httpx

    body = request.content.strip()
    if b'"stream' in body:  # in what is said, or among the user's own parameters
        body = json.dumps({key: value for key, value in json.loads(body).items() if key not in _ADDED}).encode()
    body = body[:-1] + b"," + added.encode() + b"}"
    headers = request.headers.copy()
    headers["Accept-Encoding"], headers["Content-Length"] = "identity", str(len(body))
    # Given a stream, it takes the headers as they are, which spares half of what a request takes.
    asked = httpx.Request(
        request.method, request.url, headers=headers, stream=httpx.ByteStream(body), extensions=request.extensions
    )
    asked.read()
    return asked
