from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.common import Priority

from activities.contract.names import CHOREOGRAPHY_QUEUE
from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import Handle, events, message_of
from workflows import choreography
from workflows.engine.options import RunOptions


async def priorities(run: Handle) -> list[Any]:
    """Return the priority of each of a run's calls."""
    scheduled = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return [e.activity_task_scheduled_event_attributes.priority for e in await events(run) if e.event_type == scheduled]


ROLES = {"coder": ["Coder.implement", "Coder.explain"], "reviewer": ["Reviewer.review"]}


def test_a_run_without_options_decides_nothing() -> None:
    options = RunOptions()
    options.check(ROLES)
    assert options.model_of("coder", "Coder.implement") is None


def test_a_model_may_be_set_for_a_role_and_for_a_method_which_goes_before() -> None:
    options = RunOptions(models={"coder": "openai/a", "Coder.explain": "openai/b"})
    options.check(ROLES)
    assert options.model_of("coder", "Coder.implement") == "openai/a"
    assert options.model_of("coder", "Coder.explain") == "openai/b"
    assert options.model_of("reviewer", "Reviewer.review") is None


@pytest.mark.parametrize(
    "given",
    [
        {"instances": {"coder": 0}},
        {"instances": {"coder": -1}},
        {"instances": {"coder": "many"}},
        {"instances": {"coder": 10**9}},
        {"instances": 3},
        {"models": {"coder": 4}},
        {"instance": {"coder": 2}},
        {"budget": {"usd": 0}},
        {"budget": {"usd": "inf"}},
        {"budget": {"tokens": 1.5}},
        {"budget": {"dollars": 2}},
        {"budget": 2},
        {"on_budget": "stop"},
        {"priority": 0},
        {"priority": 6},
        {"tags": "nightly"},
        {"tags": ["two words"]},
        {"tags": [""]},
    ],
    ids=str,
)
def test_options_of_another_shape_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunOptions.model_validate(given)


# In a run


@choreography
async def greet(worker: Worker) -> str:
    """Ask who is there."""
    return await worker.whoami()


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"instances": {"coder": 2}}, "options: 'instances' names the role 'coder', but the roles are worker."),
        ({"models": {"coder": "openai/a"}}, "options: 'models' names 'coder', which is neither a role nor a method"),
        ({"models": {"Worker.treble": "openai/a"}}, "there are Worker.double, Worker.fail, "),
        ({"instances": {"worker": 0}}, "'options' does not fit: 'instances.worker': Input should be greater than"),
        ({"pools": {}}, "'options' does not fit: 'pools': Extra inputs are not permitted"),
        ({"budget": {"dollars": 2}}, "'options' does not fit: 'budget.dollars': Extra inputs are not permitted"),
        ({"on_budget": "stop"}, "'options' does not fit: 'on_budget': Input should be 'pause' or 'fail'"),
        ({"priority": 9}, "'options' does not fit: 'priority': Input should be less than or equal to 5"),
        ({"tags": ["two words"]}, "'options' does not fit: 'tags.0': "),
        ([], "'options' does not fit"),
    ],
    ids=str,
)
async def test_options_that_do_not_fit_fail_the_run_and_are_named(runs: Runs, options: Any, complaint: str) -> None:
    assert complaint in await message_of(await runs.start(greet, options))


@pytest.mark.usefixtures("served")
async def test_calls_carry_the_runs_priority_and_stand_in_line_for_the_run(runs: Runs) -> None:
    run = await runs.start(greet, {"priority": 2})
    await run.result()
    [priority] = await priorities(run)
    assert (priority.priority_key, priority.fairness_key) == (2, run.result_run_id)


@pytest.mark.usefixtures("served")
async def test_priority_and_fairness_of_a_run_that_was_started_with_them_are_kept(runs: Runs) -> None:
    run = await runs.client.start_workflow(
        "greet",
        id="greet-first",
        task_queue=CHOREOGRAPHY_QUEUE,
        priority=Priority(priority_key=1, fairness_key="the red team", fairness_weight=2.0),
    )
    await run.result()
    [priority] = await priorities(run)
    assert (priority.priority_key, priority.fairness_key, priority.fairness_weight) == (1, "the red team", 2.0)


@pytest.mark.usefixtures("served")
async def test_tags_are_shown(runs: Runs) -> None:
    run = await runs.start(greet, {"tags": ["nightly", "textkit"]})
    await run.result()
    assert (await run.query("progress"))["notes"] == ["tags: nightly, textkit"]


@pytest.mark.usefixtures("served")
async def test_options_may_be_null(runs: Runs) -> None:
    assert await runs.execute(greet, None) == "worker-1"
