from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.common import RawValue

from activities.contract.names import CHOREOGRAPHY_QUEUE, CONVERSATION, JOURNAL, SHARD
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import Handle, count, failure_of, histories, message_of, refusal_of
from workflows import choreography, scatter

pytestmark = pytest.mark.usefixtures("served")


@choreography(worker=2)
async def attend(items: list[str], worker: Worker) -> list[str]:
    """Work on items, which wait for the test."""
    return await scatter(items, worker, lambda w, item: w.wait(item))


@choreography(worker=50)
async def attend_many(count: int, worker: Worker) -> int:
    """Work on many items, in shards; all but the first wait for the test."""
    return len(await scatter([f"{n}" for n in range(count)], worker, lambda w, item: w.wait(item)))


OWNER = {"workflow_id": "any", "run_id": "any"}
UNREADABLE = RawValue(Payload(metadata={"encoding": b"binary/from-elsewhere"}, data=b"\xff\x00"))
NO_JSON = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"{nothing"))
BARE = RawValue(Payload(data=b"?"))
JUNK: list[list[Any]] = [
    [],
    [None],
    [7],
    ["text", "text"],
    [{"limits": 1}, [], -1, None, "more", "and more"],
    [float("nan")],
    ["x" * 100_000, -(10**40)],
    [UNREADABLE],
    [NO_JSON, NO_JSON],
    [BARE, BARE, BARE, BARE],
]
SIGNALS_OF_A_RUN = ("shard_results", "shard_reports", "part_wants", "set_share", "no_such_signal")


async def task_failures(run: Handle) -> int:
    return await count(run, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)


async def send_junk(run: Handle, *signals: str) -> None:
    for signal in signals:
        for args in JUNK:
            await run.signal(signal, args=args)


# Signals


