from __future__ import annotations

import asyncio
import importlib
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WithStartWorkflowOperation, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy

import workflows.engine.lifetime
import workflows.program.sharding
from activities import Agent, prompt, task
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.contract.usage import Usage
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.engine.test_run import details, until
from tests.workflows.histories import failure_of, refusal_of
from workflows import choreography, scatter
from workflows.steering.budget import Budget, Limit, Purse

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def used(usd: float | None = 0.0, tokens: int = 0) -> Usage:
    return Usage(models=["some/model"], model_calls=1, completion_tokens=tokens, cost_usd=usd)


def purse(**limits: float) -> Purse:
    """Return a purse of which one call of "write", at 0.10 USD and 100 tokens, has been paid."""
    made = Purse()
    make_call(made, used(0.1, 100))
    made.set_limits(Budget.model_validate(limits))
    return made


def make_call(made: Purse, usage: Usage, *, hours: float = 0.0, well: bool = True) -> list[str]:
    made.open("write", NOON)
    return made.settle("write", usage, well=well) + made.close("write", NOON + timedelta(hours=hours))


# Room


def test_without_limits_there_is_always_room() -> None:
    free = Purse()
    for _ in range(1_000):
        free.open("write", NOON)
    assert free.has_room("write", NOON)


@pytest.mark.parametrize("limits", [{"usd": 0.5}, {"tokens": 500}, {"calls": 5}], ids=str)
def test_calls_under_way_have_reserved_what_such_calls_cost(limits: dict[str, float]) -> None:
    tight = purse(**limits)
    started = 0
    while tight.has_room("write", NOON):
        tight.open("write", NOON)
        started += 1
    assert started == 4  # beside the one that was paid


def test_a_call_that_cost_less_than_expected_gives_back_the_rest() -> None:
    tight = purse(usd=0.2)
    tight.open("write", NOON)
    assert not tight.has_room("write", NOON)
    tight.settle("write", used(0.01))
    tight.close("write", NOON)
    assert tight.has_room("write", NOON)


def test_the_first_call_of_a_method_goes_alone_as_its_cost_is_not_known() -> None:
    tight = purse(usd=0.5)
    tight.open("read", NOON)
    assert not tight.has_room("read", NOON)
    assert tight.has_room("write", NOON)


def test_many_first_calls_go_together_where_only_their_number_is_limited() -> None:
    tight = purse(calls=10)
    tight.open("read", NOON)
    assert tight.has_room("read", NOON)


def test_a_first_call_that_fails_without_any_use_teaches_nothing() -> None:
    tight = Purse(limits={"usd": 0.5})
    make_call(tight, Usage(), well=False)
    tight.open("write", NOON)
    assert not tight.has_room("write", NOON)


def test_a_failed_call_that_was_dear_is_expected_again() -> None:
    tight = purse(usd=1.0)
    make_call(tight, used(0.7), well=False)
    assert tight.spent["usd"] == pytest.approx(0.8)
    assert not tight.has_room("write", NOON)


def test_a_method_that_costs_nothing_goes_on_where_dollars_are_spent() -> None:
    spent = purse(usd=0.11)
    spent.open("file", NOON)
    spent.settle("file", Usage())
    spent.close("file", NOON)
    assert spent.refuses("write", NOON) == "usd"
    assert spent.has_room("file", NOON)


def test_expectations_follow_costs_that_rise() -> None:
    growing = purse(usd=100.0)
    for number in range(40):
        make_call(growing, used(0.1 + number * 0.1))
    assert growing.methods["write"].usd > 2.5


def test_sums_of_cents_fill_a_dollar() -> None:
    dollar = Purse(limits={"usd": 1.0})
    calls = 0
    while dollar.has_room("write", NOON):
        make_call(dollar, used(0.01))
        calls += 1
    assert calls == 100


