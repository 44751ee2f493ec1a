"""What goes wrong elsewhere, one fault after the other, each shown to be impossible here."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from activities.values.converter import data_converter
from activities.workspace.workspace import Workspace
from console.history import follow_calls
from tests.conftest import Ledger, Runs
from tests.office import (
    Clerk,
    copy_at_once,
    copy_twice,
    edited,
    meet_each_other,
    note_numbers,
    one_call,
    stamp_and_wait,
    stumble,
    write_a_file,
    write_and_post,
    write_to_groups,
)
from tests.provider import Fault, Garbage, Provider, Slow, Text, ToolCall, Tools
from tests.system.processes import at_work_in, eventually
from workflows import choreography
from workflows.errors import ChoreographyInvalid
from workflows.serving.discovery import DiscoveryError
from workflows.serving.settings import Settings

OFFICE = "tests.office"


async def goes_on_after(run: WorkflowHandle[Any, Any], calls_done: int) -> None:
    """Wait until a run has so many results and waits for the next one."""
    while True:
        progress = await run.query("progress")
        if progress["calls_done"] == calls_done and progress["calls_running"]:
            return
        await asyncio.sleep(0.02)


# "An agent method that returns None hangs the run: 'no result' and 'result None' look the same."


async def test_a_method_that_returns_none_ends_like_any_other(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("Done."))
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "nothing", []) is None
        assert await runs.execute(one_call, "write_nothing", []) is None


# "A failed step is never retried and never noticed by those who wait: a restart after a failure hangs for ever."


async def test_a_failed_step_is_tried_again(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "fail_at_first", [str(ledger.path)]) == "written"


async def test_a_step_that_fails_for_good_fails_its_run_which_can_be_started_again(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError) as failure:
            await (await runs.start(one_call, "fail_if_odd", [1, str(ledger.path)], id="again")).result()
        assert "1 is odd" in str(failure.value.cause)
        assert await (await runs.start(one_call, "fail_if_odd", [2, str(ledger.path)], id="again")).result() == 2


# "An agent method called inside another one, also as a tool of the model, deadlocks."


async def test_a_method_may_use_another_one_also_as_a_tool_of_the_model(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("rhyme", {"word": "rose"}),)), Text("nose"), Text("A rose, a nose."))
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "write_a_poem", ["a rose"]) == "A rose, a nose."
    assert provider.requests[2].messages[-1]["content"] == "nose"


# "Tools called from the program's body, and its side effects, run once per agent thread and again at every replay."


async def test_a_tool_that_the_program_calls_is_not_run_again_at_replay(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE, serve=("choreography", "Clerk")):
        run = await runs.start(stamp_and_wait, str(ledger.path))
        await goes_on_after(run, 1)
    async with runs.serving(OFFICE):
        assert await run.result() == "stamp 1"
    assert ledger.lines() == ["stamped"]


async def test_a_program_with_side_effects_of_its_own_fails_and_is_told_why(runs: Runs, tmp_path: Path) -> None:
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError) as failure:
            await runs.execute(write_a_file, str(tmp_path / "file"))
    assert "put that into a @task of an agent" in str(failure.value.cause)
    assert not (tmp_path / "file").exists()


# "Step ids know neither name, arguments nor run: edited code gets old results, a second run with other input gets the
# first one's."


async def test_a_second_run_with_other_input_gets_results_of_its_own(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        letters = [await (await runs.start(one_call, "letter", [name], id="same")).result() for name in ("Ann", "Bob")]
    assert [letter["to"] for letter in letters] == ["Ann", "Bob"]


async def test_edited_code_is_not_given_the_results_of_what_stood_there_before(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(edited, "Ann")
        await run.result()
    history = await run.fetch_history()
    replayer = Replayer(
        workflows=[edit().workflow], workflow_runner=UnsandboxedWorkflowRunner(), data_converter=data_converter
    )
    with pytest.raises(workflow.NondeterminismError, match=r"Clerk\.nothing"):
        await replayer.replay_workflow(history)


def edit() -> Any:
    async def edited(name: str, clerk: Clerk) -> None:
        await clerk.nothing()

    return choreography(edited)


# "Types are lost: one thread sees the object, the others and every restart see JSON or strings."


async def test_types_are_the_same_in_program_agent_and_after_a_restart(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE, serve=("choreography", "Clerk")):
        run = await runs.start(write_and_post, "Ann", str(ledger.path))
        await goes_on_after(run, 1)
    async with runs.serving(OFFICE):
        assert await run.result() == ["Letter", "Letter"]


# "After one failure a sibling went on with all 11 items left; only the first error is told."


async def test_after_a_failure_no_sibling_takes_another_item(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError, match="Workflow execution failed") as failure:
            await runs.execute(note_numbers, list(range(1, 13)), str(ledger.path))
    assert "item 0 (1) on clerk-1" in str(failure.value.cause)
    assert len(ledger.lines()) < 5


async def test_every_error_is_told_where_it_is_wanted(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        results = await runs.execute(note_numbers, [0, 1, 2, 3], str(ledger.path), True)
    assert [("is odd" in result) for result in results] == [False, True, False, True]


# "Four processes made 321 claims on 300 tasks; completion ignores the owner; no lease, no heartbeat, no timeout; a
# second start steals live claims."


async def test_several_workers_and_one_that_joins_take_every_call_once(runs: Runs, ledger: Ledger) -> None:
    numbers = list(range(0, 200, 2))
    async with AsyncExitStack() as workers:
        for _ in range(3):
            await workers.enter_async_context(runs.serving(OFFICE))
        run = await runs.start(note_numbers, numbers, str(ledger.path), False, {"instances": {"clerk": 16}})
        await eventually(lambda: len(ledger.lines()) > 20)
        await workers.enter_async_context(runs.serving(OFFICE))
        assert await run.result() == [str(number) for number in numbers]
    assert Counter(ledger.lines()) == Counter(str(number) for number in numbers)


# "An agent left out of the list hangs; two with one id are accepted."


HAUNTED = """
from activities import Agent, task
from workflows import choreography

