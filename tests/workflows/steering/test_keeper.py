"""Budgets that runs share, on a real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle

import workflows.engine.lifetime
import workflows.program.sharding
import workflows.steering.keeper
from activities.contract.budgets import keeper_id
from activities.contract.names import CHOREOGRAPHY_QUEUE
from tests.conftest import Runs
from tests.workflows.engine.test_run import details, until
from tests.workflows.steering.test_budget import a_cent_a_call, divided, words, write_all, write_then_wait  # noqa: F401

pytestmark = pytest.mark.usefixtures("served", "a_cent_a_call")


class Budgets:
    """Sets budgets, for tenants that no other test has."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.tenant = uuid.uuid4().hex[:8]
        self.name = f"tenant={self.tenant}"
        self._kept: list[WorkflowHandle[Any, Any]] = []

    async def set(self, name: str = "", **limits: Any) -> WorkflowHandle[Any, Any]:
        keeper = await self.client.start_workflow(
            "budget", limits, id=keeper_id(name or self.name), task_queue=CHOREOGRAPHY_QUEUE
        )
        self._kept.append(keeper)
        return keeper

    async def end(self) -> None:
        for keeper in self._kept:
            if (await keeper.describe()).status == WorkflowExecutionStatus.RUNNING:
                await keeper.terminate("the test is over")


@pytest.fixture
async def budgets(client: Client) -> AsyncIterator[Budgets]:
    """A way to set budgets."""
    made = Budgets(client)
    yield made
    await made.end()


async def until_kept(keeper: WorkflowHandle[Any, Any], holds: Any) -> Mapping[str, Any]:
    async with asyncio.timeout(60):
        while not holds(told := await keeper.query("budget")):
            await asyncio.sleep(0.1)
    return dict(told)


def nothing_out(told: Mapping[str, Any]) -> bool:
    return not told["borrowers"]


async def test_a_run_keeps_within_its_tenants_budget_and_goes_on_when_that_is_raised(
    runs: Runs, budgets: Budgets
) -> None:
    keeper = await budgets.set(usd=0.2)
    run = await runs.start(write_all, words(30), {"tenant": budgets.tenant})
    progress = await until(run, lambda progress: bool(progress["waits_for"]))
    assert progress["usage"]["cost_usd"] == pytest.approx(0.2)
    assert progress["waits_for"] == [
        f"budget {budgets.name}: 0.20 of 0.20 USD spent; raise it: python -m console budget set {budgets.name} usd=0.4"
    ]
    assert progress["status"] == f"waits: budget {budgets.name}: 0.20 of 0.20 USD spent"
    assert "0.20 of 0.20 USD spent" in await details(run)

    assert await keeper.execute_update("set_budget", {"usd": 1}) == "budget: 1.00 USD"

    assert await run.result() == 30
    told = await until_kept(keeper, nothing_out)
    assert told["spent"]["usd"] == pytest.approx(0.3)


async def test_two_runs_share_a_budget_and_neither_spends_what_the_other_has(runs: Runs, budgets: Budgets) -> None:
    keeper = await budgets.set(usd=0.3)
    both = [await runs.start(write_all, words(40), {"tenant": budgets.tenant}) for _ in range(2)]
    for run in both:
        await until(run, lambda progress: progress["status"].startswith("waits"))
    used = [(await run.query("progress"))["usage"]["cost_usd"] for run in both]
    assert sum(used) == pytest.approx(0.3)
    assert min(used) > 0
    await keeper.execute_update("set_budget", {"usd": None})
    assert [await run.result() for run in both] == [40, 40]
    assert await keeper.result() == "no limits"


