from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy

from activities.contract.leases import Demand, NoLease, Rates, Report
from activities.contract.names import CHOREOGRAPHY_QUEUE, limiter_id
from activities.leases import durable
from activities.leases.durable import Fleet
from tests.conftest import Runs
from workflows.limits import limiter
from workflows.limits.pot import PART_GIVEN

CREW = "tests.workflows.typists"


def report(process: str, waiting: int = 1000) -> Report:
    demand = Demand(waiting=waiting, waiting_tokens=100 * waiting)
    return Report(process=process, seconds=5, runs={"run": demand}, limits=Rates(requests=600))


@pytest.fixture
async def name(client: Client) -> AsyncIterator[str]:
    """The name of a limiter that does not outlive its test."""
    name = f"openai/any/{uuid.uuid4().hex[:8]}"
    yield name
    async for found in client.list_workflows(f"WorkflowId = '{limiter_id('', name)}' AND ExecutionStatus = 'Running'"):
        await client.get_workflow_handle(found.id).terminate("the test is over")


async def test_it_goes_on_as_new_and_knows_who_has_what(
    runs: Runs, client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter, "MOST_REPORTS", 4)
    fleet = Fleet(client, "")
    async with runs.serving(CREW, serve=("choreography",)):
        first = await fleet.lease(name, report("p1"))
        began = await client.get_workflow_handle(limiter_id("", name)).describe()
        for _ in range(5):
            await fleet.lease(name, report("p1"))
            second = await fleet.lease(name, report("p2"))
        handle = client.get_workflow_handle(limiter_id("", name))
        assert (await handle.describe()).run_id != began.run_id
        held = (await handle.query("limits"))["held"]
    assert first.rates.requests == pytest.approx(600 * PART_GIVEN)
    assert set(held) == {"p1", "p2"}
    assert second.rates.requests == pytest.approx(300 * PART_GIVEN, rel=0.05)


async def test_what_makes_no_sense_is_refused_in_words(runs: Runs, client: Client, name: str) -> None:
    async with runs.serving(CREW, serve=("choreography",)):
        for odd in ({"process": "p", "seconds": -1}, {"process": "p", "limits": {"requests": "many"}}, ["report"]):
            start: WithStartWorkflowOperation[object, object] = WithStartWorkflowOperation(
                "limiter",
                id=limiter_id("", name),
                task_queue=CHOREOGRAPHY_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
            with pytest.raises(WorkflowUpdateFailedError) as caught:
                await client.execute_update_with_start_workflow("lease", odd, start_workflow_operation=start)
            assert "can't be read as (Report)" in str(caught.value.__cause__)


async def test_a_limiter_that_nobody_serves_is_not_waited_for(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_ANSWERED_IN", durable._ANSWERED_IN / 10)
    with pytest.raises(NoLease, match=f"the limiter of {name} does not answer"):
        await Fleet(client, "nobody").lease(name, report("p1"))
    await client.get_workflow_handle(limiter_id("nobody", name)).terminate("the test is over")
