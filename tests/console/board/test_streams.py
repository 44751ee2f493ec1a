"""What the board sends while it happens: to readers that are slow, and to those that come back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.conftest import Runs
from tests.provider import Provider, Slow, Streamed, Text

COUNCIL = ("tests.workflows.council",)
SENTENCE = "It rained all day, and nobody went out. " * 3
LONG = "It rained. " * 20_000


async def events(board: httpx.AsyncClient, path: str, last: str = "") -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, id and data of each event."""
    name = id = ""
    async with board.stream("GET", path, headers={"Last-Event-ID": last} if last else {}) as stream:
        async for line in stream.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                id = value
            elif field == "data":
                yield name, id, json.loads(value or "{}")


async def test_whoever_reconnects_with_the_last_id_gets_nothing_twice(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Streamed(Text(SENTENCE), seconds=0.05), Slow(1, Text("The end.")))
    seen: list[tuple[str, dict[str, Any]]] = []
    last = ""
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "Roses")
        for until in (1, 3, 1_000):
            words = 0
            async for name, id, data in events(board, f"/runs/{run.id}/words", last):
                seen.append((name, data))
                last, words = id or last, words + (name == "words")
                if id and words >= until:
                    break
        assert (await board.get("/runs/nowhere/words")).status_code == 404
    first = [(name, data) for name, data in seen if data.get("step") == "1"]
    assert [name for name, _ in first if name != "words"] == ["call", "said", "said", "ended"]
    told = "".join(data["text"] for name, data in first if name == "words")
    assert SENTENCE.startswith(told)
    assert [data["said"]["text"] for name, data in first if name == "said"][1] == SENTENCE
    assert seen[-1][0] == "over"


async def test_a_reader_that_does_not_read_holds_nothing_up(
    runs: Runs, board: httpx.AsyncClient, provider: Provider
) -> None:
    provider.enqueue(Slow(0.5, Streamed(Text(LONG))), Text("The end."))
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "Roses")
        stuck = [await _unread(board, f"/runs/{run.id}/{what}") for what in ("words", "live")]
        seen = [(name, data) async for name, _, data in events(board, f"/runs/{run.id}/words")]
        await run.result()
    said = [data["said"]["text"] for name, data in seen if name == "said" and data["said"]["who"] == "assistant"]
    assert said[0].startswith("It rained. It rained. ")
    assert said[1] == "The end."
    for reader, writer in stuck:
        assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
        writer.close()


async def _unread(board: httpx.AsyncClient, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for something, and do not read it."""
    connection = socket.create_connection((board.base_url.host, board.base_url.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    reader, writer = await asyncio.open_connection(sock=connection, limit=1)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {board.base_url.netloc.decode()}\r\n\r\n".encode())
    return reader, writer
