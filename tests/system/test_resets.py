"""`temporal workflow reset`, and the Web UI's button: a run goes on from any of its workflow tasks, as it was there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from activities.build_team import Architect, Coder, Review, Reviewer
from activities.merger import Merger
from activities.models.scripted import Script
from activities.workspace.pytest_run import TestRun
from activities.workspace.workspace import Workspace
from tests.conftest import Runs
from tests.provider import Provider, Reply, Request, Text, ToolCall, Tools
from tests.system.resets import Histories, chain, model_calls_after, nothing_is_open, reset, tasks_of
from workflows import choreography, continue_with
from workflows.build_project import build_project

SPEC = "Build textkit."
SCRIPT = Script.load(Path(__file__).parent.parent.parent / "examples" / "textkit.toml")
BUG = "line = word[:width]"
# Of the SDK and of litellm, when a call of a run that is no more is cancelled.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Cannot find activity to cancel"),
    pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion.acompletion' was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MODULES = ("workflows.build_project", "tests.system.test_resets", "tests.workflows.council")


@choreography(coder=2, reviewer=2)
async def build_twice(
    again: bool, architect: Architect, coder: Coder, reviewer: Reviewer, merger: Merger
) -> list[Review]:
    """Build the project, and afresh once more."""
    reviews = await build_project(SPEC, architect, coder, reviewer, merger)
    return continue_with(again=False) if again else reviews


class Scripted(Provider):
    """The scripted model as a provider; reviews wait until they may go on."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.reviews_go_on = threading.Event()
        self.reviews_go_on.set()

    def _answer(self, request: Request) -> Reply:
        if "Review the module" in request.last_user:
            self.reviews_go_on.wait(60)
        reply = SCRIPT.reply(request.messages)
        calls = tuple(ToolCall(call.name, call.arguments) for call in reply.tool_calls)
        return Tools(calls, content=reply.content) if calls else Text(reply.content)


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch, provider: Provider, runs: Runs) -> AsyncIterator[Scripted]:
    """A provider that answers as the scripted model does, and a team at work whose tests take no time."""

    async def run_tests(self: Workspace, *paths: str) -> TestRun:
        failed = "tests/test_wrap.py" in paths and BUG in self.read("textkit/wrap.py")
        return TestRun(passed=not failed, output="1 FAILED" if failed else "1 passed")

    monkeypatch.setattr(Workspace, "run_tests", run_tests)
    with Scripted() as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.url)
        monkeypatch.setenv("OPENAI_API_BASE", started.url)
        async with runs.serving(*MODULES):
            yield started


async def result_after_reset(client: Client, workflow_id: str, task: tuple[str, int]) -> tuple[Any, Histories]:
    """Reset a run, and wait for its end; return its result, and of what histories it consists from the reset run on."""
    new_run = await reset(client, workflow_id, *task)
    result = await asyncio.wait_for(client.get_workflow_handle(workflow_id).result(), 60)
    histories = await chain(client, workflow_id)
    return result, histories[[run_id for run_id, _ in histories].index(new_run) :]


@pytest.mark.timeout(300)
async def test_a_run_that_has_ended_goes_on_from_each_of_its_workflow_tasks(runs: Runs, scripted: Scripted) -> None:
    run = await runs.start(build_project, SPEC)
    expected = await run.result()
    tasks = tasks_of(await chain(runs.client, run.id))
    assert len(tasks) >= 8
    for task in tasks:
        before = len(scripted.requests)
        result, histories = await result_after_reset(runs.client, run.id, task)
        assert result == expected, task
        assert len(scripted.requests) - before <= model_calls_after(histories, task[1]), task
    await nothing_is_open(runs.client, run.id)


@pytest.mark.timeout(300)
async def test_a_run_that_continued_as_new_goes_on_from_workflow_tasks_of_each_part(
    runs: Runs, scripted: Scripted
) -> None:
    run = await runs.start(build_twice, True)
    expected = await run.result()
    histories = await chain(runs.client, run.id)
    assert len(histories) == 2
    for task in [*tasks_of(histories[:1])[::5], *tasks_of(histories[1:])[::5]]:
        before = len(scripted.requests)
        result, after = await result_after_reset(runs.client, run.id, task)
        assert result == expected, task
        assert len(scripted.requests) - before <= model_calls_after(after, task[1]), task
    await nothing_is_open(runs.client, run.id)


@pytest.mark.timeout(300)
async def test_a_run_inside_a_scatter_goes_on_from_each_of_its_workflow_tasks(runs: Runs, scripted: Scripted) -> None:
    scripted.reviews_go_on.clear()
    run = await runs.start(build_project, SPEC)
    await reviewed(scripted, 2)
    tasks = tasks_of(await chain(runs.client, run.id))
    assert len(tasks) >= 4
    for task in tasks:
        seen = len(reviews_asked(scripted))
        await reset(runs.client, run.id, *task)
        await reviewed(scripted, seen + 2)
    scripted.reviews_go_on.set()
    reviews = await asyncio.wait_for(runs.client.get_workflow_handle(run.id).result(), 60)
    assert [review["verdict"] for review in reviews] == ["PASS"] * 3
    await nothing_is_open(runs.client, run.id)


def reviews_asked(scripted: Scripted) -> list[Request]:
    return [request for request in scripted.requests if "Review the module" in request.last_user]


async def reviewed(scripted: Scripted, count: int) -> None:
    """Wait until so many reviews were asked for."""
    async with asyncio.timeout(60):
        while len(reviews_asked(scripted)) < count:
            await asyncio.sleep(0.02)


async def question_of(client: Client, workflow_id: str) -> str:
    async with asyncio.timeout(30):
        while not (asked := await client.get_workflow_handle(workflow_id).query("questions")):
            await asyncio.sleep(0.02)
    return str(asked[0]["id"])


async def answer(client: Client, workflow_id: str, answer: Any) -> None:
    question = await question_of(client, workflow_id)
    await client.get_workflow_handle(workflow_id).execute_update("answer", {"question": question, "answer": answer})


PLAN = {"title": "Roses", "pages": 12}
GO = {"verdict": "go", "pages": 12}
STOP = {"verdict": "stop", "pages": 0}


async def test_a_run_with_an_open_question_asks_it_again_after_a_reset(runs: Runs, scripted: Scripted) -> None:
    run = await runs.start("decide_once", PLAN)
    await question_of(runs.client, run.id)
    for task in tasks_of(await chain(runs.client, run.id)):
        await reset(runs.client, run.id, *task)
        await question_of(runs.client, run.id)
    await answer(runs.client, run.id, GO)
    assert await runs.client.get_workflow_handle(run.id).result() == GO
    await nothing_is_open(runs.client, run.id)


async def test_a_run_whose_question_was_answered_ends_the_same_from_each_of_its_workflow_tasks(
    runs: Runs, scripted: Scripted
) -> None:
    run = await runs.start("decide_once", PLAN)
    await answer(runs.client, run.id, STOP)
    assert await run.result() == STOP
    for task in tasks_of(await chain(runs.client, run.id)):
        await reset(runs.client, run.id, *task)
        ended = asyncio.ensure_future(runs.client.get_workflow_handle(run.id).result())
        # Reset to before it was asked, it asks again; to afterwards, the server hands on the answer.
        await asyncio.wait([ended], timeout=1)
        if not ended.done():
            await answer(runs.client, run.id, STOP)
        assert await ended == STOP
    await nothing_is_open(runs.client, run.id)
