"""How long it takes from a model's saying a word to somebody's seeing it, and what that adds to histories.

Each word tells when it was said: `17@1732651200.1234`.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from playwright.async_api import Browser, Error, async_playwright

from bench.figures import Figure
from bench.site import Site, site
from bench.team import think_at_once
from console.board.access import Access
from console.board.app import board_of
from console.dev_server import HOST

EVERY_S = 0.1
"""Seconds between two words."""

WORDS = 120
SOON_S = 0.5
AT_ONCE = (1, 20)

_WORD = re.compile(r"(\d+)@(\d+\.\d+) ")


@dataclass
class Seen:
    """What came on a stream of the board's.

    Attributes:
        delays: Seconds from said to seen, by call and word.
        twice: How many words came again.
    """

    delays: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    twice: int = 0

    def see(self, step: str, text: str, *, anew: bool, now: float | None = None, since: float = 0.0) -> None:
        """Note the words of a text.

        Args:
            step: The call that says them.
            text: The text.
            anew: Whether each of them should come once; else a part of what was said is shown again and again.
            now: When it was seen.
            since: When somebody began to look; what was said before does not count.
        """
        now, known = now or time.time(), self.delays[step]
        for number, said in _WORD.findall(text):
            if float(said) < since:
                continue
            if int(number) not in known:
                known[int(number)] = now - float(said)
            elif anew:
                self.twice += 1

    def all(self) -> list[float]:
        """Return all delays."""
        return [delay for delays in self.delays.values() for delay in delays.values()]


async def measure(scale: float) -> list[Figure]:
    """Measure one call, and twenty at once, on the stream of words and on the page's."""
    words = max(20, round(WORDS * scale))
    async with site(tuned=True) as here:
        model = await here.program("-m", "bench.words", str(port := _free_port()), str(words))
        await here.worker(LOOPBACK=f"http://{HOST}:{port}/v1", OPENAI_API_KEY="any")
        figures = []
        async with _board(here) as board, _chromium() as browser:
            for count in AT_ONCE:
                figures += await _listened(here, board, browser, count, words)
        model.kill()
        return figures


async def _listened(
    here: Site, board: httpx.AsyncClient, browser: Browser | None, count: int, words: int
) -> list[Figure]:
    pools = {"thinker": count}
    name = f"heard-{count}"
    running = asyncio.create_task(here.run(think_at_once, count, instances=pools, name=name))
    await _begun(here, name, count)
    page, stream, screen = Seen(), Seen(), Seen()
    reading = [
        asyncio.create_task(_read_page(board, name, page)),
        asyncio.create_task(_read_words(board, name, stream)),
    ]
    if browser is not None:
        reading.append(asyncio.create_task(_look_at(browser, f"{board.base_url}/runs/{name}", screen, running)))
    before, since = await _length(here, name), time.monotonic()
    await asyncio.sleep(words * EVERY_S * 0.8)
    events, minutes = await _length(here, name) - before, (time.monotonic() - since) / 60
    await running
    await asyncio.wait(reading, timeout=5)
    for task in reading:
        task.cancel()
    told = f"{count} call{'s' if count > 1 else ''} at once"
    figures = []
    for what, seen in (("the page's stream", page), ("the stream of words", stream), ("Chromium", screen)):
        if not (delays := seen.all()):  # there is none on this machine
            continue
        figures += [
            Figure(f"{told}, {what}: words seen of {count * words:,}", len(delays), "words"),
            Figure(f"{told}, {what}: from said to seen, median", statistics.median(delays), "s"),
            Figure(f"{told}, {what}: from said to seen, worst", max(delays), "s", at_most=SOON_S),
        ]
    return [
        *figures,
        Figure(f"{told}: words that came twice", stream.twice, "words", at_most=0),
        Figure(f"{told}: events a minute in the run's history meanwhile", events / minutes, "events", at_most=0),
    ]


_OBSERVE = """() => {
  window.seen = [];
  new MutationObserver(() => {
    for (const place of document.querySelectorAll("[data-step]")) {
      window.seen.push([place.dataset.step, Date.now() / 1000, place.textContent]);
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


async def _look_at(browser: Browser, address: str, seen: Seen, running: asyncio.Task[Any]) -> None:
    """Note what a browser shows from when its page is there, as long as the run goes on."""
    page = await browser.new_page()
    await page.goto(address)
    await page.evaluate(_OBSERVE)
    began = time.time()
    while not running.done():
        await asyncio.wait([running], timeout=1.0)
        with suppress(Error):  # it loads its page anew at the end
            for step, at, text in await page.evaluate("() => window.seen?.splice(0) ?? []"):
                seen.see(step, text, anew=False, now=at, since=began)
    await page.close()


async def _read_words(board: httpx.AsyncClient, run: str, seen: Seen) -> None:
    left: dict[str, str] = defaultdict(str)
    async for event, data in _events(board, f"/runs/{run}/words"):
        if event == "words":
            text = left[data["step"]] + data["text"]
            whole, _, left[data["step"]] = text.rpartition(" ")
            seen.see(data["step"], f"{whole} ", anew=True)
        elif event == "said":
            seen.see(data["step"], data["said"]["text"], anew=False)


async def _read_page(board: httpx.AsyncClient, run: str, seen: Seen) -> None:
    async for event, data in _events(board, f"/runs/{run}/live"):
        if event == "saying":
            for step, text in data.items():
                seen.see(step, text, anew=False)


async def _events(board: httpx.AsyncClient, path: str) -> AsyncIterator[tuple[str, Any]]:
    event = ""
    async with board.stream("GET", path) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: ") and line != "data: ":
                yield event, json.loads(line.removeprefix("data: "))


@asynccontextmanager
async def _board(here: Site) -> AsyncIterator[httpx.AsyncClient]:
    listening = socket.create_server((HOST, 0))
    app = board_of(here.client, Access.read(HOST, [], ""))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server._serve(sockets=[listening]))
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{listening.getsockname()[1]}", timeout=60) as asking:
        yield asking
    server.should_exit = True
    await running


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser | None]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        yield None
        return
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


async def _begun(here: Site, run: str, count: int) -> None:
    while True:
        with suppress(Exception):
            described = await here.client.get_workflow_handle(run).describe()
            calls = described.raw_description.pending_activities
            if len(calls) == count and all(call.HasField("last_started_time") for call in calls):
                return
        await asyncio.sleep(0.02)


async def _length(here: Site, run: str) -> int:
    return (await here.client.get_workflow_handle(run).describe()).history_length


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def talk(port: int, words: int) -> None:
    """Say a word now and then to whoever asks, until killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for number in range(words):
                    await asyncio.sleep(EVERY_S)
                    writer.write(_chunk(_piece({"content": f"{number}@{time.time():.4f} "})))
                    await writer.drain()
                usage = {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words}
                end = {**_piece({}, "stop"), "usage": usage}
                writer.write(_chunk(end) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, HOST, port, backlog=2_048)
    print("Serving on", port, flush=True)
    await server.serve_forever()


_PIECE = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "any"}


def _piece(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {**_PIECE, "choices": [{"index": 0, "finish_reason": reason, "delta": delta}]}


def _chunk(data: object) -> bytes:
    event = f"data: {json.dumps(data)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


if __name__ == "__main__":
    asyncio.run(talk(int(sys.argv[1]), int(sys.argv[2])))
