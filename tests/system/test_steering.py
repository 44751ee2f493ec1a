"""Runs that are paused, cancelled, kept in budget and scheduled by nothing but the `temporal` program."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from console.dev_server import DevServer
from tests.conftest import Runs
from tests.provider import Provider, Slow, Text, ToolCall, Tools
from tests.system.forked import ForkedWorker
from tests.system.processes import Workers, at_work_in, eventually, is_alive, temporal
from tests.system.steered import look_twice

WITHIN_S = 5.0

NEVER = Slow(3600, Text("never"))

A_TEST_WITHOUT_END = """
import subprocess, time

def test_it():
    subprocess.Popen(["sleep", "3600"], start_new_session=True)
    time.sleep(3600)
"""


@pytest.fixture
def worker(workers: Workers, provider: Provider) -> ForkedWorker:
    """A worker process whose model is the provider."""
    return workers.fork("tests.system.steered")


# Cancel


async def test_cancelling_a_run_ends_its_model_call_within_seconds(
    worker: ForkedWorker, runs: Runs, provider: Provider
) -> None:
    provider.enqueue(Text("It looks good."), NEVER)
    run = await runs.start(look_twice, "def test_it(): pass")
    await eventually(lambda: len(provider.requests) == 2)

    await cancelled(run)

    assert children_of(worker.pid) == []


async def test_cancelling_a_run_ends_the_processes_that_a_tool_has_started(
    worker: ForkedWorker, runs: Runs, provider: Provider, workspaces: Path
) -> None:
    provider.enqueue(Tools((ToolCall("run_tests", {"paths": ["test_it.py"]}),)))
    run = await runs.start(look_twice, A_TEST_WITHOUT_END)
    await eventually(lambda: len(at_work(workspaces)) == 2)
    pids = at_work(workspaces)
    assert all(is_alive(pid) for pid in pids)

    await cancelled(run)

    assert not any(is_alive(pid) for pid in pids)
    assert children_of(worker.pid) == []
    assert (await run.query("progress"))["usage"]["model_calls"] == 1


@pytest.mark.usefixtures("worker")
async def test_a_cancelled_run_ends_its_conversations_and_keeps_what_was_written(
    client: Client, runs: Runs, provider: Provider, workspaces: Path
) -> None:
    provider.enqueue(Text("It looks good."), NEVER)
    run = await runs.start(look_twice, "def test_it(): pass")
    await eventually(lambda: len(provider.requests) == 2)

    await cancelled(run)

    conversation = client.get_workflow_handle(f"{run.id}/tester-1")
    await conversation.result()
    assert "It looks good." in json.dumps(await conversation.query("transcript"))
    assert [path.read_text() for path in workspaces.glob("*/test_it.py")] == ["def test_it(): pass"]


async def cancelled(run: WorkflowHandle[Any, Any]) -> None:
    """Cancel a run, and see to it that it ends in time."""
    before = time.monotonic()
    await run.cancel()
    while (await run.describe()).status == WorkflowExecutionStatus.RUNNING:
        assert time.monotonic() - before < WITHIN_S
    assert (await run.describe()).status == WorkflowExecutionStatus.CANCELED


def at_work(workspaces: Path) -> list[int]:
    return [pid for folder in workspaces.glob("*") for pid in at_work_in(folder)]


def children_of(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


# Budget


async def test_500_calls_of_a_cent_by_100_instances_stay_within_a_dollar_until_it_is_raised(
    server: DevServer, workers: Workers, runs: Runs, a_cent_a_call: str
) -> None:
    workers.fork("tests.system.steered", MODEL=a_cent_a_call)
    run = await runs.start("write_all", 500, {"budget": {"usd": 1}})
    await until_it_says(run, "budget: 1.00 of 1.00 USD spent")
    async with asyncio.timeout(60):  # child workflows tell only now and then what they have used
        while (spent := (await run.query("progress"))["usage"]["cost_usd"]) < 0.995:
            await asyncio.sleep(0.2)
    assert spent == pytest.approx(1.0)

    code, said = await update(server, run.id, "set_budget", '{"usd": 0.5}')
    assert code != 0
    assert "'usd': 0.50 is not more than the 1.00 USD that are spent" in said
    code, said = await update(server, run.id, "set_budget", '{"usd": 6}')
    assert code == 0, said

    assert await run.result() == 500
    assert (await run.query("progress"))["usage"]["cost_usd"] == pytest.approx(5.0)


@pytest.fixture
def a_cent_a_call(tmp_path: Path) -> str:
    """A scripted model whose answers cost 0.01 USD each."""
    script = tmp_path / "cents.toml"
    script.write_text(
        'delay = 0.05\nprice = { output_per_million = 10_000 }\n[[entry]]\nwhen = "Write"\n'
        '[[entry.turns]]\nanswer = "word"\n'
    )
    return f"scripted/{script}"


# Pause


@pytest.mark.usefixtures("worker")
async def test_a_run_is_paused_and_resumed_from_the_command_line(
    server: DevServer, runs: Runs, provider: Provider
) -> None:
    provider.enqueue(Slow(0.5, Text("Fine.")), Text("Still fine."))
    run = await runs.start(look_twice, "def test_it(): pass")
    code, said = await update(server, run.id, "pause")
    assert code == 0, said
    code, said = await update(server, run.id, "pause")
    assert code != 0
    assert "the run is paused already" in said
    code, said = await update(server, run.id, "resume")
    assert code == 0, said
    assert await run.result() == ["Fine.", "Still fine."]


# Schedules


async def test_a_choreography_runs_on_a_schedule(server: DevServer, workers: Workers, a_cent_a_call: str) -> None:
    workers.fork("tests.system.steered", MODEL=a_cent_a_call)
    inputs = ("--input", "3", "--input", '{"instances": {"writer": 2}, "budget": {"usd": 1}, "tags": ["nightly"]}')
    code, said = await temporal(
        server.address,
        *("schedule", "create", "--schedule-id", "nightly", "--cron", "0 3 * * *", "--overlap-policy", "Skip"),
        *("--type", "write_all", "--task-queue", "choreography", "--workflow-id", "nightly", *inputs),
    )
    assert code == 0, said

    code, said = await temporal(server.address, "schedule", "trigger", "--schedule-id", "nightly")

    assert code == 0, said
    run = await the_run(server, "nightly")
    code, said = await temporal(server.address, "workflow", "result", "--workflow-id", run, "--output", "json")
    assert code == 0, said
    assert json.loads(said)["result"] == 3
    code, said = await temporal(server.address, "schedule", "delete", "--schedule-id", "nightly")
    assert code == 0, said


async def the_run(server: DevServer, schedule: str) -> str:
    """Return the workflow id of the run that a schedule has started."""
    for _ in range(100):
        _, said = await temporal(server.address, "schedule", "describe", "--schedule-id", schedule, "--output", "json")
        actions = json.loads(said)["info"].get("recentActions", [])
        if actions:
            workflow_id: str = actions[0]["startWorkflowResult"]["workflowId"]
            return workflow_id
    raise AssertionError(f"the schedule {schedule} has started nothing")


async def update(server: DevServer, run: str, name: str, *inputs: str) -> tuple[int, str]:
    given = [word for value in inputs for word in ("--input", value)]
    return await temporal(
        server.address, *("workflow", "update", "execute", "--workflow-id", run, "--name", name), *given
    )


async def until_it_says(run: WorkflowHandle[Any, Any], what: str) -> None:
    """Wait until a run says what it waits for."""
    deadline = time.monotonic() + 60
    while not any(what in wait for wait in (await run.query("progress"))["waits_for"]):
        assert time.monotonic() < deadline, await run.query("progress")