def test_hours_pass_while_a_call_is_under_way_and_only_then() -> None:
    slow = Purse(limits={"hours": 2.0})
    make_call(slow, Usage(), hours=1.5)
    days_later = NOON + timedelta(days=3)
    assert slow.has_room("write", days_later)
    slow.open("write", days_later)
    assert slow.has_room("write", days_later + timedelta(hours=0.4))
    assert slow.refuses("write", days_later + timedelta(hours=0.6)) == "hours"


# What people are told


def test_it_warns_once_when_four_fifths_are_spent() -> None:
    tight = purse(usd=0.5)
    assert make_call(tight, used(0.2)) == []
    assert make_call(tight, used(0.11)) == ["budget: 0.41 of 0.50 USD spent"]
    assert make_call(tight, used(0.01)) == []
    assert tight.notes(NOON) == ["budget: 0.42 of 0.50 USD spent"]


def test_a_model_without_a_known_price_counts_by_tokens_and_it_says_so() -> None:
    tight = purse(usd=0.5, tokens=1_000)
    warnings = make_call(tight, used(None, 300))
    assert warnings == [
        "budget: no price is known for some/model, so its dollars can't be counted; "
        "the limit of 1,000 tokens is what holds for it"
    ]
    assert tight.spent["tokens"] == 400
    assert make_call(tight, used(None, 10)) == []


def test_it_says_that_nothing_limits_a_model_without_a_known_price() -> None:
    assert "set a limit of tokens as well" in make_call(purse(usd=0.5), used(None))[0]


def test_it_tells_what_is_spent_and_what_the_next_call_would_cost() -> None:
    tight = purse(usd=0.15)
    assert tight.explain("usd", "write", NOON) == "0.10 of 0.15 USD spent, and one more write costs about 0.10"
    assert purse(tokens=100).explain("tokens", "write", NOON) == "100 of 100 tokens spent"


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"usd": 0.05}, "'usd': 0.05 is not more than the 0.10 USD that are spent."),
        ({"tokens": 100}, "'tokens': 100 is not more than the 100 tokens that are spent."),
        ({"usd": 0.2}, None),
        ({"usd": None}, None),
    ],
    ids=str,
)
def test_a_limit_below_what_is_spent_is_refused(limits: dict[str, Any], complaint: str | None) -> None:
    assert purse().refuse_limits(Budget.model_validate(limits), NOON) == complaint


def test_limits_that_are_not_named_stay_and_null_takes_one_away() -> None:
    tight = purse(usd=1, tokens=1_000)
    assert tight.set_limits(Budget.model_validate({"usd": 3})) == "budget: 3.00 USD, 1,000 tokens"
    assert tight.set_limits(Budget.model_validate({"tokens": None})) == "budget: 3.00 USD"


def test_a_purse_outlives_continuing_as_new() -> None:
    before = purse(usd=0.5)
    after = Purse.model_validate_json(before.model_dump_json())
    assert after == before


# In a run


class Author(Agent):
    """You write."""

    @prompt(memory=False)
    async def write(self, about: str) -> str:
        """Write about {about}."""

    @prompt(memory=False, reasks=1, retries=0)
    async def count(self, what: str) -> int:
        """Count {what}."""

    @task
    async def write_twice(self, about: str) -> list[str]:
        """Write twice, inside of one call."""
        return [await self.write(about), await self.write(about)]


@choreography(author=10)
async def write_all(items: list[str], author: Author) -> int:
    """Write about every item."""
    return len(await scatter(items, author, lambda a, item: a.write(item)))


@choreography
async def write_twice(author: Author) -> list[str]:
    """Have prompts asked by a task."""
    return await author.write_twice("thrift")


@choreography
async def count_in_vain(worker: Worker, author: Author) -> str:
    """Catch the error of a call, and go on."""
    try:
        await author.count("stars")
    except Exception as error:
        return str(error)
    return ""


@choreography(author=10)
async def write_then_wait(items: list[str], author: Author, worker: Worker) -> int:
    """Write, and have others work beside."""
    beside = asyncio.ensure_future(worker.wait("beside"))
    written = len(await scatter(items, author, lambda a, item: a.write(item)))
    await beside
    return written


pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture
def a_cent_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted model whose answers cost 0.01 USD and a token each."""
    importlib.import_module("litellm")  # here, as a call that waits for it is silent for too long on a busy machine
    script = tmp_path / "cents.toml"
    script.write_text(
        "price = { output_per_million = 10_000 }\n"
        '[[entry]]\nwhen = "Write"\n[[entry.turns]]\nanswer = "word"\n'
        '[[entry]]\nwhen = "Count"\n[[entry.turns]]\nanswer = "many"\n[[entry.turns]]\nanswer = "some"\n'
    )
    monkeypatch.setenv("MODEL", f"scripted/{script}")


def words(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_run_pauses_at_its_limit_and_goes_on_when_it_is_raised(runs: Runs) -> None:
    run = await runs.start(write_all, words(30), {"budget": {"usd": 0.2}})
    progress = await until(run, lambda progress: bool(progress["waits_for"]))
    assert progress["usage"]["cost_usd"] == pytest.approx(0.2)
    command = f"temporal workflow update execute --workflow-id {run.id} --name set_budget --input '{{\"usd\": 1}}'"
    assert progress["waits_for"] == [f"budget: 0.20 of 0.20 USD spent; raise it: {command}"]
    assert "0.20 of 0.20 USD spent" in await details(run)

    assert await run.execute_update("set_budget", {"usd": 1}) == "budget: 1.00 USD"

    assert await run.result() == 30
    assert (await run.query("progress"))["waits_for"] == []


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_budget_is_spent_over_all_the_histories_of_a_run(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 100)
    run = await runs.start(write_all, words(60), {"budget": {"usd": 0.2}})
    await run.execute_update("set_budget", {"usd": 0.5})
    progress = await until(run, lambda progress: bool(progress["waits_for"]))
    assert "budget: 0.50 of 0.50 USD spent" in progress["waits_for"][0]
    assert progress["usage"]["cost_usd"] == pytest.approx(0.5)
    assert progress["calls_done"] == 50
    assert (await run.describe()).run_id != run.first_execution_run_id
    await run.execute_update("set_budget", {"usd": None})
    assert await run.result() == 60


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_budget_that_is_set_before_the_runs_first_task_holds(runs: Runs) -> None:
    start = WithStartWorkflowOperation[Any, Any](
        "write_all",
        args=[words(3), {"budget": {"calls": 2}}],
        id=f"write_all-{uuid.uuid4().hex[:8]}",
        task_queue=CHOREOGRAPHY_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    await runs.client.execute_update_with_start_workflow("set_budget", {"calls": 3}, start_workflow_operation=start)
    assert await (await start.workflow_handle()).result() == 3


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have scatters of a few items done by three child workflows at a time."""
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 5)
    monkeypatch.setattr(workflows.program.sharding, "CALLS_IN_FLIGHT", 4)
    monkeypatch.setattr(workflows.program.sharding, "CALLS_PER_SHARD", 8)


@pytest.mark.usefixtures("a_cent_a_call", "divided")
async def test_a_budget_holds_the_child_workflows_of_a_run_too(runs: Runs) -> None:
    run = await runs.start(write_all, words(60), {"budget": {"usd": 0.2}})
    progress = await until(run, lambda progress: bool(progress["waits_for"]))
    await run.execute_update("set_budget", {"usd": 0.4})
    progress = await until(run, lambda progress: "0.40 of 0.40 USD spent" in str(progress["waits_for"]))
    assert len(progress["waits_for"]) == 1
    await run.execute_update("set_budget", {"usd": 5})
    assert await run.result() == 60
    assert (await run.query("progress"))["usage"]["cost_usd"] == pytest.approx(0.6)


@pytest.mark.usefixtures("a_cent_a_call", "divided")
async def test_a_budget_that_is_set_late_holds_child_workflows_that_are_under_way(runs: Runs) -> None:
    run = await runs.start(write_all, words(60), {"budget": {"usd": 0.1}})
    await until(run, lambda progress: bool(progress["waits_for"]))
    await run.execute_update("set_budget", {"usd": None, "calls": 30})
    await until(run, lambda progress: "30 of 30 calls spent" in str(progress["waits_for"]))
    await run.execute_update("set_budget", {"calls": None})
    assert await run.result() == 60


