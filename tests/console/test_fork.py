from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from activities import Agent, prompt, task
from activities.workspace.workspace import Workspace
from console.dev_server import DevServer
from console.fork import Wish, fork
from tests.conftest import Runs
from tests.provider import Provider, Request, Text
from workflows import choreography, continue_with, scatter

pytestmark = pytest.mark.usefixtures("here")


class Poet(Agent):
    """You write verses."""

    @prompt
    async def write(self, about: str) -> str:
        """Write about {about}."""


class Clerk(Agent):
    """You keep files."""

    @task
    def file(self, text: str) -> str:
        """Write into the run's folder."""
        return self.workspace.write(f"{text[:20]}.txt", text)

    @task
    def files(self) -> list[str]:
        """List the run's folder."""
        return self.workspace.list_files()


@choreography
async def compose(first: str, second: str, poet: Poet, clerk: Clerk) -> list[str]:
    """Write two verses, and file each of them."""
    verses = []
    for about in (first, second):
        verses.append(await poet.write(about))
        await clerk.file(verses[-1])
    return [*verses, *await clerk.files()]


@choreography(poet=2)
async def anthology(subjects: list[str], poet: Poet) -> list[str]:
    """Write about each subject, then about them all."""
    verses = await scatter(subjects, poet, lambda p, about: p.write(about))
    return [*verses, await poet.write(" and ".join(subjects))]


@choreography
async def rounds(number: int, poet: Poet) -> str:
    """Write a verse, and begin afresh, up to the third round."""
    verse = await poet.write(f"round {number}")
    return continue_with(number + 1) if number < 3 else await poet.write(f"after {verse}")


def verse(request: Request) -> Text:
    return Text(f"{request.model}: verse {sum(m['role'] == 'user' for m in request.messages)}")


