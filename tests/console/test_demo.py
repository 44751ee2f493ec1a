"""`python -m console demo`, as `make demo` runs it, in a tree whose path has a space."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.processes import ROOT, Process, files_of, is_alive, is_listening, without_delays

PARTS = ("activities", "workflows", "console", "examples", "worker.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project at a path with a space, whose scripted model answers at once."""
    folder = tmp_path_factory.mktemp("tree") / "my projects"
    folder.mkdir()
    for part in PARTS:
        copy: Callable[[Path, Path], object] = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    without_delays(folder / "examples" / "textkit.toml")
    return folder


@dataclass(frozen=True)
class Demos:
    """Two demos that ran beside each other, both over: one was left alone, the other one's worker was killed."""

    undisturbed: Process
    disturbed: Process


@pytest.fixture(scope="module")
async def demos(tree: Path) -> AsyncIterator[Demos]:
    demos = Demos(start_demo(tree, tree / "undisturbed"), start_demo(tree, tree / "disturbed"))
    try:
        await demos.disturbed.says("✓ implement_module")
        os.kill(worker_of(demos.disturbed), signal.SIGKILL)
        await demos.undisturbed.exit_code()
        await demos.disturbed.exit_code()
        yield demos
    finally:
        demos.undisturbed.kill()
        demos.disturbed.kill()


async def test_it_ends_well_and_says_where_files_history_and_ui_are(demos: Demos, tree: Path) -> None:
    demo = demos.undisturbed
    assert await demo.exit_code() == 0, demo.errors
    assert "scripted" in demo.output
    assert "NEEDS_FIXES" in demo.output
    assert "All 3 modules passed review" in demo.output
    assert "The tests passed." in demo.output
    assert len(library(demo, tree)) == 7
    assert (tree / told("History:", demo).partition(";")[0]).is_file()
    assert re.match(r"http://127.0.0.1:\d+/namespaces/default/workflows/textkit/", told("Web UI:", demo))


async def test_a_killed_worker_changes_nothing_of_what_it_builds(demos: Demos, tree: Path) -> None:
    demo = demos.disturbed
    assert await demo.exit_code() == 0, demo.errors
    assert re.search(r"worker \d+ died \(exit code -9\); started another one, \d+: the run goes on", demo.output)
    assert library(demo, tree) == library(demos.undisturbed, tree)


async def test_its_last_words_open_the_run_again(demos: Demos, tree: Path, tmp_path: Path) -> None:
    command = demos.undisturbed.output.rstrip().splitlines()[-1]
    again = Process("sh", "-c", f"exec env {command}", folder=tmp_path / "again", cwd=tree)
    try:
        await again.serves()
    finally:
        again.kill()


async def test_ctrl_c_stops_all_that_it_started(tree: Path, tmp_path: Path) -> None:
    demo = start_demo(tree, tmp_path / "demo")
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


def start_demo(tree: Path, folder: Path) -> Process:
    return Process(sys.executable, "-m", "console", "demo", folder=folder, cwd=tree, environment={"MODEL": ""})


def told(name: str, demo: Process) -> str:
    """Return what follows a name in the demo's output."""
    found = re.search(rf"^{name} +(\S.*)$", demo.output, re.MULTILINE)
    assert found, demo.output
    return found[1]


def worker_of(demo: Process) -> int:
    return int(told("Worker:", demo).split()[1].rstrip(";"))


def library(demo: Process, tree: Path) -> dict[str, bytes]:
    return files_of(tree / told("Files:", demo))
