"""`build_project` by the scripted model, two at once and as the demo runs it: files are really written and tested."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.workspace.isolation import isolation_in_words
from console.dev_server import DevServer
from tests.system.processes import ROOT, Process, Workers, files_of, is_alive, is_listening

PARTS = ("activities", "workflows", "console", "examples", "worker.py")
LIBRARY = {
    "textkit/__init__.py",
    *(f"{place}{name}.py" for name in ("redact", "slugify", "wrap") for place in ("textkit/", "tests/test_")),
}


@dataclass(frozen=True)
class Build:
    """What came of a run of `build_project`."""

    reviews: list[dict[str, str]]
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project at a path with a space, whose scripted model answers at once."""
    folder = tmp_path_factory.mktemp("tree") / "my projects"
    folder.mkdir()
    for part in PARTS:
        copy: Callable[[Path, Path], object] = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    script = folder / "examples" / "textkit.toml"
    script.write_text(re.sub(r"(?m)^delay = .*\n", "", script.read_text()))
    return folder


@pytest.fixture(scope="module")
async def builds(server: DevServer, client: Client, tree: Path) -> list[Build]:
    """Two builds that ran at once, undisturbed."""
    workers = Workers(server.address, tree / "processes")
    workspaces = tree / "workspaces"
    ids = ("one", "other")
    try:
        workers.start(MODEL=f"scripted/{tree}/examples/textkit.toml", WORKSPACES=str(workspaces))
        runs = [
            client.execute_workflow("build_project", "textkit", id=name, task_queue=CHOREOGRAPHY_QUEUE) for name in ids
        ]
        reviews = await asyncio.gather(*runs)
    finally:
        workers.end()
    return [
        Build(review, files_of(next(workspaces.glob(f"{name}-*.repository/main"))))
        for name, review in zip(ids, reviews, strict=True)
    ]


class Demo(Process):
    """A demo that somebody listens to."""

    def __init__(self, tree: Path, folder: Path, *options: str, model: str = "") -> None:
        # The profile would be an error if the demo asked for it.
        environment = {"MODEL": model, "TEMPORAL_PROFILE": "somebody's own"}
        super().__init__(
            *(sys.executable, "-m", "console", "demo", *options), folder=folder, cwd=tree, environment=environment
        )
        self.silences: list[float] = []
        self._listening = asyncio.create_task(self._listen())

    @property
    def longest_silence(self) -> float:
        """Seconds, until the end; less on a machine that has more to do than it has cores, and delays everybody."""
        assert self._listening.done()
        return max(self.silences)

    async def exit_code(self) -> int:
        await self._listening
        return await super().exit_code()

    def kill(self) -> None:
        self._listening.cancel()
        super().kill()

    async def _listen(self) -> None:
        last, heard, runs = time.monotonic(), "", True
        while runs:
            await asyncio.sleep(0.02)
            runs, output = self.is_running, self.output
            if output != heard or not runs:
                overload = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
                now = time.monotonic()
                self.silences.append((now - last) / overload)
                last, heard = now, output


@pytest.fixture(scope="module")
async def demo(tree: Path) -> AsyncIterator[Demo]:
    """A demo whose worker was killed in the middle, and which is over."""
    demo = Demo(tree, tree / "demo")
    try:
        await demo.says("✓ implement_module")
        os.kill(worker_of(demo), signal.SIGKILL)
        await demo.exit_code()
        yield demo
    finally:
        demo.kill()


def test_two_builds_at_once_never_mix(builds: list[Build]) -> None:
    one, other = builds
    assert one == other
    assert [review["verdict"] for review in one.reviews] == ["PASS", "PASS", "PASS"]
    assert one.files.keys() == LIBRARY


async def test_a_demo_ends_well_also_when_its_worker_is_killed(demo: Process) -> None:
    assert await demo.exit_code() == 0, demo.errors
    assert re.search(r"worker \d+ died \(exit code -9\); started another one, \d+: the run goes on", demo.output)
    assert re.search(r"✓ review_module .*: NEEDS_FIXES", demo.output)
    assert "All 3 modules passed review" in demo.output
    assert "The tests passed." in demo.output


def test_a_killed_worker_changes_nothing_of_what_is_built(demo: Process, tree: Path, builds: list[Build]) -> None:
    assert files_of(tree / told("Files:", demo)) == builds[0].files


async def test_the_repository_of_a_demo_tells_who_did_what(demo: Demo, tree: Path, tmp_path: Path) -> None:
    log = Process("sh", "-c", told("Who did it:", demo), folder=tmp_path / "log", cwd=tree)
    assert await log.exit_code() == 0, log.errors
    assert re.search(r"Author: coder-\d <coder-\d@run>", log.output)
    assert re.search(r"implement_module: textkit/wrap\.py\n.*\n.*Run: textkit\n.*Step: 3\.2\.1\n", log.output)
    assert len(re.findall(r"Merge coder-\d: ", log.output)) == 4
    assert (tree / told("Repository:", demo)).is_dir()


