"""Runs that are started by nothing but the `temporal` program, as the README shows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.dev_server import DevServer
from tests.provider import Provider, Text, ToolCall, Tools
from tests.system.processes import ROOT, Workers, free_port, temporal

MY_TEAM = '''
from pydantic import BaseModel

from activities import Agent, task
from workflows import choreography, scatter


class Box(BaseModel):
    name: str
    weight_kg: float


class Load(BaseModel):
    box: Box
    by: str


class Porter(Agent):
    """You carry boxes."""

    @task
    async def carry(self, box: Box) -> Load:
        return Load(box=box, by=self.name)


@choreography(porter=2)
async def move(boxes: list[Box], porter: Porter, heaviest_kg: float = 30) -> list[Load]:
    """Carry the boxes that are not too heavy."""
    return await scatter([box for box in boxes if box.weight_kg <= heaviest_kg], porter, lambda p, box: p.carry(box))
'''

BOXES = [{"name": "books", "weight_kg": 20}, {"name": "piano", "weight_kg": 200}]


@pytest.fixture(scope="module")
async def movers(server: DevServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server on which a worker serves a team that is one file outside the project."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "my_team.py").write_text(MY_TEAM)
    started = Workers(server.address, folder)
    worker = started.start("--module", "my_team", cwd=folder)
    await worker.serves()
    yield server.address
    started.end()


async def test_a_team_in_one_file_outside_the_project_is_served_and_started(movers: str) -> None:
    code, said = await execute(movers, "move", BOXES)
    assert code == 0, said
    assert result_of(said) == [{"box": {"name": "books", "weight_kg": 20}, "by": "porter-1"}]


async def test_a_later_input_may_be_left_out_or_given(movers: str) -> None:
    _, said = await execute(movers, "move", BOXES, 500)
    assert [load["box"]["name"] for load in result_of(said)] == ["books", "piano"]


async def test_inputs_may_come_from_a_file(movers: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps(BOXES))
    code, said = await temporal(movers, *start("execute", "move"), "--input-file", str(tmp_path / "boxes.json"))
    assert code == 0
    assert '"books"' in said


async def test_a_run_that_was_started_can_be_asked_and_shown(movers: str) -> None:
    await temporal(movers, *start("start", "move"), "--workflow-id", "asked", "--input", json.dumps(BOXES))
    await temporal(movers, "workflow", "result", "--workflow-id", "asked")
    _, progress = await temporal(movers, "workflow", "query", "--workflow-id", "asked", "--type", "progress")
    _, history = await temporal(movers, "workflow", "show", "--workflow-id", "asked")
    assert '"calls_done":1' in progress.replace(" ", "")
    assert "WorkflowExecutionCompleted" in history


async def test_a_dev_server_finds_runs_by_what_they_tell_of_themselves(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "my_team.py").write_text(MY_TEAM)
    port = free_port()
    address = f"127.0.0.1:{port}"
    worker = workers.start(
        *("dev", "--bare", "--module", "my_team", "--db", str(tmp_path / "dev.db"), "--port", port),
        *("--ui-port", free_port()),
        cwd=tmp_path,
    )
    await worker.serves()
    code, said = await execute(address, "move", BOXES)
    assert code == 0, said
    query = "Choreography = 'move' AND RunStatus = 'done' AND Roles = 'porter' AND CostUsd < 5 AND FailedItems = 0"
    async with asyncio.timeout(20):
        while True:  # the list is a moment late
            _, said = await temporal(address, "workflow", "list", "--query", query, "--output", "json")
            if said.strip() != "[]":
                break
    assert [run["type"]["name"] for run in json.loads(said)] == ["move"]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (['"a box"'], "the input 'boxes' does not fit: Input should be a valid array"),
        (['[{"name": "books"}]'], "the input 'boxes' does not fit: '0.weight_kg': Field required"),
        (["[]", '"much"'], "the input 'heaviest_kg' does not fit: Input should be a valid number"),
        ([], "the input 'boxes' is missing; move takes (boxes: list[my_team.Box], heaviest_kg: float = 30"),
        (["[]", "1", "{}", "2"], "4 inputs were given, but move takes (boxes: list[my_team.Box]"),
        (
            ["[]", "1", '{"instances": {"carrier": 2}}'],
            "'instances' names the role 'carrier', but the roles are porter",
        ),
        (["[]", "1", '{"speed": 2}'], "'options' does not fit: 'speed': Extra inputs are not permitted"),
    ],
    ids=["wrong type", "wrong shape", "wrong default", "missing", "too many", "unknown role", "unknown option"],
)
async def test_an_input_that_does_not_fit_fails_the_run_at_once_and_is_named(
    movers: str, inputs: list[str], told: str
) -> None:
    given = [word for value in inputs for word in ("--input", value)]
    code, said = await temporal(movers, *start("execute", "move"), *given)
    assert code == 1
    assert told in " ".join(said.split())


async def test_the_readmes_team_does_as_it_says(
    server: DevServer, workers: Workers, provider: Provider, tmp_path: Path, workspaces: Path
) -> None:
    [code] = re.findall(r"```python\n(# my_team\.py\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "my_team.py").write_text(code)
    count = Tools((ToolCall("word_count", {"text": "First report"}),))
    provider.on("First report", count, Text('{"title": "One", "points": ["a"]}'))
    provider.on("Second report", count, Text('{"title": "Two", "points": ["b"]}'))
    worker = workers.start("--module", "my_team", PYTHONPATH=str(tmp_path))
    await worker.serves()
    code_of_exit, said = await execute(server.address, "digest", ["First report …", "Second report …"])
    assert code_of_exit == 0, said
    assert [summary["title"] for summary in result_of(said)] == ["One", "Two"]
    assert [path.read_text() for path in workspaces.glob("*/summaries.md")] == ["# One\n# Two"]


def start(how: str, choreography: str) -> list[str]:
    return ["workflow", how, "--type", choreography, "--task-queue", "choreography"]


async def execute(address: str, choreography: str, *inputs: object) -> tuple[int, str]:
    given = [word for value in inputs for word in ("--input", json.dumps(value))]
    return await temporal(address, *start("execute", choreography), *given, "--output", "json")


def result_of(said: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(said)["result"]
    return result
