"""A model that thinks for some time and says that it is done, in as little time of a processor as may be.

python -m bench.model_server 9000 1.5

Asked as `talkative` it says three hundred words, one after the other.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any

from console.dev_server import HOST

ANSWER = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "any",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Done."}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
).encode()
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)

WORDS = 300
BETWEEN_WORDS_S = 0.005
TALKATIVE = "talkative"

_PIECE: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "any"}
_USAGE = {**_PIECE, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _said(*deltas: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
    return [{**_PIECE, "choices": [{"index": 0, "finish_reason": reason, "delta": delta}]} for delta in deltas]


def _chunk(pieces: Iterable[dict[str, Any]], end: bytes = b"") -> bytes:
    events = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces).encode() + end
    return b"%x\r\n%s\r\n" % (len(events), events)


_BEGINNING = _said({"role": "assistant", "content": ""})
_END = [*_said({}, reason="stop"), _USAGE]
_DONE, _OVER = b"data: [DONE]\n\n", b"0\r\n\r\n"
STREAMED = _HEAD + _chunk([*_BEGINNING, *_said({"content": "Done."}), *_END], _DONE) + _OVER
TALKED = [
    _HEAD + _chunk(_BEGINNING),
    *(_chunk(_said({"content": f"word {number}, "})) for number in range(WORDS)),
    _chunk([*_said({"content": "Done."}), *_END], _DONE) + _OVER,
]


class Model(asyncio.Protocol):
    """A connection, on which one question comes after the other."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, _, body = self._asked.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if not length or len(body) < int(length):
            return
        self._asked = b""
        in_pieces = b'"stream":true' in body.replace(b": ", b":")
        is_long = in_pieces and TALKATIVE.encode() in body
        answer = TALKED if is_long else [STREAMED if in_pieces else RESPONSE]
        self._loop.call_later(self._seconds, self._say, answer, 0)

    def _say(self, answer: list[bytes], number: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(answer[number])
        if number + 1 < len(answer):
            self._loop.call_later(BETWEEN_WORDS_S, self._say, answer, number + 1)


async def serve(port: int, seconds: float) -> None:
    """Answer whatever is asked, until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Model(seconds), HOST, port, backlog=2_048)
    print("Serving on", port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
