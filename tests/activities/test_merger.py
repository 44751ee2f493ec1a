"""Runs whose agents work on branches: what they see of each other, what is merged, and what a fork finds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle

import workflows.program.sharding
from activities import Agent, prompt, task, tool
from activities.merger import Merger
from activities.workspace.repository import Repository
from activities.workspace.site import Site
from console.dev_server import DevServer
from console.fork import Wish, fork
from tests.conftest import Runs
from tests.provider import Provider, Text, ToolCall, Tools
from workflows import choreography, instance, scatter


class Writer(Agent):
    """You write chapters, and a line for each in the index."""

    workspace = Repository()

    @task
    def write(self, chapter: str, feedback: str = "") -> str:
        """Write a chapter; resolve what is in conflict by keeping both sides."""
        index = self.workspace.read("index") if "index" in self.workspace.list_files() else ""
        lines = [line for line in index.splitlines() if line[:7] not in ("<<<<<<<", "=======", ">>>>>>>")]
        self.workspace.write(chapter, f"{chapter} by {self.name}\n")
        self.workspace.write("index", "".join(f"{line}\n" for line in dict.fromkeys([*lines, chapter])))
        return self.name

    @tool(approve=True)
    def strike(self, chapter: str) -> str:
        """Strike a chapter out."""
        return self.workspace.write(chapter, "struck out")

    @prompt
    async def revise(self, chapter: str) -> str:
        """Revise {chapter}."""


class Reviser(Agent):
    """You revise what others wrote."""

    workspace = Repository()

    @tool
    def put(self, text: str) -> str:
        """Write the page."""
        return self.workspace.write("page", text)

    @prompt
    async def revise(self, how: str) -> str:
        """Revise the page: {how}."""


class Reader(Agent):
    """You read what was merged."""

    workspace = Repository()

    @task
    def read(self) -> dict[str, str]:
        """Read all that there is."""
        return {path: self.workspace.read(path) for path in self.workspace.list_files()}


class Clerk(Agent):
    """You keep one tree with others."""

    workspace = Repository(shared=True)

    @task
    async def add(self, line: str) -> None:
        """Add a line to a file that all add to, slowly enough for others to come between."""
        known = self.workspace.read("lines") if "lines" in self.workspace.list_files() else ""
        await asyncio.sleep(0.05)
        self.workspace.write("lines", f"{known}{line}\n")


class Printer(Agent):
    """You print pages."""

    workspace = Repository()

    @task
    def print(self, page: int) -> None:
        """Print a page."""
        self.workspace.write(f"{page}.txt", f"page {page}\n")


class Proofreader(Agent):
    """You look at what was merged, and scribble on it."""

    workspace = Repository(read_only=True)

    @task
    def count(self, page: int) -> int:
        """Count the pages, and write over one of them."""
        found = self.workspace.list_files()
        assert self.workspace.read(f"{page}.txt") == f"page {page}\n"
        for name in found:
            self.workspace.write(name, "scribbles")
        return len(found)


@choreography(printer=3, proofreader=3)
async def edition(pages: int, printer: Printer, merger: Merger, proofreader: Proofreader) -> list[int]:
    """Have pages printed and merged, and read."""
    await scatter(range(pages), printer, lambda p, page: p.print(page))
    await merger.merge(printer.name)
    return await scatter(range(pages), proofreader, lambda p, page: p.count(page))


@choreography(writer=2)
async def book(chapters: list[str], writer: Writer, merger: Merger, reader: Reader) -> list[dict[str, str]]:
    """Have chapters written and merged, and read before and after."""

    async def contribute(w: Writer, chapter: str) -> None:
        await w.write(chapter)
        while told := (await merger.merge(w.name)).open:
            await w.write(chapter, told)

    before = await reader.read()
    await scatter(chapters, writer, contribute)
    return [before, await reader.read()]


@choreography(clerk=3)
async def ledgers(lines: list[str], clerk: Clerk, reader: Reader) -> dict[str, str]:
    """Have lines added to one file."""
    await scatter(lines, clerk, lambda c, line: c.add(line))
    return await reader.read()


@choreography
async def revision(chapter: str, writer: Writer, merger: Merger, reader: Reader) -> dict[str, str]:
    """Have a chapter written and revised, by a tool that somebody approves."""
    await writer.write(chapter)
    await writer.revise(chapter)
    await merger.merge("writer")
    return await reader.read()


@choreography(reviser=2)
async def dispute(reviser: Reviser, merger: Merger, reader: Reader) -> list[str]:
    """Have two revise the same page at once, and the second one again, whatever it is told."""
    first, second = instance(reviser, "reviser-1"), instance(reviser, "reviser-2")
    await first.revise("first")
    await second.revise("second")
    await merger.merge("reviser-1")
    told = (await merger.merge("reviser-2")).open
    await second.revise("resolve")
    await merger.merge("reviser-2")
    return [told, (await reader.read())["page"]]


def site_of(run: WorkflowHandle[Any, Any], workspaces: Path) -> Site:
    return Site.of_run(workspaces, run.id, run.first_execution_run_id or "")


def authors(site: Site) -> list[str]:
    """Return the items of all commits of calls that wrote, as the log tells them."""
    told = site.git.text("log", "--no-merges", "--format=%(trailers:key=Item,valueonly,separator=)", "main")
    return sorted(line for line in told.splitlines() if line)


async def test_two_who_touch_one_file_both_come_to_main_each_commit_once(runs: Runs, workspaces: Path) -> None:
    chapters = ["a", "b", "c", "d"]
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(book, chapters)
        before, after = await run.result()
    assert before == {}
    assert sorted(after.pop("index").split()) == chapters
    assert after.keys() == set(chapters)
    site = site_of(run, workspaces)
    assert set(authors(site)) == set(chapters)
    steps = site.git.text("log", "--format=%(trailers:key=Step,valueonly,separator=)%s", "main").splitlines()
    assert len(steps) == len(set(steps))
    assert {path.name for path in site.tree("main").iterdir()} == {*chapters, "index"}


async def test_those_whose_calls_are_divided_over_workflows_work_on_their_branches_and_see_what_was_merged(
    runs: Runs, workspaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 5)
    monkeypatch.setattr(workflows.program.sharding, "CALLS_PER_SHARD", 3)
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(edition, 6)
        assert await run.result() == [6] * 6
    kinds = [event.event_type for event in (await run.fetch_history()).events]
    assert kinds.count(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED) >= 4
    site = site_of(run, workspaces)
    assert authors(site) == [str(page) for page in range(6)]
    branches = ("main", "printer-1", "printer-2", "printer-3")  # and none of who only reads
    assert site.git.references("refs/heads/").keys() == {f"refs/heads/{branch}" for branch in branches}


async def test_in_one_tree_no_line_is_lost(runs: Runs, workspaces: Path) -> None:
    lines = ["a", "b", "c", "d", "e"]
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(ledgers, lines)
        assert sorted((await run.result())["lines"].split()) == lines
    assert authors(site_of(run, workspaces)) == lines


async def test_a_fork_begins_with_each_branch_as_it_was_at_the_step(
    runs: Runs, workspaces: Path, server: DevServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(book, ["a", "b"], {"instances": {"writer": 1}})
        await run.result()
        assert await asyncio.to_thread(fork, Wish(run.id, "2.2", inputs=['["a", "z"]'])) == 0
        forked = runs.client.get_workflow_handle(f"{run.id}-fork-1")
        _, after = await forked.result()
        first = (await forked.describe()).raw_description.workflow_execution_info.first_run_id
    assert "with each branch as it was at that step" in capsys.readouterr().out
    assert (sorted(after), after["index"].split()) == (["a", "index", "z"], ["a", "z"])
    assert authors(Site.of_run(workspaces, forked.id, first)) == ["a", "z"]
    assert authors(site_of(run, workspaces)) == ["a", "b"]


async def test_a_call_that_waits_for_a_person_goes_on_with_its_files(
    runs: Runs, workspaces: Path, provider: Provider
) -> None:
    provider.enqueue(Tools((ToolCall("strike", {"chapter": "a"}),)), Text("revised"))
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(revision, "a")
        async with asyncio.timeout(60):
            while not (questions := await run.query("questions")):
                await asyncio.sleep(0.05)
        await run.execute_update("answer", {"question": questions[0]["id"], "answer": True})
        assert (await run.result())["a"] == "struck out"
    assert site_of(run, workspaces).git.references("refs/left/") == {}


async def test_a_model_is_not_let_go_before_it_has_resolved_a_conflict(
    runs: Runs, workspaces: Path, provider: Provider
) -> None:
    def puts(text: str) -> Tools:
        return Tools((ToolCall("put", {"text": text}),))

    for text in ("first\n", "second\n"):
        provider.enqueue(puts(text), Text("done"))
    provider.enqueue(Text("done already"), puts("both\n"), Text("done"))
    async with runs.serving(__name__, "activities.merger"):
        run = await runs.start(dispute)
        told, page = await run.result()
    assert "<<<<<<< main\nfirst\n=======\nsecond\n>>>>>>> reviser-2\n" in told
    assert page == "both\n"
    sent_back = [request for request in provider.requests if "both sides of a conflict" in request.last_user]
    assert len(sent_back) == 2  # after its hasty answer, and after it wrote the page
