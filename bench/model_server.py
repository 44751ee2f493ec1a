"""A model that thinks for some time and says that it is done, in as little time of a processor as may be.

python -m bench.model_server 9000 1.5
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
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
_PIECE: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "any"}
PIECES: list[dict[str, Any]] = [
    *(
        {**_PIECE, "choices": [{"index": 0, "finish_reason": reason, "delta": delta}]}
        for reason, delta in ((None, {"role": "assistant", "content": ""}), (None, {"content": "Done."}), ("stop", {}))
    ),
    {**_PIECE, "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}},
]
STREAM = "".join(f"data: {json.dumps(piece)}\n\n" for piece in PIECES).encode() + b"data: [DONE]\n\n"
STREAMED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAMED += b"%x\r\n%s\r\n0\r\n\r\n" % (len(STREAM), STREAM)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)


async def serve(port: int, seconds: float) -> None:
    """Answer whatever is asked, until killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                await asyncio.sleep(seconds)
                writer.write(STREAMED if b'"stream":true' in body else RESPONSE)
        writer.close()

    server = await asyncio.start_server(answer, HOST, port, backlog=2_048)
    print("Serving on", port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
