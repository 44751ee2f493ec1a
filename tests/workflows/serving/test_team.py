"""Teams: workers of different modules beside each other on one server, whatever their classes are called."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

import workflows.program.sharding
import workflows.serving.queue_watch
from activities.contract.names import team_of
from tests.conftest import Runs
from tests.provider import Provider, Text
from tests.workflows.histories import Handle, count
from workflows.errors import SettingsInvalid
from workflows.serving.settings import Settings

TEAM = """
from activities import Agent, prompt, task, tool
from workflows import choreography, scatter


class Clerk(Agent):
    "You write letters."

    @task
    async def sign(self, number: int) -> str:
        "Sign."
        return "{team}"

    @tool
    def stamp(self) -> str:
        "Stamp."
        return "stamped by {team}"

    @prompt
    async def write(self, topic: str) -> str:
        "Write about {{topic}}."


class Absent(Agent):
    "Is not there."

    @task
    async def come(self) -> None:
        "Come."


@choreography(clerk=["ann"])
async def office(clerk: Clerk) -> list[str]:
    return [await clerk.sign(1), await clerk.stamp(), await clerk.write("rain"), await clerk.write("sun")]


@choreography(clerk=4)
async def sign_all(count: int, clerk: Clerk) -> list[str]:
    return sorted(set(await scatter(range(count), clerk, lambda c, number: c.sign(number))))


@choreography
async def wait_for_nobody(absent: Absent) -> None:
    await absent.come()


@choreography
async def {team}_only(clerk: Clerk) -> str:
    return await clerk.sign(1)
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two modules that have the same names in them."""
    folder = tmp_path_factory.mktemp("teams")
    files = {team: folder / f"office_of_{team}.py" for team in ("acme", "zenith")}
    for team, file in files.items():
        file.write_text(TEAM.format(team=team))
    return {team: str(file) for team, file in files.items()}


@pytest.fixture
async def both(runs: Runs, modules: dict[str, str]) -> AsyncIterator[None]:
    """Both teams, and the whole of each."""
    serve = ("choreography", "Clerk")
    async with (
        runs.serving(modules["acme"], team="acme", serve=serve),
        runs.serving(modules["zenith"], team="zenith", serve=serve),
    ):
        yield


async def start(runs: Runs, team: str, choreography: str, *inputs: Any) -> Handle:
    return await runs.client.start_workflow(
        choreography,
        args=list(inputs),
        id=f"{team}-{uuid.uuid4().hex[:8]}",
        task_queue=f"{team}.choreography",
    )


@pytest.mark.usefixtures("both")
async def test_two_teams_with_the_same_names_do_not_meet(runs: Runs, provider: Provider) -> None:
    provider.on("rain", Text("It rains."), Text("It rains."))
    provider.on("sun", Text("It shines."), Text("It shines."))
    started = {team: await start(runs, team, "office") for team in ("acme", "zenith")}
    for team, run in started.items():
        assert await run.result() == [team, f"stamped by {team}", "It rains.", "It shines."]
        assert await count(run, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0
    for team in started:
        described = await runs.client.get_workflow_handle(f"{team}.Clerk/ann").describe()
        assert described.task_queue == f"{team}.choreography"
        await runs.client.get_workflow_handle(f"{team}.Clerk/ann").terminate()


@pytest.mark.usefixtures("both")
async def test_what_one_team_has_is_not_asked_of_the_other(runs: Runs) -> None:
    for team in ("acme", "zenith"):
        run = await start(runs, team, f"{team}_only")
        assert await run.result() == team
        assert await count(run, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0


@pytest.mark.usefixtures("both")
async def test_shards_are_served_by_the_team_of_their_run(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 10)
    for team in ("acme", "zenith"):
        assert await (await start(runs, team, "sign_all", 30)).result() == [team]


async def test_a_queue_that_nobody_serves_is_told_with_its_team(
    runs: Runs, modules: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.serving.queue_watch, "LOOK_EVERY_S", 0.1)
    async with runs.serving(modules["acme"], team="acme", serve=("choreography",)):
        run = await start(runs, "acme", "wait_for_nobody")
        async with asyncio.timeout(20):
            while not (waits := (await run.query("progress"))["waits_for"]):
                await asyncio.sleep(0.05)
        await run.terminate()
    assert waits == [
        "nobody serves the task queue acme.Absent.come: 1 calls wait in it. "
        "Start a worker for it: python worker.py --team acme --serve Absent.come"
    ]


@pytest.mark.parametrize(
    ("queue", "name", "team"),
    [
        ("choreography", "choreography", ""),
        ("acme.choreography", "choreography", "acme"),
        ("Coder.write", "Coder.write", ""),
        ("acme.Coder.write", "Coder.write", "acme"),
        ("acme.Coder", "Coder", "acme"),
        ("elsewhere", "choreography", ""),
        ("achoreography", "choreography", ""),
    ],
)
def test_the_team_is_read_from_a_queue(queue: str, name: str, team: str) -> None:
    assert team_of(queue, name) == team


@pytest.mark.parametrize("team", ["a.b", "a b", "a/b", "ä", "x" * 101])
def test_a_team_that_is_no_name_is_refused(team: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"--team .*: give a name of letters"):
        Settings.read(modules=["tests.office"], bare=True, team=team)
