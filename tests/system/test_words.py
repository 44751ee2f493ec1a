"""What an agent says, where its worker is killed in the middle of it."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from rich.console import Console

from console.dev_server import DevServer
from console.watch import following
from tests.conftest import Runs
from tests.console.board.conftest import serving
from tests.provider import Provider, Streamed, Text
from tests.system.forked import ForkedWorker

COUNCIL = "tests.workflows.council"
SENTENCE = "It rained all day, and nobody went out but the cat. "


async def test_a_sentence_whose_worker_is_killed_in_the_middle_is_there_once(
    server: DevServer, runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    provider.enqueue(
        Streamed(Text(SENTENCE), seconds=0.05, pieces=6), Streamed(Text(SENTENCE), seconds=0.05), Text("The end.")
    )
    doomed = ForkedWorker(server.address, COUNCIL, heartbeat_timeout=2.0)
    events: list[tuple[str, dict[str, Any]]] = []
    shown: list[str] = []
    screen = io.StringIO()
    doomed.serve()
    try:
        run = await runs.start("produce_twice", "Roses")
        at_a_terminal = asyncio.create_task(following(run.id, "press-1", every=0.5, console=Console(file=screen)))
        async with serving(runs.client, "") as board, AsyncExitStack() as other:
            page = asyncio.create_task(_read_page(board.stream("GET", f"/runs/{run.id}/live"), shown))
            async with board.stream("GET", f"/runs/{run.id}/words?instance=press-1") as stream:
                event = ""
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                    elif line.startswith("data: {"):
                        events.append((event, json.loads(line.removeprefix("data: "))))
                        if doomed.is_running and len(_words(events)) > 10:
                            doomed.kill()
                            await other.enter_async_context(runs.serving(COUNCIL))
            await page
            await run.result()
            assert await at_a_terminal == 0
    finally:
        doomed.kill()
    names = [name for name, _ in events]
    again = names.index("again")
    assert SENTENCE.startswith(_words(events[:again]))
    assert len(_words(events[:again])) > 10
    assert events[again][1]["stand"] == 1  # what was asked
    said = [data["said"] for name, data in events if name == "said" and data["said"]["who"] == "assistant"]
    assert [one["text"] for one in said] == [SENTENCE, "The end."]
    assert SENTENCE.startswith(_words(events[again:]))
    assert max(text.count("It rained") for text in shown) == 1
    assert screen.getvalue().count("It rained") == 1
    assert f"\n{SENTENCE}\n" in screen.getvalue()


def _words(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["text"] for name, data in events if name == "words")


async def _read_page(opening: Any, shown: list[str]) -> None:
    async with opening as stream:
        event = ""
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif event == "saying" and line.startswith("data: {"):
                shown += json.loads(line.removeprefix("data: ")).values()
