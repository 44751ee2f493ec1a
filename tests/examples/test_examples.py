"""Each example is served by its name with its scripted model, and run as its docstring says."""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

import worker
from activities.models import model
from tests.conftest import Runs
from tests.system.processes import ROOT, eventually, files_of

NAMES = ("hello", "panel", "release", "night_watch", "handbook", "cookbook")


def docstring_of(name: str) -> str:
    return ast.get_docstring(ast.parse((ROOT / f"examples/{name}.py").read_text())) or ""


def commands_of(name: str) -> tuple[list[str], list[str]]:
    """Return the words of an example's two commands: to serve it and to run it."""
    serving, running = re.findall(r"^    (\S.*(?:\\\n.*)*)", docstring_of(name), re.MULTILINE)
    return shlex.split(serving), shlex.split(running.replace("\\\n", " "))


def inputs_of(name: str) -> list[Any]:
    """Return the inputs with which an example's docstring starts it."""
    _, words = commands_of(name)
    return [json.loads(value) for word, value in itertools.pairwise(words) if word == "--input"]


@pytest.fixture
async def example(request: pytest.FixtureRequest, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """An example, served as its docstring says."""
    name: str = request.param
    setting, *words = commands_of(name)[0]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(*setting.split("=", 1))
    model.load()
    options = worker.parser().parse_args(words[2:])
    async with runs.serving(*options.module):
        yield name


def served(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [name], indirect=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_to_serve_and_how_to_run_it(name: str) -> None:
    serving, running = commands_of(name)
    assert serving == [
        f"MODEL=scripted/examples/{name}.toml",
        *("python", "worker.py", "dev", "--module", f"examples/{name}.py"),
    ]
    assert running[:2] == ["temporal", "workflow"]
    assert running[3:7] == ["--type", name, "--task-queue", "choreography"]
    assert inputs_of(name)


def test_there_is_no_example_without_a_test() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(NAMES)


@served("hello")
async def test_hello_greets(example: str, runs: Runs) -> None:
    assert await runs.execute(example, *inputs_of(example)) == "Good morning, Ada."


@served("panel")
async def test_a_panel_asks_from_each_point_of_view_and_concludes(example: str, runs: Runs) -> None:
    run = await runs.start(example, *inputs_of(example))
    assert (await run.result())["vote"] == "no"
    assert await asked_in(run) == ["Chair.conclude", *["Expert.judge"] * 3]


@served("release")
@pytest.mark.parametrize(
    ("decision", "told", "files"),
    [
        (True, "2.0 is out.", ["published/2.0.md"]),
        ({"approve": False, "reason": "not on a Friday"}, "2.0 is not out: it was not approved.", []),
    ],
)
async def test_a_release_is_published_if_it_is_approved(
    example: str, runs: Runs, workspaces: Path, decision: object, told: str, files: list[str]
) -> None:
    run = await runs.start(example, *inputs_of(example))
    await answer(run, "shorter")
    await answer(run, "good")
    await answer(run, decision)
    assert await run.result() == told
    assert [path.partition("/")[2] for path in files_of(workspaces)] == files


@served("night_watch")
async def test_a_night_watch_begins_afresh_and_ends_when_told(
    example: str, runs: Runs, client: Client, tmp_path: Path, workspaces: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "fire.txt").write_text("It burns.")
    _, _, seen, options = inputs_of(example)
    first = await runs.start(example, str(inbox), 0.01, seen, options)
    await eventually(lambda: files_of(workspaces))
    run = client.get_workflow_handle(first.id)
    async with asyncio.timeout(60):
        while (await run.describe()).run_id == first.first_execution_run_id:
            await asyncio.sleep(0.1)
    (inbox / "stop.txt").write_text("That is all.")
    assert await run.result() == ["fire.txt", "stop.txt"]
    reports = {path.rpartition("/")[2]: text.decode() for path, text in files_of(workspaces).items()}
    assert reports == {
        "fire.txt": "now: There is a fire.\n",
        "stop.txt": "tomorrow: Somebody ends the watch.\n",
    }


@served("handbook")
async def test_a_handbook_is_mended_by_its_authors_until_every_link_leads_somewhere(
    example: str, runs: Runs, workspaces: Path
) -> None:
    run = await runs.start(example, *inputs_of(example))
    assert await run.result() == ["index.md", "plants/cactus.md", "plants/fern.md"]
    assert await asked_in(run) == ["Editor.plan", *["Librarian.check_links"] * 2, *["Writer.write"] * 4]
    pages = {path.partition("/")[2]: text.decode() for path, text in files_of(workspaces).items()}
    assert pages.keys() == {"index.md", "plants/cactus.md", "plants/fern.md"}
    assert "[fern](fern.md)" in pages["plants/cactus.md"]


@served("cookbook")
async def test_a_cookbook_is_merged_from_branches_and_who_comes_second_resolves_the_contents(
    example: str, runs: Runs, workspaces: Path
) -> None:
    async with runs.serving("activities.merger"):  # as worker.py does beside what --module names
        run = await runs.start(example, *inputs_of(example))
        assert len(await run.result()) == 2
    [book] = workspaces.glob("*.repository/main")
    assert files_of(book).keys() == {"soup.md", "bread.md", "contents.md"}
    assert (book / "contents.md").read_text() == "- soup\n- bread\n"


async def asked_in(run: WorkflowHandle[Any, Any]) -> list[str]:
    """Return the methods that a run called, sorted."""
    events = (await run.fetch_history()).events
    calls = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    return sorted(call for call in calls if "." in call)


async def answer(run: WorkflowHandle[Any, Any], given: object) -> None:
    """Wait for a run's next question, and answer it."""
    async with asyncio.timeout(60):
        while not (questions := await run.query("questions")):
            await asyncio.sleep(0.05)
    await run.execute_update("answer", {"question": questions[0]["id"], "answer": given})
