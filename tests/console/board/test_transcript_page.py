"""A transcript in a real browser, while something is said."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass, field

import httpx
import pytest
from playwright.async_api import async_playwright

from testing.loopback import Exchange
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Slow, Streamed, Text, ToolCall, Tools

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SENTENCE = "It rained all day, and <b>nobody</b> went out but the cat."

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@dataclass(frozen=True)
class Held:
    """An answer of which some pieces come, and the rest when it is let go."""

    then: Text
    pieces: int
    goes_on: threading.Event = field(default_factory=threading.Event)

    def send(self, to: Exchange) -> None:
        write, written = to._write_chunk, 0

        def held(piece: str) -> None:
            nonlocal written
            written += 1
            if written == self.pieces:
                self.goes_on.wait(60)
            write(piece)

        setattr(to, "_write_chunk", held)  # noqa: B010 - it is a method to mypy
        to.pace = Streamed(self.then, seconds=0.001)
        self.then.send(to)


async def test_a_transcript_goes_on_with_words_and_then_with_what_was_said(
    runs: Runs, board: httpx.AsyncClient, provider: Provider, ledger: Ledger
) -> None:
    answer = Held(Text(SENTENCE), pieces=8)
    look = ToolCall("look_up", {"title": "Roses", "ledger": str(ledger.path)})
    provider.enqueue(Tools((look,), content="I look."), answer, Slow(60, Text("never")))
    told: list[str] = []
    async with runs.serving("tests.workflows.council"), async_playwright() as playwright:
        run = await runs.start("produce_twice", "Roses")
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(base_url=str(board.base_url))
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        try:
            await page.goto(f"/runs/{run.id}/transcripts/press-1")
            await page.wait_for_selector(".saying:has-text('It rained')")
            assert await page.locator(".said.assistant:has-text('I look.')").count() == 1
            assert await page.locator("details:has-text('calls look_up')").count() == 1
            answer.goes_on.set()
            await page.wait_for_selector(f".said.assistant >> text={SENTENCE}")
            assert (await page.inner_text("main")).count("It rained") == 1
            assert await page.locator("main b").count() == 0
        finally:
            answer.goes_on.set()
            await run.terminate()
            await browser.close()
    assert not told