async def test_no_signal_with_whatever_arguments_does_harm_to_a_run(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    run = await runs.start(attend, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    with caplog.at_level(logging.WARNING):
        await send_junk(run, *SIGNALS_OF_A_RUN)
        progress = await run.query("progress")
    assert progress["status"] == "running"
    diary.gate(run.id).set()
    assert len(await run.result()) == 1
    assert await task_failures(run) == 0
    assert "dropped the signal shard_reports that was sent here: missing a required argument: 'step'" in caplog.text
    assert (
        "dropped the signal no_such_signal that was sent here: there is no such signal here; there are: go_on, hold"
        in (caplog.text)
    )


async def test_signals_that_come_before_the_first_workflow_task_do_none(runs: Runs) -> None:
    run = await runs.client.start_workflow(
        attend.name,
        args=[["a"]],
        id=f"attend-{uuid.uuid4().hex[:8]}",
        task_queue=CHOREOGRAPHY_QUEUE,
        start_signal="part_wants",
        start_signal_args=[7],
    )
    await diary.wait_for(run.id, "begin", 1)
    diary.gate(run.id).set()
    await run.result()
    assert await task_failures(run) == 0


async def test_nobody_gives_a_run_another_budget_by_a_signal_among_its_parts(runs: Runs) -> None:
    run = await runs.start(attend, ["a", "b", "c"], {"budget": {"calls": 2}})
    await run.signal("set_share", args=[{"calls": 100}, 0])
    await run.signal("set_share", args=[{"calls": float("nan")}, 0])
    diary.gate(run.id).set()
    async with asyncio.timeout(20):
        while not (progress := await run.query("progress"))["waits_for"]:
            await asyncio.sleep(0.02)
    assert progress["calls_done"] == 2
    assert await task_failures(run) == 0


async def test_no_signal_does_harm_to_a_shard_or_to_its_run(runs: Runs) -> None:
    run = await runs.start(attend_many, 60)
    await diary.wait_for(run.id, "begin", 50)
    children = (await run.describe()).raw_description.pending_children
    shard = runs.client.get_workflow_handle(next(c.workflow_id for c in children if c.workflow_type_name == SHARD))
    step = shard.id.removeprefix(f"{run.id}/")
    await send_junk(shard, *SIGNALS_OF_A_RUN)
    for packed in (b"", b"no gzip", UNREADABLE):
        await run.signal("shard_results", args=[step, packed])
    await run.signal("shard_results", args=["9.1-4", b"no gzip"])
    diary.gate(run.id).set()
    assert await run.result() == 60
    assert await task_failures(run) == await task_failures(shard) == 0


@pytest.mark.parametrize(("kind", "inputs"), [(CONVERSATION, []), (JOURNAL, [OWNER])])
async def test_no_signal_does_harm_to_what_keeps_something_for_a_run(runs: Runs, kind: str, inputs: list[Any]) -> None:
    kept = await runs.start(kind, *inputs)
    await send_junk(kept, "end", "no_such_signal", "append")
    with pytest.raises(WorkflowQueryFailedError):
        await kept.query("no_such_query")
    assert await task_failures(kept) == 0


async def test_a_run_that_was_sent_junk_replays(runs: Runs) -> None:
    from workflows.serving.workers import replayer

    run = await runs.start(attend, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    await send_junk(run, *SIGNALS_OF_A_RUN[:3])
    for args in JUNK[:4]:
        with pytest.raises(WorkflowUpdateFailedError):
            await run.execute_update("answer", args=args)
    diary.gate(run.id).set()
    await run.result()
    [history] = await histories(runs.client, run)
    await replayer(attend).replay_workflow(history)


# Updates and queries


@pytest.mark.parametrize("update", ["set_budget", "answer", "no_such_update"])
async def test_no_update_with_whatever_arguments_does_harm_to_a_run(runs: Runs, update: str) -> None:
    run = await runs.start(attend, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    for args in JUNK:
        with pytest.raises(WorkflowUpdateFailedError):
            await run.execute_update(update, args=args)
    assert (await run.query("progress"))["status"] == "running"
    diary.gate(run.id).set()
    await run.result()
    assert await task_failures(run) == 0


@pytest.mark.parametrize(("kind", "inputs"), [(CONVERSATION, []), (JOURNAL, [OWNER])])
@pytest.mark.parametrize("update", ["begin", "append", "tell", "add", "no_such_update"])
async def test_no_update_does_harm_to_what_keeps_something_for_a_run(
    runs: Runs, kind: str, inputs: list[Any], update: str
) -> None:
    kept = await runs.start(kind, *inputs)
    for args in JUNK:
        if args and args[0] in ("text", "x" * 100_000):
            continue
        with pytest.raises(WorkflowUpdateFailedError):
            await kept.execute_update(update, args=args)
    assert await task_failures(kept) == 0


async def test_a_refused_update_says_what_is_taken(runs: Runs) -> None:
    run = await runs.start(attend, ["a"])
    assert await refusal_of(run, "set_budget", 1, 2) == (
        "too many positional arguments; set_budget takes (limits: Any = None)"
    )


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"calls": 10**400}, "'calls': Input should be less than or equal to 1000000000000000"),
        ({"usd": float("inf")}, "'usd'"),
        ({"usd": float("nan")}, "'usd'"),
        ({"usd": 1e300}, "'usd'"),
        ({"tokens": -(10**40)}, "'tokens': Input should be greater than 0"),
        ({"hours": "x" * 10_000}, "'hours'"),
        ({"x" * 10_000: 1}, "it takes usd"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_budget_at_the_limits_of_numbers_is_refused(runs: Runs, budget: Any, why: str) -> None:
    run = await runs.start(attend, ["a"])
    assert why in await refusal_of(run, "set_budget", budget)
    assert await task_failures(run) == 0


@pytest.mark.parametrize("id", ["", "x" * 100_000, -1, 10**40, None, [], {}, "9-ffff"], ids=lambda id: str(id)[:20])
async def test_an_answer_to_an_id_that_is_none_is_refused(runs: Runs, id: Any) -> None:
    run = await runs.start(attend, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    assert "is not open here" in await refusal_of(run, "answer", {"question": id, "answer": 1})
    assert await task_failures(run) == 0


async def test_an_answer_to_half_a_letter_is_refused(runs: Runs) -> None:
    run = await runs.start(attend, ["a"])
    text = rb'{"question": "\ud83d", "answer": 1}'
    assert await refusal_of(run, "answer", RawValue(Payload(metadata={"encoding": b"json/plain"}, data=text)))
    assert await task_failures(run) == 0


@pytest.mark.parametrize(("query", "args"), [("page", []), ("page", ["x"]), ("page", [1, 2]), ("nothing", [])])
async def test_a_query_with_junk_is_refused_in_words(runs: Runs, query: str, args: list[Any]) -> None:
    kept = await runs.start(JOURNAL, OWNER)
    with pytest.raises(WorkflowQueryFailedError, match=r"takes|can't be read|KeyError: 'x' \(at|not found"):
        await kept.query(query, args=args)


# Starts


@pytest.mark.parametrize("kind", [SHARD, CONVERSATION, JOURNAL])
@pytest.mark.parametrize("inputs", JUNK, ids=lambda args: str(args)[:20])
async def test_an_internal_workflow_that_is_started_with_junk_fails_once(
    runs: Runs, kind: str, inputs: list[Any]
) -> None:
    if kind == CONVERSATION and inputs in ([], [None]):
        return  # that is how they are started
    run = await runs.start(kind, *inputs)
    error = await failure_of(run)
    assert error.message
    assert "File" not in error.message


async def test_a_shard_can_not_be_started_by_itself(runs: Runs) -> None:
    order = {"scatter": "1", "step": "1.1-2", "services": [], "instances": ["a"], "stop_at_error": True}
    run = await runs.start(SHARD, order, b"", {})
    assert "scatter_shard is a part of a run, which starts it" in await message_of(run)


@pytest.mark.parametrize("inputs", [[UNREADABLE], [NO_JSON], [BARE, BARE]], ids=["encoding", "json", "bare"])
async def test_a_run_that_is_started_with_what_no_one_can_read_fails_once(runs: Runs, inputs: list[Any]) -> None:
    assert "can't be read as JSON" in await message_of(await runs.start(attend, *inputs))


async def test_a_run_that_is_started_with_what_looks_like_the_pages_of_a_journal_fails_once(runs: Runs) -> None:
    pages = RawValue(Payload(metadata={"encoding": b"json/pages-of-a-journal"}, data=b"{}"))
    run = await runs.start(attend, pages)
    with pytest.raises(WorkflowFailureError):
        await run.result()
    assert await task_failures(run) == 0


@pytest.mark.parametrize("id", ["x" * 801, "x" * 990, "ä" * 401], ids=["801", "990", "two bytes each"])
async def test_a_workflow_id_that_is_too_long_for_what_is_made_from_it_is_refused_with_the_limit(
    runs: Runs, id: str
) -> None:
    message = await message_of(await runs.start(attend, ["a"], id=id))
    assert f"the workflow id has {len(id.encode())} bytes; 800 is the most" in message


async def test_the_longest_workflow_id_does_for_shards(runs: Runs) -> None:
    run = await runs.start(attend_many, 60, id=f"{uuid.uuid4().hex}{'x' * 768}")
    diary.gate(run.id).set()
    assert await run.result() == 60