def test_a_demo_says_where_the_history_and_the_ui_are(demo: Process, tree: Path) -> None:
    assert (tree / told("History:", demo).partition(";")[0]).is_file()
    assert re.match(r"http://127\.0\.0\.1:\d+/namespaces/default/workflows/textkit/", told("Web UI:", demo))


def test_a_demo_says_in_one_line_what_isolates_the_code_of_models(demo: Process) -> None:
    [line] = [line for line in demo.output.splitlines() if line.startswith("Sandbox: ")]
    assert line == isolation_in_words(allow_unsandboxed=True)


def test_a_demo_is_never_silent_for_more_than_two_seconds(demo: Demo) -> None:
    assert demo.longest_silence < 2
    assert "… waiting for the worker, which imports litellm first" in demo.output


async def test_a_demo_is_not_silent_while_a_model_thinks_nor_while_it_stops(tree: Path, tmp_path: Path) -> None:
    slow = tree / "examples" / "slow.toml"
    slow.write_text(f"delay = 60\n{(tree / 'examples' / 'textkit.toml').read_text()}")
    demo = Demo(tree, tmp_path / "demo", model="scripted/examples/slow.toml")
    try:
        await demo.says("… waiting for architect-1 (plan_modules ")
        await asyncio.sleep(3)
        demo.interrupt()
        assert await demo.exit_code() == 130
        assert demo.longest_silence < 2
    finally:
        demo.kill()


async def test_a_demos_last_words_open_the_run_again_with_its_page_and_its_calls(
    demo: Demo, tree: Path, tmp_path: Path
) -> None:
    opens, page, shows, kills = what_to_try_next(demo)
    again = Process("sh", "-c", f"exec env {opens}", folder=tmp_path / "again", cwd=tree)
    try:
        await again.serves()
        assert page == told("Web UI:", demo)
        assert is_listening(page.split("/")[2].partition(":")[2])
        show = Process("sh", "-c", shows, folder=tmp_path / "show", cwd=tree)
        assert await show.exit_code() == 0, show.errors
        assert re.search(r"coder-\d +implement_module", show.output)
        assert told("Repository:", show) == told("Repository:", demo)
    finally:
        again.kill()
    assert kills.endswith(" -m console demo --kill")


async def test_a_demo_kills_its_worker_in_the_middle_if_asked_to(demo: Demo, tree: Path, tmp_path: Path) -> None:
    options = what_to_try_next(demo)[-1].partition(" -m console demo ")[2]
    killing = Demo(tree, tmp_path / "demo", options)
    try:
        await killing.says("kill -9 of the worker, in the middle of coder-")
        await killing.says(f"worker {worker_of(killing)} died (exit code -9); started another one")
        killing.interrupt()
        assert await killing.exit_code() == 130
    finally:
        killing.kill()


async def test_ctrl_c_stops_all_that_a_demo_started(tree: Path, tmp_path: Path) -> None:
    demo = Demo(tree, tmp_path / "demo")
    try:
        await demo.says("plan_modules")
        port = told("Web UI:", demo).split("/")[2].partition(":")[2]
        assert is_alive(worker_of(demo))
        assert is_listening(port)
        demo.interrupt()
        assert await demo.exit_code() == 130
        assert "Stopped. The run is kept" in demo.output
        assert not is_alive(worker_of(demo))
        assert not is_listening(port)
        assert demo.errors == ""
    finally:
        demo.kill()


async def test_a_demo_whose_worker_cannot_start_says_why(tree: Path, tmp_path: Path) -> None:
    broken = tree / "activities" / "broken.py"
    broken.write_text("import not_installed\n")
    demo = Demo(tree, tmp_path / "demo")
    try:
        assert await demo.exit_code() == 2
        assert "No module named 'not_installed' (at broken.py:1)" in demo.errors
    finally:
        broken.unlink()
        demo.kill()


async def test_a_demo_tells_in_one_line_what_is_missing_where_there_is_no_git(tree: Path, tmp_path: Path) -> None:
    before = set((tree / ".demo").glob("*"))
    demo = Process(
        *(sys.executable, "-m", "console", "demo"),
        folder=tmp_path / "demo",
        cwd=tree,
        environment={"PATH": str(tmp_path)},
    )
    assert await demo.exit_code() == 2
    assert re.fullmatch(
        r"demo: There is no git here, .* Install git 2\.38 or later \(apt-get install git\).*\n", demo.errors
    )
    assert set((tree / ".demo").glob("*")) == before


def what_to_try_next(demo: Demo) -> list[str]:
    """Return the last words of a demo: what opens the run again, its page, what shows its calls, a kill."""
    return re.findall(r"^  (\S.*)$", demo.output.partition("\nWhat to try next.")[2], re.MULTILINE)


def told(name: str, demo: Process) -> str:
    """Return what follows a name in the demo's output."""
    found = re.search(rf"^{name} +(\S.*)$", demo.output, re.MULTILINE)
    assert found, demo.output
    return found[1]


def worker_of(demo: Process) -> int:
    return int(told("Worker:", demo).split()[1].rstrip(";"))