class Ghost(Agent):
    @task
    async def appear(self) -> None: ...

@choreography
async def haunt(ghost: Ghost) -> None:
    await ghost.appear()
"""


async def test_an_agent_that_nobody_serves_is_reported(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "haunted.py").write_text(HAUNTED)
    monkeypatch.setattr("workflows.serving.queue_watch.LOOK_EVERY_S", 0.1)
    async with runs.serving("haunted", serve=("choreography",)):
        run = await runs.start("haunt")
        waits: list[str] = []
        while not waits:
            waits = (await run.query("progress"))["waits_for"]
    assert waits == [
        "nobody serves the task queue Ghost.appear: 1 calls wait in it. "
        "Start a worker for it: python worker.py --serve Ghost.appear"
    ]


def test_two_agents_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("other_clerk.py").write_text("import tests.office as office\nclass Clerk(office.Clerk): pass\n")
    with pytest.raises(DiscoveryError, match=r"Two agents are called Clerk: tests\.office\.Clerk and other_clerk"):
        Settings.read(modules=[OFFICE, "other_clerk"], bare=True)


def test_two_instances_of_one_name_are_refused() -> None:
    with pytest.raises(ChoreographyInvalid, match="different names"):
        choreography(clerk=["ann", "ann"])(edited.function)


# "Two finished tool rounds, then a crash: nothing of them is kept but a note, and notes pile up in the system prompt
# for good."


async def test_finished_tool_rounds_are_kept_and_the_prompt_stays_as_it_was(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    stamp = Tools((ToolCall("stamp", {"ledger": str(ledger.path)}),))
    provider.enqueue(stamp, stamp, Slow(3600, Text("never")), Text("With two stamps."))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["ducks"])
        await eventually(lambda: len(provider.requests) == 3)
    async with runs.serving(OFFICE):
        assert await run.result() == "With two stamps."
    assert ledger.lines() == ["stamped", "stamped"]
    assert list(provider.counts.values()) == [1, 1, 2]


# "No limit on tool rounds (300 ran); one bad call among parallel ones leaves the others' ids unanswered; provider
# errors get one attempt."


async def test_tool_rounds_are_limited(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    provider.enqueue(*[Tools((ToolCall("stamp", {"ledger": str(ledger.path)}),))] * 10)
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError) as failure:
            await runs.execute(one_call, "write", ["ducks"])
    assert "took 4 turns without giving an answer" in str(failure.value.cause)
    assert len(ledger.lines()) == 4


async def test_every_call_of_a_turn_is_answered_whatever_the_others_are(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    calls = (
        ToolCall("fly", {}, id="unknown"),
        ToolCall("stamp", "{not json", id="malformed"),
        ToolCall("stamp", {"ledger": str(ledger.path)}, id="good"),
    )
    provider.enqueue(Tools(calls), Text("Well."))
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "write", ["ducks"]) == "Well."
    answered = {m["tool_call_id"]: m["content"] for m in provider.requests[1].messages if m["role"] == "tool"}
    assert answered["good"] == "stamp 1"
    assert answered["unknown"].startswith("Error: there is no tool 'fly'")
    assert answered["malformed"].startswith("Error: the arguments of stamp do not fit")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_providers_error_is_not_the_end(status: int, runs: Runs, provider: Provider) -> None:
    provider.enqueue(Fault(status, retry_after=0.01), Text("At last."))
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "write", ["ducks"]) == "At last."


# "A timeout kills the shell and leaves its children."


async def test_what_is_stopped_leaves_no_children(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    child = "subprocess.Popen(['sleep', '600'], start_new_session=True)"
    workspace.write(
        "test_it.py",
        f"import pathlib, subprocess, time\n\ndef test_it():\n    child = {child}\n"
        "    pathlib.Path('pid').write_text(str(child.pid))\n    time.sleep(600)\n",
    )
    run = await workspace.run_tests(timeout=2)
    assert not run.passed
    assert workspace.list_files() == ["pid", "test_it.py"]
    await eventually(lambda: not at_work_in(workspace.root), seconds=5)


# "'You MUST call write_file' in capitals in every prompt (no required tools, no check of answers)."


async def test_an_answer_without_the_required_tool_is_sent_back(runs: Runs, provider: Provider, ledger: Ledger) -> None:
    stamp = Tools((ToolCall("stamp", {"ledger": str(ledger.path)}),))
    provider.enqueue(Text("No stamp."), stamp, Text("A stamp."))
    async with runs.serving(OFFICE):
        assert await runs.execute(one_call, "write_stamped", ["ducks"]) == "A stamp."
    assert "you must call: stamp" in provider.requests[1].last_user


async def test_an_answer_that_its_type_refuses_is_sent_back_with_the_reason(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text('{"to": "Ann", "lines": []}'), Text('{"to": "Ann", "lines": ["Dear Ann"]}'))
    async with runs.serving(OFFICE):
        assert (await runs.execute(one_call, "write_letter", ["ducks"]))["lines"] == ["Dear Ann"]
    assert "a letter has at least one line" in provider.requests[1].last_user


# "A list of keys to find fan_out's groups again; reviews and adversaries in sequence for want of gather."


async def test_the_groups_of_a_fan_out_come_back_as_they_were_given(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        assert await runs.execute(write_to_groups) == [["Ann", "Bob"], [], ["Cleo"]]


async def test_gathered_calls_are_made_at_the_same_time(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        assert await runs.execute(meet_each_other) == ["reviewer", "adversary"]


# "Eleven builds where one was meant."


async def test_a_run_that_is_started_again_while_it_runs_is_still_one(runs: Runs) -> None:
    await runs.start(one_call, "nothing", [], id="the only one")
    with pytest.raises(WorkflowAlreadyStartedError):
        await runs.start(one_call, "nothing", [], id="the only one")


# "A dashboard that guesses phases and failures from strings and knows no times, attempts or cost."


async def test_a_run_tells_its_calls_times_failures_and_use(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("ducks"))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["ducks"])
        calls = [call async for call in follow_calls(run, data_converter)]
        progress = await run.query("progress")
    assert [(call.method, call.summary, call.error) for call in calls[-1:]] == [
        ("Clerk.write", "clerk-1 · ducks", None)
    ]
    assert calls[-1].ended
    assert calls[-1].seconds > 0
    assert progress["usage"]["completion_tokens"] == 5
    assert progress["usage"]["models"] == ["openai/any"]


# What users of other harnesses complain about: "model inputs repeated in history until the run is killed at 50 MB".


async def test_what_a_model_was_asked_and_said_is_not_in_the_history(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    provider.enqueue(Tools((ToolCall("stamp", {"ledger": str(ledger.path)}),), content="a thought"), Text("ducks"))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["ducks"])
        await run.result()
    history = b"".join([event.SerializeToString() async for event in run.fetch_history_events()])
    assert b"ducks" in history
    assert b"You write letters" not in history
    assert b"a thought" not in history


# "Fan-outs that kill the workflow; an oversize payload retried for ever."


async def test_large_arguments_all_at_once_do_not_kill_the_run(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        assert await runs.execute(copy_at_once, 1_000_000) == 5_000_000


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (1_500_000, r"Clerk\.copy returned 3,.* is the most that the server takes\. Write it to the workspace"),
        (2_500_000, r"Clerk\.copy .*its arguments are 2,5.* of which 'text' has the most"),
    ],
    ids=["result", "argument"],
)
async def test_a_payload_that_is_too_large_fails_at_once_and_says_what_to_do(size: int, told: str, runs: Runs) -> None:
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError) as failure:
            await runs.execute(copy_twice, size)
    assert re.search(told, str(failure.value.cause))


# "Library errors that loop the workflow task instead of failing the run."


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("bug", r"KeyError: 'nothing' \(at office\.py:\d+"),
        ("model", r"validation errors for Letter"),
        ("argument", r"Clerk\.letter: 'to': Input should be a valid string"),
    ],
)
async def test_an_error_in_the_program_fails_its_run(kind: str, told: str, runs: Runs) -> None:
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError) as failure:
            await runs.execute(stumble, kind)
    assert re.search(told, str(failure.value.cause))


# "Retries that multiply (SDK x engine); a retried activity paid for twice; heartbeats that start too late."


async def test_one_layer_retries(runs: Runs, provider: Provider) -> None:
    provider.enqueue(*[Garbage()] * 10)
    async with runs.serving(OFFICE):
        with pytest.raises(WorkflowFailureError):
            await runs.execute(one_call, "write_in_bad_times", ["ducks"])
    assert len(provider.requests) == 3


async def test_an_answer_that_came_before_an_error_is_not_paid_for_again(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    stamp = Tools((ToolCall("stamp", {"ledger": str(ledger.path)}),))
    provider.enqueue(stamp, Fault(500, retry_after=0.01), Text("ducks"))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["ducks"])
        await run.result()
        progress = await run.query("progress")
    assert list(provider.counts.values()) == [1, 2]
    assert progress["usage"]["model_calls"] == 2


async def test_a_call_heartbeats_before_its_first_answer(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Slow(3600, Text("never")))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["ducks"])
        heartbeat = 0
        while not heartbeat:
            calls = (await run.describe()).raw_description.pending_activities
            heartbeat = max((call.last_heartbeat_time.seconds for call in calls), default=0)
        await run.terminate()