@pytest.mark.parametrize("end", ["terminate", "cancel", "delete"])
async def test_what_was_lent_to_a_run_comes_back_however_it_ends(runs: Runs, budgets: Budgets, end: str) -> None:
    keeper = await budgets.set(calls=20)
    first = await runs.start("write_then_wait", words(3), {"tenant": budgets.tenant})
    await until(first, lambda progress: progress["calls_done"] == 3)
    if end == "delete":
        execution = WorkflowExecution(workflow_id=first.id)
        await budgets.client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(namespace=budgets.client.namespace, workflow_execution=execution)
        )
    else:
        await getattr(first, end)()
    second = await runs.start(write_all, words(16), {"tenant": budgets.tenant})
    assert await second.result() == 16
    told = await until_kept(keeper, nothing_out)
    if end == "delete":
        assert 16 <= told["spent"]["calls"] <= 20  # of the first one what it told last
    else:
        assert told["spent"]["calls"] == 19 + (end == "cancel")


async def test_a_keeper_continues_as_new_and_forgets_nothing(
    runs: Runs, budgets: Budgets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.steering.keeper, "CONTINUE_AT_EVENTS", 60)
    keeper = await budgets.set(calls=30, per="day")
    both = [await runs.start(write_all, words(20), {"tenant": budgets.tenant}) for _ in range(2)]
    now = budgets.client.get_workflow_handle(keeper.id)
    told = await until_kept(now, lambda told: told["spent"]["calls"] == 30)
    assert told["per"] == "day"
    assert (await now.describe()).run_id != keeper.first_execution_run_id
    await now.execute_update("set_budget", {"calls": 50})
    assert [await run.result() for run in both] == [20, 20]
    told = await until_kept(now, nothing_out)
    assert told["spent"]["calls"] == 40


async def test_a_run_that_is_reset_is_held_by_its_budget_and_nothing_spent_is_lost(
    runs: Runs, budgets: Budgets
) -> None:
    keeper = await budgets.set(usd=0.2)
    run = await runs.start(write_all, words(30), {"tenant": budgets.tenant})
    await until(run, lambda progress: bool(progress["waits_for"]))
    await reset_to_the_middle(budgets.client, run)
    again = budgets.client.get_workflow_handle(run.id)
    progress = await until(again, lambda progress: bool(progress["waits_for"]))
    assert "of 0.20 USD spent" in progress["waits_for"][0]
    await keeper.execute_update("set_budget", {"usd": 1})
    assert await again.result() == 30
    told = await until_kept(keeper, nothing_out)
    counted = (20 + 30 - await done_before_the_reset(again)) / 100
    # What was done before the moment to which it was reset may count twice, but never less than once.
    assert counted - 0.001 < told["spent"]["usd"] < (20 + 30) / 100 + 0.001


async def done_before_the_reset(run: WorkflowHandle[Any, Any]) -> int:
    done = 0
    for event in (await run.fetch_history()).events:
        if event.HasField("workflow_task_failed_event_attributes"):
            break
        done += event.HasField("activity_task_completed_event_attributes")
    assert 0 < done < 20
    return done


async def reset_to_the_middle(client: Client, run: WorkflowHandle[Any, Any]) -> None:
    tasks = [
        event.event_id
        for event in (await run.fetch_history()).events
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run.first_execution_run_id or ""),
            workflow_task_finish_event_id=tasks[len(tasks) // 2],
            request_id=uuid.uuid4().hex,
        )
    )


async def test_a_budget_is_spent_over_all_the_histories_of_a_run(
    runs: Runs, budgets: Budgets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 100)
    keeper = await budgets.set(usd=0.5)
    run = await runs.start(write_all, words(60), {"tenant": budgets.tenant})
    progress = await until(run, lambda progress: bool(progress["waits_for"]))
    assert progress["calls_done"] == 50
    assert (await run.describe()).run_id != run.first_execution_run_id
    await keeper.execute_update("set_budget", {"usd": 1})
    assert await run.result() == 60
    told = await until_kept(keeper, nothing_out)
    assert told["spent"]["usd"] == pytest.approx(0.6)


