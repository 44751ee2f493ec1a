"""Take a run from its start to its fork in a real browser, without a shell, and a picture of each step.

python -m tests.console.board.walk /tmp/pictures
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Page, async_playwright

from activities.contract.names import SEARCH_ATTRIBUTES
from console.dev_server import DevServer
from tests.console.board.test_page import CHROMIUM
from tests.system.processes import ROOT, Process

INPUTS = '"2.0"\n["scatter takes a key", "runs can be paused and resumed"]\n{"budget": {"calls": 2}}'


class Walk:
    """Goes through the board as a person does, and looks at each step at two widths, in the light and in the dark."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self.steps = 0
        self.pictures = 0
        self.wrong: list[str] = []
        self._folder = folder
        page.on("console", lambda message: self._tell(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))

    def _tell(self, said: str) -> None:
        if "status of 409" not in said:  # which is how a browser tells that a form was not taken
            self.wrong.append(said)

    async def look(self, name: str) -> None:
        """Take pictures of what is to be seen, and check that nothing is wider than the screen."""
        self.steps += 1
        for width in (1600, 400):
            await self.page.set_viewport_size({"width": width, "height": 900})
            wide = await self.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                self.wrong.append(f"{name}: {wide} pixels wide on a screen of {width}")
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                file = self._folder / f"{self.steps:02}-{name}-{width}-{scheme}.png"
                await self.page.screenshot(path=file, full_page=True)
                self.pictures += 1
        await self.page.set_viewport_size({"width": 1600, "height": 900})
        print(f"{self.steps:2} {name}", flush=True)

    async def go(self) -> None:
        """Start a run, answer, raise its budget, approve with changes, and fork it."""
        page = self.page
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.click("text=Start a run")
        await page.fill("[name=choreography]", "release")
        await page.fill("[name=inputs]", INPUTS)
        await page.fill("[name=id]", "release-2.0")
        await self.look("start")
        await page.click("button:text('Start')")

        await page.wait_for_selector("text=editor-1 is asked: Editor.read")
        await self.look("question")
        await page.click("button:text('shorter')")
        await page.wait_for_selector("text=Are these notes good? scatter takes a key.")
        await page.click("button:text('good')")

        await page.wait_for_selector("text=The budget is spent")
        await self.look("budget")
        await page.click("button:text('Raise the budget')")

        await page.wait_for_selector("text=anyone is asked: Publisher.publish")
        await self.look("approval")
        await page.click("text=Change the arguments")
        await page.fill("[name='answer.arguments.notes']", "A scatter takes a key.\nRuns can be paused.")
        await page.fill("[name='answer.reason']", "x" * 5_000)
        await page.click("button:text('Approve with changes')")
        await page.wait_for_selector("text=at most 4000 characters")
        await self.look("approval-refused")
        await page.fill("[name='answer.reason']", "One thing in each line.")
        await page.click("button:text('Approve')")
        await page.wait_for_selector(".headline:text('done')")
        await self.look("done")

        await page.click("text=publisher-1")
        await page.wait_for_selector("text=has changed this call")
        await self.look("transcript")
        await page.go_back()
        await page.click("text=All calls")
        await page.wait_for_selector("text=was approved with changes")
        await self.look("calls")
        await page.click("tr:has-text('announce') >> nth=0 >> button:text('Fork here')")
        await page.wait_for_url("**/runs/release-2.0-fork-1")
        await page.wait_for_selector("text=anyone is asked: Publisher.publish")
        await page.fill("[name='answer.reason']", "Not on a Friday.")
        await page.click("button:text('Refuse')")
        await page.wait_for_selector(".headline:text('done')")
        await self.look("forked")
        await page.click("nav >> text=Runs")
        await page.wait_for_selector("tbody tr")
        await self.look("runs")


async def walk(folder: Path) -> int:
    """Go; return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(DevServer.start(ui=False, search_attributes=SEARCH_ATTRIBUTES))
        common = {"TEMPORAL_ADDRESS": server.address, "WORKSPACES": str(base / "workspaces")}
        script = {**common, "MODEL": f"scripted/{ROOT}/examples/release.toml"}
        served = (sys.executable, "worker.py", "--bare", "--module", "examples/release.py", "--allow-unsandboxed")
        worker = Process(*served, folder=base / "worker", environment=script)
        stack.callback(worker.kill)
        await worker.serves()
        board = Process(
            *(sys.executable, "-m", "console", "board", "--port", "0"), folder=base / "board", environment=common
        )
        stack.callback(board.kill)
        await board.says("Board:")
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(base_url=board.output.split()[1])
        walked = Walk(await context.new_page(), folder)
        await walked.page.goto("/runs")
        await walked.go()
    print(f"walked {walked.steps} steps, {walked.pictures} pictures, wrong: {len(walked.wrong)}")
    for told in walked.wrong:
        print(f"  {told}")
    return int(bool(walked.wrong))


if __name__ == "__main__":
    sys.exit(asyncio.run(walk(Path(sys.argv[1]))))