@pytest.mark.usefixtures("a_cent_a_call", "divided")
async def test_a_run_with_child_workflows_fails_at_its_limit_if_it_is_to(runs: Runs) -> None:
    run = await runs.start(write_all, words(60), {"budget": {"usd": 0.2}, "on_budget": "fail"})
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert "0.20 of 0.20 USD spent. Done: 20 calls" in str(failure.value.cause)


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_run_warns_before_its_limit(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    run = await runs.start(write_all, words(18), {"budget": {"calls": 20}})
    await run.result()
    assert caplog.text.count("budget: 16 of 20 calls spent") == 1
    assert "budget: 18 of 20 calls spent" in await details(run)


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_run_that_is_to_fail_at_its_limit_says_what_was_spent_and_done(runs: Runs) -> None:
    run = await runs.start(write_all, words(30), {"budget": {"usd": 0.2}, "on_budget": "fail"})
    failure = await failure_of(run)
    assert failure.type == "BudgetExceeded"
    assert "write_all: the budget is spent: 0.20 of 0.20 USD spent. Done: 20 calls (Author.write 20), 0.20 USD" in (
        failure.message
    )


@pytest.mark.usefixtures("a_cent_a_call")
async def test_calls_under_way_end_before_a_run_fails_at_its_limit(runs: Runs) -> None:
    options = {"budget": {"usd": 0.05}, "on_budget": "fail"}
    run = await runs.start(write_then_wait, words(10), options)
    await until(run, lambda progress: bool(progress["waits_for"]))
    await diary.wait_for(run.id, "begin")
    diary.gate(run.id).set()
    assert (await failure_of(run)).type == "BudgetExceeded"
    assert diary.items(run.id, "cancelled") == []


@pytest.mark.usefixtures("a_cent_a_call")
async def test_a_run_within_its_budget_does_not_fail(runs: Runs) -> None:
    assert await runs.execute(write_all, words(20), {"budget": {"usd": 0.2}, "on_budget": "fail"}) == 20


@pytest.mark.usefixtures("a_cent_a_call")
async def test_what_a_failed_call_has_used_is_counted(runs: Runs) -> None:
    run = await runs.start(count_in_vain, {"budget": {"usd": 1}})
    assert "AnswerInvalid" in await run.result()
    usage = (await run.query("progress"))["usage"]
    assert usage["model_calls"] == 2
    assert usage["cost_usd"] == pytest.approx(0.02)


@pytest.mark.usefixtures("a_cent_a_call")
async def test_prompts_inside_of_a_task_are_counted(runs: Runs) -> None:
    run = await runs.start(write_twice)
    await run.result()
    assert (await run.query("progress"))["usage"]["cost_usd"] == pytest.approx(0.02)


@pytest.mark.usefixtures("a_cent_a_call")
@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"usd": 0.1}, "'usd': 0.10 is not more than the 0.20 USD that are spent."),
        ({"dollars": 3}, "'dollars': Extra inputs are not permitted; it takes usd, tokens, calls, hours."),
        ({"usd": -3}, "'usd': Input should be greater than 0"),
        ({}, "name a limit: usd, tokens, calls, hours."),
        (7, "the budget does not fit"),
    ],
    ids=str,
)
async def test_a_budget_that_does_not_fit_is_refused_and_changes_nothing(
    runs: Runs, limits: Any, complaint: str
) -> None:
    run = await runs.start(write_all, words(30), {"budget": {"usd": 0.2}})
    before = await until(run, lambda progress: bool(progress["waits_for"]))
    assert complaint in await refusal_of(run, "set_budget", limits)
    assert await run.query("progress") == before


def test_limits_are_named_as_in_the_options() -> None:
    names: list[Limit] = ["usd", "tokens", "calls", "hours"]
    assert list(Budget.model_fields) == names