@pytest.mark.usefixtures("divided")
async def test_the_child_workflows_of_runs_share_it_too(runs: Runs, budgets: Budgets) -> None:
    keeper = await budgets.set(usd=0.2)
    run = await runs.start(write_all, words(60), {"tenant": budgets.tenant})
    await until(run, lambda progress: progress["status"].startswith("waits"))
    assert (await run.query("progress"))["usage"]["cost_usd"] == pytest.approx(0.2)
    await keeper.execute_update("set_budget", {"usd": 5})
    assert await run.result() == 60
    told = await until_kept(keeper, nothing_out)
    assert told["spent"]["usd"] == pytest.approx(0.6)


@pytest.mark.parametrize("is_divided", [False, True], ids=["alone", "divided"])
async def test_a_run_fails_at_a_shared_limit_if_it_is_to(
    runs: Runs, budgets: Budgets, request: pytest.FixtureRequest, *, is_divided: bool
) -> None:
    if is_divided:
        request.getfixturevalue("divided")
    await budgets.set(usd=0.1)
    run = await runs.start(write_all, words(60), {"tenant": budgets.tenant, "on_budget": "fail"})
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert f"the budget is spent: budget {budgets.name}: 0.10 of 0.10 USD spent" in str(failure.value.cause)


async def test_runs_that_wait_for_two_budgets_take_turns(runs: Runs, budgets: Budgets) -> None:
    tag = f"tag={budgets.tenant}"
    tenant = await budgets.set(calls=50)
    both = await budgets.set(tag, calls=20)
    options = {"tenant": budgets.tenant, "tags": [budgets.tenant]}
    started = [await runs.start(write_all, words(20), options) for _ in range(2)]
    for run in started:
        await until(run, lambda progress: progress["status"].startswith("waits"))
    assert sum([(await run.query("progress"))["calls_done"] for run in started]) == 20
    await both.execute_update("set_budget", {"calls": None})
    assert [await run.result() for run in started] == [20, 20]
    told = await until_kept(tenant, nothing_out)
    assert told["spent"]["calls"] == 40


async def test_a_run_may_lack_its_own_budget_and_a_shared_one(runs: Runs, budgets: Budgets) -> None:
    keeper = await budgets.set(calls=15)
    run = await runs.start(write_all, words(20), {"tenant": budgets.tenant, "budget": {"calls": 10}})
    await until(run, lambda progress: "budget: 10 of 10 calls spent" in str(progress["waits_for"]))
    other = await runs.start(write_all, words(5), {"tenant": budgets.tenant})
    assert await other.result() == 5
    await run.execute_update("set_budget", {"calls": None})
    await until(run, lambda progress: "15 of 15 calls spent" in str(progress["waits_for"]))
    await keeper.execute_update("set_budget", {"calls": None})
    assert await run.result() == 20


async def test_a_budget_per_day_begins_anew_at_midnight(quick_runs: Runs) -> None:
    quick = Budgets(quick_runs.client)
    keeper = await quick.set(calls=8, per="day")
    run = await quick_runs.start(write_all, words(20), {"tenant": quick.tenant})
    assert await run.result() == 20
    told = await keeper.query("budget")
    assert told["spent"]["calls"] <= 8
    assert told["renews"].endswith("T00:00:00Z")
    started, ended = (await run.describe()).start_time, (await run.describe()).close_time
    assert ended is not None
    assert (ended.date() - started.date()).days >= 2
    await quick.end()


async def test_a_run_pays_for_shared_budgets_with_one_event_where_there_are_none(runs: Runs, budgets: Budgets) -> None:
    plain = await runs.start(write_all, words(1))
    named = await runs.start(write_all, words(1), {"tenant": budgets.tenant, "tags": ["one", "two"]})
    kinds = []
    for run in (plain, named):
        await run.result()
        kinds.append([event.WhichOneof("attributes") for event in (await run.fetch_history()).events])
    assert "marker_recorded_event_attributes" not in kinds[0]
    assert len(kinds[1]) - len(kinds[0]) == 1
