from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import RawValue, WorkflowIDConflictPolicy

import workflows.engine.lifetime
import workflows.program.sharding
from activities.contract.names import CHOREOGRAPHY_QUEUE
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.engine.test_run import details, until
from tests.workflows.histories import refusal_of
from workflows import choreography, scatter

pytestmark = pytest.mark.usefixtures("served")


@choreography(worker=3)
async def wait_for_each(items: list[str], worker: Worker) -> list[str]:
    """Wait for every item."""
    return await scatter(items, worker, lambda w, item: w.wait(item))


async def test_a_paused_run_makes_no_new_calls_and_lets_those_that_run_end(runs: Runs) -> None:
    run = await runs.start(wait_for_each, ["a", "b", "c", "d", "e"])
    await diary.wait_for(run.id, "begin", 3)

    assert await run.execute_update("pause") == "paused: no new calls are made; those that run may end"
    diary.gate(run.id).set()
    await diary.wait_for(run.id, "end", 3)
    await until(run, lambda progress: progress["calls_done"] == 3)

    assert sorted(diary.items(run.id, "begin")) == ["a", "b", "c"]
    assert (await run.query("progress"))["calls_running"] == 0


async def test_a_paused_run_waits_for_a_person_to_resume_it_and_says_so(runs: Runs) -> None:
    run = await runs.start(wait_for_each, ["a"])
    await diary.wait_for(run.id, "begin")
    await run.execute_update("pause")

    [waits_for] = (await run.query("progress"))["waits_for"]

    assert waits_for.startswith("paused since ")
    assert waits_for.endswith(f"go on: temporal workflow update execute --workflow-id {run.id} --name resume")
    assert waits_for in await details(run)


async def test_a_resumed_run_goes_on_to_its_end(runs: Runs) -> None:
    run = await runs.start(wait_for_each, ["a", "b", "c", "d", "e"])
    diary.gate(run.id).set()
    await run.execute_update("pause")
    assert await run.execute_update("resume") == "resumed"
    assert len(await run.result()) == 5
    assert (await run.query("progress"))["waits_for"] == []


async def test_a_run_that_is_paused_just_when_it_continues_as_new_is_paused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 10)
    first = await runs.start(wait_for_each, ["a", "b", "c", "d"])
    diary.gate(first.id).set()
    await first.result()
    history = await runs.client.get_workflow_handle(first.id).fetch_history()
    carried = history.events[0].workflow_execution_started_event_attributes.input.payloads
    begins = WithStartWorkflowOperation[Any, Any](
        "wait_for_each",
        args=[RawValue(payload) for payload in carried],
        id=f"{first.id}-again",
        task_queue=CHOREOGRAPHY_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    await runs.client.execute_update_with_start_workflow("pause", start_workflow_operation=begins)
    again = await begins.workflow_handle()
    assert (await again.query("progress"))["waits_for"][0].startswith("paused since ")
    await again.execute_update("resume")
    diary.gate(again.id).set()
    assert len(await again.result()) == 4


async def test_the_child_workflows_of_a_run_are_paused_with_it(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 5)
    run = await runs.start(wait_for_each, list("abcdefgh"))
    await diary.wait_for(run.id, "begin", 3)
    await run.execute_update("pause")
    [shard] = (await run.describe()).raw_description.pending_children
    child = runs.client.get_workflow_handle(shard.workflow_id)
    async with asyncio.timeout(20):
        while (await child.query("progress"))["status"] != "paused":
            await asyncio.sleep(0.02)
    diary.gate(run.id).set()
    await diary.wait_for(run.id, "end", 3)
    assert len(diary.items(run.id, "begin")) == 3
    await run.execute_update("resume")
    assert len(await run.result()) == 8


async def test_a_run_may_be_paused_before_its_first_call(runs: Runs) -> None:
    run = await runs.client.start_workflow(
        "wait_for_each", args=[["a"]], id="paused-at-once", task_queue="choreography", start_signal="hold"
    )
    await until(run, lambda progress: bool(progress["waits_for"]))
    assert diary.items(run.id, "begin") == []
    await run.signal("go_on")
    await diary.wait_for(run.id, "begin")
    diary.gate(run.id).set()
    await run.result()


async def test_a_paused_run_can_be_cancelled(runs: Runs) -> None:
    run = await runs.start(wait_for_each, ["a", "b", "c", "d"])
    await diary.wait_for(run.id, "begin", 3)
    await run.execute_update("pause")
    await run.cancel()
    await diary.wait_for(run.id, "cancelled", 3)
    assert sorted(diary.items(run.id, "begin")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("update", "complaint"),
    [("resume", "the run is not paused."), ("halt", "known updates: [answer pause resume set_budget]")],
)
async def test_an_update_that_does_not_fit_is_refused(runs: Runs, update: str, complaint: str) -> None:
    run = await runs.start(wait_for_each, ["a"])
    assert complaint in await refusal_of(run, update)


async def test_a_run_is_paused_only_once(runs: Runs) -> None:
    run = await runs.start(wait_for_each, ["a"])
    await run.execute_update("pause")
    assert "the run is paused already, since " in await refusal_of(run, "pause")
