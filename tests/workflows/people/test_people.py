"""Roles that are persons, and approvals: questions on a run, and the update that answers them."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import string
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError

import activities.contract.limits
import workflows.engine.lifetime
import workflows.program.sharding
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Text, ToolCall, Tools
from tests.workflows.council import (
    ask_for,
    decide_all,
    decide_and_produce,
    decide_meanwhile,
    decide_once,
    give_up,
    print_directly,
    produce_twice,
)
from tests.workflows.histories import Handle, count, failure_of, message_of, steps
from workflows.engine.options import RunOptions
from workflows.serving.discovery import discover
from workflows.serving.workers import replayer

BOARD = "tests.workflows.council"
PLAN = {"title": "Roses", "pages": 12}
GO = {"verdict": "go", "pages": 12}
ASKED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
UPDATED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED

pytestmark = pytest.mark.usefixtures("served")


async def questions(run: Handle, number: int = 1) -> list[dict[str, Any]]:
    """Return a run's open questions, as soon as there are so many."""
    async with asyncio.timeout(20):
        while True:
            found: list[dict[str, Any]] = await run.query("questions")
            if len(found) == number:
                return found
            await asyncio.sleep(0.02)


async def answer(run: Handle, question: str, given: Any) -> str:
    told: str = await run.execute_update("answer", {"question": question, "answer": given})
    return told