@pytest.fixture
def here(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the console talk to the tests' server."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)


@pytest.fixture
def poets(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[Provider]:
    """A provider whose answers tell by whom, and after how many requests, they were given."""
    with Provider(verse) as started:
        monkeypatch.setenv("OPENAI_BASE_URL", started.url)
        monkeypatch.setenv("OPENAI_API_BASE", started.url)
        yield started


async def forked(runs: Runs, run: WorkflowHandle[Any, Any], step: str, **wish: Any) -> WorkflowHandle[Any, Any]:
    """Fork a run at the console, which is a program of its own with a loop of its own."""
    assert await asyncio.to_thread(fork, Wish(run.id, step, **wish)) == 0
    return runs.client.get_workflow_handle(f"{run.id}-fork-1")


async def test_a_fork_takes_over_what_came_before_the_step_and_asks_another_model_from_there(
    runs: Runs, poets: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        assert (await run.result())[:2] == ["any: verse 1", "any: verse 2"]
        fork_of_it = await forked(runs, run, "3", models=["poet=openai/other"])
        written = await fork_of_it.result()
    assert written[:2] == ["any: verse 1", "other: verse 2"]
    assert [request.model for request in poets.requests] == ["any", "any", "other"]
    assert [m["content"] for m in poets.requests[-1].messages[1:]] == [
        "Write about rain.",
        "any: verse 1",
        "Write about snow.",
    ]
    assert "2 results are taken over" in capsys.readouterr().out


async def test_the_run_that_was_forked_and_its_conversations_stay_as_they_are(runs: Runs, poets: Provider) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        before = await runs.client.get_workflow_handle(f"{run.id}/poet-1").query("transcript")
        fork_of_it = await forked(runs, run, "3")
        await fork_of_it.result()
        assert await runs.client.get_workflow_handle(f"{run.id}/poet-1").query("transcript") == before
        own = await runs.client.get_workflow_handle(f"{fork_of_it.id}/poet-1").query("transcript")
        assert [entry["content"] for entry in own["entries"]] == ["Write about snow.", "any: verse 2"]


async def test_a_fork_has_a_copy_of_the_workspace(
    runs: Runs, poets: Provider, workspaces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        fork_of_it = await forked(runs, run, "3", models=["poet=openai/other"])
        assert (await fork_of_it.result())[2:] == ["any: verse 1.txt", "any: verse 2.txt", "other: verse 2.txt"]
    first = run.first_execution_run_id or ""
    assert Workspace.of_run(workspaces, run.id, first).list_files() == ["any: verse 1.txt", "any: verse 2.txt"]
    assert "as it is now" in capsys.readouterr().out


async def test_a_run_that_goes_on_is_forked_inside_of_a_scatter(runs: Runs, poets: Provider) -> None:
    async with runs.serving(__name__):
        run = await runs.start(anthology, ["rain", "snow", "fog"])
        await run.result()
        fork_of_it = await forked(runs, run, "1.3.1", models=["poet=openai/other"])
        written = await fork_of_it.result()
    asked = [request.last_user for request in poets.requests if request.model == "other"]
    assert "Write about fog." in asked
    assert "Write about rain and snow and fog." in asked
    assert len(written) == 4


async def test_a_fork_after_beginning_afresh_remembers_the_earlier_rounds(runs: Runs, poets: Provider) -> None:
    async with runs.serving(__name__):
        run = await runs.start(rounds, 1)
        await run.result()
        fork_of_it = await forked(runs, run, "p3.2", models=["poet=openai/other"])
        assert await fork_of_it.result() == "other: verse 4"


async def test_other_inputs_that_change_what_came_before_are_told(
    runs: Runs, poets: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        assert await asyncio.to_thread(fork, Wish(run.id, "3", inputs=['"hail"', '"snow"'])) == 2
    told = capsys.readouterr().err
    assert "has failed at once" in told
    assert "step 1 expected Poet.write by poet-1 (rain)" in told


@pytest.mark.parametrize(("step", "asked_again"), [("1", 3), ("1.2", 2), ("2", 1)])
async def test_a_scatter_is_done_again_from_its_own_number_or_from_an_item_of_it(
    runs: Runs, poets: Provider, step: str, asked_again: int
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(anthology, ["rain", "snow"], {"instances": {"poet": 1}})
        await run.result()
        await (await forked(runs, run, step, models=["poet=openai/other"])).result()
    assert [request.model for request in poets.requests] == ["any"] * 3 + ["other"] * asked_again


async def test_other_inputs_that_change_only_what_comes_are_used(runs: Runs, poets: Provider) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        fork_of_it = await forked(runs, run, "3", inputs=['"rain"', '"hail"'])
        await fork_of_it.result()
    assert poets.requests[-1].last_user == "Write about hail."


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (Wish("", "99"), "has begun no step '99'"),
        (Wish("", "3", models=["poet"]), "write ROLE=MODEL"),
        (Wish("", "3", inputs=["rain"]), "is not JSON"),
        (Wish("no-such-run", "3"), "there is no run 'no-such-run'"),
    ],
)
async def test_what_can_not_be_forked_is_said(
    runs: Runs, poets: Provider, capsys: pytest.CaptureFixture[str], wish: Wish, told: str
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        asked = Wish(wish.workflow_id or run.id, wish.step, wish.models, wish.inputs)
        assert await asyncio.to_thread(fork, asked) == 2
    assert told in capsys.readouterr().err


async def test_an_id_that_is_taken_is_said_and_the_next_free_one_is_chosen_where_none_is_given(
    runs: Runs, poets: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    async with runs.serving(__name__):
        run = await runs.start(compose, "rain", "snow")
        await run.result()
        await (await forked(runs, run, "3")).result()
        assert await asyncio.to_thread(fork, Wish(run.id, "3", new_id=f"{run.id}-fork-2")) == 0
        second = runs.client.get_workflow_handle(f"{run.id}-fork-2")
        await second.result()
        assert (await second.describe()).status == WorkflowExecutionStatus.COMPLETED
