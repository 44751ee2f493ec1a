"""The board in a real browser: without a shell from a run's start to its fork, by mouse, by keyboard, and narrow."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Browser, Dialog, Page, async_playwright

from tests.conftest import Ledger, Runs
from tests.provider import Provider, Text, ToolCall, Tools

COUNCIL = ("tests.workflows.council",)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium."""
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
async def page(browser: Browser, board: httpx.AsyncClient) -> AsyncIterator[Page]:
    """A page of the board, on which nothing may go wrong that a browser tells of."""
    context = await browser.new_context(base_url=str(board.base_url), viewport={"width": 1600, "height": 900})
    opened = await context.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    yield opened
    assert not told


async def test_a_run_is_started_approved_and_forked_without_a_shell(
    runs: Runs, page: Page, provider: Provider, ledger: Ledger
) -> None:
    wants = Tools((ToolCall("print_out", {"title": HOSTILE, "ledger": str(ledger.path)}),), content=HOSTILE)
    provider.enqueue(wants, Text(f"printed {HOSTILE}"), Text("printed otherwise"))
    dialogs: list[str] = []

    async def accept(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        await dialog.accept()

    async with runs.serving(*COUNCIL):
        await page.goto("/runs")
        await page.click("text=Start a run")
        await page.fill("[name=choreography]", "decide_and_produce")
        await page.fill("[name=inputs]", '{"title": "Roses", "pages": 12}')
        await page.fill("[name=id]", "by-page")
        await page.click("button:text('Start')")

        await page.goto("/runs/by-page")
        await page.wait_for_selector("text=Shall Roses be printed?")
        await page.select_option("[name='answer.verdict']", label="go")
        await page.fill("[name='answer.pages']", "12")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # on the button that answers

        await page.wait_for_selector("text=anyone is asked: Press.print_out")
        await page.click("button:text('Approve')")
        await page.wait_for_selector(".headline:text('done')")
        await page.click("text=press-1")
        assert HOSTILE in await page.inner_text("main")

        page.on("dialog", accept)
        await page.goto("/runs/by-page/calls")
        await page.click("tr:has-text('produce') >> button:text('Fork here')")
        await page.wait_for_url("**/runs/by-page-fork-1")
        await page.wait_for_selector(".headline:text('done')")
    assert ledger.lines("printed") == [f" {HOSTILE} as 2/1/0"]
    assert len(dialogs) == 1, "only that a fork was asked about"
    assert dialogs[0].startswith("Begin a new run that goes on from before step")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_fit_a_telephone_also_without_scripts(
    runs: Runs, browser: Browser, board: httpx.AsyncClient, provider: Provider, scheme: str
) -> None:
    provider.enqueue(Text("long" * 5_000), Text("end"))
    context = await browser.new_context(
        base_url=str(board.base_url),
        viewport={"width": 400, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=False,
    )
    page = await context.new_page()
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "word" * 200)
        await run.result()
        asking = await runs.start("decide_once", {"title": "Roses", "pages": 12})
        for path in ("", f"/{run.id}", f"/{run.id}/calls", f"/{run.id}/transcripts/press-1", f"/{asking.id}"):
            await page.goto(f"/runs{path}")
            box = await page.locator("main").bounding_box()
            assert box is not None
            assert box["width"] <= 400, path
        await page.select_option("[name='answer.verdict']", label="stop")
        await page.fill("[name='answer.pages']", "1")
        await page.click("button:text('Answer')")
        assert await asking.result() == {"verdict": "stop", "pages": 1}


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_tool_is_approved_with_other_arguments_after_one_that_does_not_fit(
    runs: Runs, browser: Browser, board: httpx.AsyncClient, provider: Provider, ledger: Ledger, *, scripts: bool
) -> None:
    provider.enqueue(Tools((ToolCall("print_out", {"title": HOSTILE, "ledger": str(ledger.path)}),)), Text("done"))
    provider.enqueue(Text("end"))
    context = await browser.new_context(base_url=str(board.base_url), java_script_enabled=scripts)
    page = await context.new_page()
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "Roses")
        while not (await board.get(f"/runs/{run.id}")).json().get("questions"):
            await asyncio.sleep(0.05)
        await page.goto(f"/runs/{run.id}")
        await page.click("text=Change the arguments")
        title, copies = (
            page.locator("[name='answer.arguments.title']"),
            page.locator("[name='answer.arguments.copies']"),
        )
        assert (await title.input_value(), await copies.input_value()) == (HOSTILE, "1")
        await title.fill("Lilies\nand roses")
        await copies.fill("2.5")
        await page.keyboard.press("Enter")

        await page.wait_for_selector("label:has([name='answer.arguments.copies']) >> text=valid integer")
        await page.wait_for_function("document.activeElement.name === 'answer.arguments.copies'")
        if scripts:  # what changes meanwhile takes nothing away
            for act, word in (("pause", "paused"), ("resume", "waits")):
                await board.post(f"/runs/{run.id}/{act}")
                await page.wait_for_selector(f".headline:text('{word}')")
            await page.wait_for_function("document.title.startsWith('(1) ')")
        assert (await title.input_value(), await copies.input_value()) == ("Lilies\nand roses", "2.5")
        await copies.fill("3")
        await page.click("button:text('Approve')")
        await run.result()
    assert ledger.lines("printed") == [" Lilies"]
    assert ledger.lines("and roses") == [" 3 times as 1/1/0"]