async def refused(run: Handle, *given: Any) -> str:
    """Return why an answer is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await run.execute_update("answer", args=list(given))
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause.message


async def details(run: Handle) -> str:
    metadata: WorkflowMetadata = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


# Asking


async def test_a_question_says_who_is_asked_what_about_what_and_how_to_answer(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    assert question["id"].startswith("1-")
    assert (question["person"], question["method"], question["step"]) == ("owner-1", "Owner.decide", "1")
    assert question["text"] == "Shall Roses be printed?"
    assert question["arguments"] == {"plan": PLAN}
    assert set(question["answer_schema"]["properties"]) == {"verdict", "pages"}
    assert question["command"] == (
        f"temporal workflow update execute --workflow-id {run.id} --name answer "
        f"""--input '{{"question": "{question["id"]}", "answer": {{"verdict": "go", "pages": 1}}}}'"""
    )


async def test_an_answer_comes_back_as_its_type_and_closes_the_question(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    assert await answer(run, question["id"], GO) == f"{question['id']} is answered"
    assert await run.result() == GO
    assert await run.query("questions") == []


async def test_a_person_is_asked_without_an_activity(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    await answer(run, question["id"], GO)
    await run.result()
    assert await count(run, ASKED) == 0


def test_nobody_serves_a_person() -> None:
    assert set(discover([BOARD]).agents) == {"Press"}


async def test_each_instance_is_asked_one_question_at_a_time(runs: Runs) -> None:
    plans = [{"title": title, "pages": 1} for title in "abc"]
    run = await runs.start(decide_all, plans)
    first = await questions(run, 2)
    assert [question["person"] for question in first] == ["ann", "bob"]
    await answer(run, first[0]["id"], {"verdict": "go", "pages": 1})
    second = await questions(run, 2)
    assert [(q["person"], q["text"]) for q in second] == [
        ("bob", "Shall b be printed?"),
        ("ann", "Shall c be printed?"),
    ]


async def test_the_questions_of_a_large_scatter_are_asked_on_the_run_itself(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 2)
    run = await runs.start(decide_all, [PLAN] * 3)
    assert [question["step"] for question in await questions(run, 2)] == ["1.1.1", "1.2.1"]


async def test_an_open_question_is_in_the_progress_and_in_the_details(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    [waits] = (await run.query("progress"))["waits_for"]
    assert waits.startswith(f"owner-1 is asked Owner.decide (question {question['id']}) since 20")
    assert waits.endswith(question["command"])
    shown = await details(run)
    assert "> Shall Roses be printed?" in shown
    assert question["command"] in shown
    await answer(run, question["id"], GO)
    await run.result()
    assert question["command"] not in await details(run)


async def test_a_question_that_is_given_up_is_open_no_more(runs: Runs) -> None:
    run = await runs.start(give_up, PLAN)
    [first] = await questions(run)
    while (second := (await questions(run))[0])["id"] == first["id"]:
        await asyncio.sleep(0.05)
    assert "is not open here" in await refused(run, {"question": first["id"], "answer": GO})
    await answer(run, second["id"], "Lilies")
    assert await run.result() == "Lilies"


async def test_a_cancelled_run_does_not_wait_for_an_answer(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    await questions(run)
    await run.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert isinstance(failure.value.cause, CancelledError)
    assert await run.query("questions") == []


async def test_an_answered_run_can_be_replayed(runs: Runs) -> None:
    run = await runs.start(decide_all, [PLAN, {**PLAN, "pages": 13}, PLAN])
    for _ in range(2):
        [question, _] = await questions(run, 2)
        await answer(run, question["id"], GO)
    [question] = await questions(run)
    await answer(run, question["id"], GO)
    assert await run.result() == [GO] * 3
    await replayer(decide_all).replay_workflow(await run.fetch_history())


async def test_open_questions_are_in_the_memo(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    assert (await (await run.describe()).memo()) == {"questions": [f"{question['id']}: owner-1, Owner.decide"]}


# Answers that are none


@pytest.mark.parametrize(
    "given",
    [
        (),
        (None,),
        ("yes",),
        (["1", GO],),
        ({},),
        ({"question": "Q"},),
        ({"answer": GO},),
        ({"question": "Q", "answer": GO, "more": 1},),
        ({"question": "Q", "answer": GO}, 1),
    ],
    ids=str,
)
async def test_an_update_that_is_no_answer_is_refused_and_told_the_form(runs: Runs, given: tuple[Any, ...]) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    assert await refused(run, *given) == (
        'An answer is one input of the form {"question": "<id>", "answer": …}. '
        f"Open: {question['id']} (Owner.decide, owner-1). The query 'questions' shows them."
    )


@pytest.mark.parametrize("id", ["2-abcd", 7, None, ["1"]], ids=str)
async def test_an_unknown_question_is_refused_and_told_what_is_open(runs: Runs, id: Any) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    told = await refused(run, {"question": id, "answer": GO})
    assert "is not open here. Open: " + question["id"] in told


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"verdict": "perhaps", "pages": 1}, "'verdict': Input should be 'go' or 'stop'"),
        ({"verdict": "go"}, "'pages': Field required"),
        (None, "Input should be an object"),
    ],
    ids=["value", "missing field", "null"],
)
async def test_an_answer_of_another_type_is_refused_with_what_is_wrong(runs: Runs, given: Any, problem: str) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    told = await refused(run, {"question": question["id"], "answer": given})
    assert told.startswith(f"The answer to {question['id']} (Owner.decide) does not fit: {problem}")


async def test_a_refused_answer_leaves_no_trace(runs: Runs) -> None:
    run = await runs.start(decide_once, PLAN)
    [question] = await questions(run)
    for id, given in [(question["id"], {}), ("9-0000", GO)]:
        await refused(run, {"question": id, "answer": given})
    assert await count(run, UPDATED) == 0
    assert await questions(run) == [question]


async def test_a_question_is_answered_once(runs: Runs) -> None:
    run = await runs.start(decide_all, [PLAN, PLAN])
    [first, _] = await questions(run, 2)
    await answer(run, first["id"], GO)
    assert "was answered already. Open: " in await refused(run, {"question": first["id"], "answer": GO})


async def test_a_question_about_something_else_has_another_id(runs: Runs) -> None:
    ids = [
        (await questions(await runs.start(decide_once, plan)))[0]["id"] for plan in (PLAN, {**PLAN, "pages": 13}, PLAN)
    ]
    assert ids[0] == ids[2] != ids[1]


# Time


async def test_without_an_answer_at_the_deadline_the_default_is_taken(quick_runs: Runs) -> None:
    assert await quick_runs.execute(ask_for, "decide_today", PLAN) == {"verdict": "stop", "pages": 0}


async def test_without_a_default_the_call_fails_at_the_deadline(quick_runs: Runs) -> None:
    run = await quick_runs.start(ask_for, "sign", PLAN)
    failure = await failure_of(run)
    assert failure.type == "CallFailed"
    assert "Owner.sign (owner-1, step 1, Roses) failed: Unanswered: no answer within 3600 s." in failure.message


async def test_a_person_is_reminded_until_the_deadline(quick_runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await quick_runs.execute(ask_for, "decide_today", PLAN)
    reminders = [record.getMessage() for record in caplog.records if "reminded" in record.getMessage()]
    assert ["reminded once" in reminders[0], "reminded 2 times" in reminders[1], len(reminders)] == [True, True, 3]


async def test_an_answer_before_the_deadline_counts(quick_runs: Runs) -> None:
    run = await quick_runs.start(ask_for, "decide_today", PLAN)
    [question] = await questions(run)
    await answer(run, question["id"], GO)
    assert await run.result() == GO


# Options


async def test_a_model_for_a_person_is_refused(runs: Runs) -> None:
    for name in ("owner", "Owner.decide"):
        run = await runs.start(decide_and_produce, PLAN, {"models": {name: "any"}})
        assert f"'models' names '{name}', which is neither" in await message_of(run)


def test_a_role_without_methods_for_models_is_no_role_for_them() -> None:
    RunOptions(models={"press": "any"}).check({"owner": [], "press": ["Press.produce"]})


# Approvals


def printing(ledger: Ledger, *titles: str) -> Tools:
    return Tools(tuple(ToolCall("print_out", {"title": t, "ledger": str(ledger.path)}, f"c-{t}") for t in titles))


async def test_a_tool_that_needs_approval_runs_after_a_yes(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    assert ledger.lines() == []
    assert (question["person"], question["method"], question["step"]) == ("anyone", "Press.print_out", "1")
    assert question["arguments"] == {"title": "Roses", "ledger": str(ledger.path)}
    assert question["text"].startswith("press-1 wants to call print_out while it works on Press.produce (step 1). ")
    assert question["command"].endswith(f"""'{{"question": "{question["id"]}", "answer": {{"approve": true}}}}'""")

    await answer(run, question["id"], {"approve": True})

    assert await run.result() == ["done", "done again"]
    assert ledger.lines() == ["printed Roses as 1/1/0"]


async def test_a_no_goes_back_to_the_model_with_its_reason(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("then not"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    await answer(run, question["id"], {"approve": False, "reason": "too long"})
    assert await run.result() == ["then not", "done again"]
    assert provider.requests[1].messages[-1]["content"] == "A person has refused this call: too long"
    assert ledger.lines() == []


@pytest.mark.parametrize(("word", "printed"), [(True, 1), (False, 0)])
async def test_a_bare_yes_or_no_is_a_decision(
    runs: Runs, provider: Provider, ledger: Ledger, word: bool, printed: int
) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    await answer(run, question["id"], word)
    await run.result()
    assert len(ledger.lines()) == printed


@pytest.mark.parametrize("given", ["yes", 1, {"approve": "true"}, {"approve": True, "why": ""}, {}], ids=str)
async def test_what_is_no_decision_is_refused(runs: Runs, provider: Provider, ledger: Ledger, given: Any) -> None:
    provider.enqueue(printing(ledger, "Roses"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    assert "does not fit" in await refused(run, {"question": question["id"], "answer": given})


async def test_all_tools_of_a_turn_are_asked_for_at_once_and_none_runs_before(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    look_up = ToolCall("look_up", {"title": "Lilies", "ledger": str(ledger.path)}, "c-0")
    wanted = printing(ledger, "Roses", "Lilies").calls
    provider.enqueue(Tools((look_up, *wanted)), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    first, second = await questions(run, 2)
    assert ledger.lines() == []
    await answer(run, second["id"], {"approve": False, "reason": "no"})
    await answer(run, first["id"], {"approve": True})
    await run.result()
    assert ledger.lines() == ["looked up Lilies", "printed Roses as 1/1/1"]
    assert list(provider.counts.values()) == [1, 1, 1]


async def test_a_yes_may_change_arguments_and_the_model_is_told(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    assert set(question["answer_schema"]["properties"]["arguments"]["properties"]) == {"title", "ledger", "copies"}
    given = {"approve": True, "reason": "no roses", "arguments": {"title": "Lilies", "ledger": str(ledger.path)}}
    await run.execute_update("answer", {"question": question["id"], "answer": given, "by": "ann"})
    assert await run.result() == ["done", "done again"]
    assert ledger.lines() == ["printed Lilies as 1/1/0"]
    messages = provider.requests[1].messages
    assert json.loads(messages[-2]["tool_calls"][0]["function"]["arguments"])["title"] == "Roses"
    assert messages[-1]["content"] == (
        'A person (ann) has changed this call before it was made, to {"title": "Lilies"}. They say: no roses'
        "\n\nprinted Lilies as 1/1/0"
    )
    await replayer(produce_twice).replay_workflow(await run.fetch_history())


@pytest.mark.parametrize(
    ("arguments", "problem", "places"),
    [
        (
            {"title": 7},
            "'title': Input should be a valid string",
            {"arguments.title": "Input should be a valid string"},
        ),
        ({"titel": "x"}, "'titel': Extra inputs", {"arguments.titel": "Extra inputs are not permitted"}),
        ("Lilies", "'arguments': Input should be an object", {"arguments": "Input should be an object"}),
    ],
)
async def test_changed_arguments_that_the_tool_does_not_take_are_refused_and_leave_no_trace(
    runs: Runs, provider: Provider, ledger: Ledger, arguments: Any, problem: str, places: dict[str, str]
) -> None:
    provider.enqueue(printing(ledger, "Roses"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await answer(run, question["id"], {"approve": True, "arguments": arguments})
    assert isinstance(failure.value.cause, ApplicationError)
    assert f"(Press.print_out) does not fit: {problem}" in failure.value.cause.message
    assert failure.value.cause.details == (places,)
    no = {"question": question["id"], "answer": {"approve": False, "arguments": {"title": "Lilies"}}}
    assert "arguments are changed where the answer is yes" in await refused(run, no)
    assert "'by' is who answers" in await refused(run, {**no, "by": 7})
    assert await count(run, UPDATED) == 0


async def test_one_argument_is_changed_beside_another_that_is_too_long_to_be_shown(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    long = "x" * 50_000
    provider.enqueue(printing(ledger, long), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    assert question["in_short"] == ["title"]
    elsewhere = ledger.path.with_name("elsewhere")
    await answer(run, question["id"], {"approve": True, "arguments": {"ledger": str(elsewhere)}})
    await run.result()
    assert ledger.lines() == []
    assert elsewhere.read_text() == f"printed {long} as 1/1/0\n"


async def test_a_call_that_waits_for_approval_holds_no_worker(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"))
    run = await runs.start(produce_twice, "Roses")
    await questions(run)
    assert (await run.query("progress"))["calls_running"] == 0
    assert not (await run.describe()).raw_description.pending_activities


async def test_each_turn_that_needs_approval_is_asked_for(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"), printing(ledger, "Lilies"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    for _ in range(2):
        [question] = await questions(run)
        await answer(run, question["id"], True)
    assert await run.result() == ["done", "done again"]
    assert ledger.lines() == ["printed Roses as 1/1/0", "printed Lilies as 1/2/0"]
    assert list(provider.counts.values()) == [1, 1, 1, 1]
    assert [step.id for step in await steps(run)] == ["1", "1", "1", "2"]


async def test_a_call_that_waited_is_remembered_once_and_whole(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    await answer(run, question["id"], True)
    await run.result()
    roles = [message["role"] for message in provider.requests[-1].messages]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    conversation = runs.client.get_workflow_handle(f"{run.id}/press-1")
    await conversation.query("transcript")  # once it is answered, what was held is in the history
    events = [event async for event in conversation.fetch_history_events()]
    signals = [event.workflow_execution_signaled_event_attributes.signal_name for event in events]
    assert signals.count("commit") == 2


async def test_what_a_call_used_before_and_after_its_approval_is_counted_once(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    provider.enqueue(printing(ledger, "Roses"), Text("done"), Text("done again"))
    run = await runs.start(produce_twice, "Roses")
    [question] = await questions(run)
    assert (await run.query("progress"))["usage"]["model_calls"] == 1
    await answer(run, question["id"], True)
    await run.result()
    usage = (await run.query("progress"))["usage"]
    assert (usage["model_calls"], usage["prompt_tokens"]) == (3, 30)


async def test_a_run_that_is_cancelled_while_a_call_waits_for_approval_ends(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    provider.enqueue(printing(ledger, "Roses"))
    run = await runs.start(produce_twice, "Roses")
    await questions(run)
    await run.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert isinstance(failure.value.cause, CancelledError)


async def test_a_call_that_has_said_too_much_to_be_put_aside_fails_and_says_so(
    runs: Runs, provider: Provider, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activities.contract.limits, "PAYLOAD_LIMIT", 50_000)
    provider.enqueue(printing(ledger, "".join(random.Random(1).choices(string.ascii_letters, k=100_000))))
    run = await runs.start(produce_twice, "Roses")
    assert "can't be put aside until print_out is approved: what was said and its arguments" in await message_of(run)


async def test_a_tool_that_the_choreography_calls_needs_no_approval(runs: Runs, ledger: Ledger) -> None:
    await runs.execute(print_directly, "Roses", str(ledger.path))
    assert ledger.lines() == ["printed Roses as 1/0/0"]


# Runs that continue as new


async def answer_in_the_end(run: Handle, question: str, given: object) -> None:
    """Answer, again where the run is just continuing as new."""
    while True:
        try:
            await answer(run, question, given)
            return
        except WorkflowUpdateFailedError as refused:
            if "try again" not in str(refused.cause):
                raise


async def test_a_run_that_continues_as_new_goes_on_waiting_for_people(
    runs: Runs, provider: Provider, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 60)
    provider.enqueue(printing(ledger, "Roses", "Lilies"), Text("done"))
    run = await runs.start(decide_meanwhile, PLAN, str(ledger.path))
    before = {question["text"]: question for question in await questions(run, 3)}
    [lilies] = [question for text, question in before.items() if "Lilies" in text]
    await answer_in_the_end(run, lilies["id"], True)
    while len(ledger.lines("looked up ")) < 30:
        await asyncio.sleep(0.05)
    assert (await run.describe()).run_id != run.first_execution_run_id

    for question in await questions(run, 2):
        assert question == before[question["text"]]
        await answer_in_the_end(run, question["id"], True if question["person"] == "anyone" else GO)

    assert await run.result() == [GO, "done", 30]
    assert sorted(ledger.lines("printed ")) == ["Lilies as 2/1/1", "Roses as 2/1/0"]
    assert list(provider.counts.values()) == [1, 1]
    assert (await run.query("progress"))["usage"]["model_calls"] == 2
