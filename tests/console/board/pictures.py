"""Take the pictures of the board that the docs show: a build and a release, wide and light, narrow and dark.

python -m tests.console.board.pictures docs
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import Browser, async_playwright
from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE, SEARCH_ATTRIBUTES
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.console.board.test_page import CHROMIUM
from tests.system.processes import ROOT, Process

SPEC = "Build textkit: a small library that wraps, slugifies and redacts texts."
CHANGES = ["scatter takes a key", "runs can be paused and resumed"]


async def pictures(folder: Path) -> None:
    """Run both, and take a picture of each while it goes on."""
    async with AsyncExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(DevServer.start(ui=False, search_attributes=SEARCH_ATTRIBUTES))
        common = {"TEMPORAL_ADDRESS": server.address, "WORKSPACES": str(base / "workspaces")}
        for name, options, model in (
            ("builders", (), "textkit"),
            ("publishers", ("--bare", "--module", "examples/release.py", "--team", "press"), "release"),
        ):
            script = f"scripted/{ROOT}/examples/{model}.toml"
            worker = Process(
                *(sys.executable, "worker.py", *options), folder=base / name, environment={**common, "MODEL": script}
            )
            stack.callback(worker.kill)
            await worker.serves()
        board = Process(
            *(sys.executable, "-m", "console", "board", "--port", "0"), folder=base / "board", environment=common
        )
        stack.callback(board.kill)
        await board.says("Board:")
        address = board.output.split()[1]
        client = await Client.connect(server.address, data_converter=data_converter)
        await client.start_workflow("build_project", SPEC, id="textkit", task_queue=CHOREOGRAPHY_QUEUE)
        await client.start_workflow("release", args=["2.0", CHANGES], id="release", task_queue="press.choreography")
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        await _take(browser, address, "runs/textkit", ".scatter", folder / "board-build")
        await _take(browser, address, "runs/release", ".question", folder / "board-question")
        release = client.get_workflow_handle("release")
        [question] = await release.query("questions")
        await release.execute_update("answer", {"question": question["id"], "answer": "good"})
        await _take(browser, address, "runs/release", ".changes summary", folder / "board-approval", unfold=True)
        await client.get_workflow_handle("textkit").result()
        await _take(browser, address, "runs/textkit/files", ".commit summary", folder / "board-files", unfold=True)
        await _take(browser, address, "runs/textkit/transcripts/coder-1", ".said", folder / "board-transcript")
        await _take(browser, address, "runs", "tbody tr", folder / "board-runs")


async def _take(browser: Browser, address: str, path: str, shown: str, file: Path, *, unfold: bool = False) -> None:
    for width, scheme in ((1600, "light"), (400, "dark")):
        context = await browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = await context.new_page()
        await page.goto(f"{address}{path}")
        await page.wait_for_selector(shown)
        if unfold:
            await page.click(shown)
        await page.screenshot(path=file.with_name(f"{file.name}-{width}-{scheme}.png"))
        await context.close()


if __name__ == "__main__":
    asyncio.run(pictures(Path(sys.argv[1])))
