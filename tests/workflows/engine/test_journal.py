from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError
from temporalio.worker import Worker as TemporalWorker

import workflows.engine.continuation
import workflows.engine.lifetime
from activities import Agent, task
from activities.payloads.encryption import new_key
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import failure_of, histories, told
from workflows import choreography, continue_with, scatter
from workflows.engine.happenings import Happening, Outcome, Step, write_page
from workflows.engine.journal import Journal
from workflows.serving.client import open_client
from workflows.serving.workers import replayer

pytestmark = pytest.mark.usefixtures("served")

EVENTS = 40


@pytest.fixture(autouse=True)
def short_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs continue as new after a few calls."""
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", EVENTS)


async def lengths(client: Client, run: WorkflowHandle[Any, Any]) -> list[int]:
    """Return how many events each of them has."""
    return [len(history.events) for history in await histories(client, run)]


@contextmanager
def open_gate(name: str) -> Iterator[None]:
    """Let the runs of this test find a gate open that others find shut."""
    diary.gate(name).set()
    try:
        yield
    finally:
        diary.gate(name).clear()


async def continued(client: Client, run: WorkflowHandle[Any, Any], times: int) -> None:
    """Wait until a run has continued as new so often."""
    async with asyncio.timeout(60):
        while len(await lengths(client, run)) <= times:
            await asyncio.sleep(0.05)


@choreography(worker=2)
async def rounds(number: int, worker: Worker) -> list[int]:
    """Do three calls a round."""
    done = []
    for n in range(number):
        done.append(await worker.double(n))
        await asyncio.gather(worker.double(n), worker.work(str(n), 0.0))
    return done


async def test_a_long_loop_continues_as_new_and_does_nothing_twice(runs: Runs) -> None:
    run = await runs.start(rounds, 20)
    assert await run.result() == [2 * n for n in range(20)]
    assert len(histories := await lengths(runs.client, run)) > 3
    assert max(histories) < EVENTS + 40
    assert sorted(diary.items(run.id, "end"), key=int) == [str(n) for n in range(20)]


@choreography(worker=2)
async def hand_round(key: str, number: int, worker: Worker) -> list[str]:
    """Do a call a round, with a key that a person should not have given."""
    return [await worker.work(f"{key}, {n}", 0.0) for n in range(number)]


async def test_a_run_that_was_started_with_a_secret_comes_to_where_it_was(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIVEN_TOKEN", "given-by-hand")
    key = "given-by-hand and sk-proj-1234567890abcdefghij"
    run = await runs.start(hand_round, key, 20)
    assert len(await run.result()) == 20
    assert diary.items(run.id, "end") == [f"[secret GIVEN_TOKEN] and [secret], {n}" for n in range(20)]
    assert len(await lengths(runs.client, run)) > 2


@choreography(worker=5, other=3)
async def races(seed: int, worker: Worker, other: Worker) -> int:
    """Time out, race, and run side by side, in an order that nobody can foresee."""
    chance = random.Random(seed)
    slow = [[chance.random() for _ in range(6)] for _ in range(20)]

    async def body(w: Worker, item: int) -> int:
        first = await w.work(f"{item}a", 0.02 * slow[item][0])
        with suppress(TimeoutError):
            async with asyncio.timeout(0.02 + 0.05 * slow[item][1]):
                await other.work(f"{item}b", 0.05 * slow[item][2])
        racing: list[asyncio.Future[Any]] = [asyncio.ensure_future(other.work(f"{item}c", 0.03 * slow[item][3]))]
        racing.append(asyncio.ensure_future(asyncio.sleep(0.04 * slow[item][4])))
        done, pending = await workflow.wait(racing, return_when=asyncio.FIRST_COMPLETED)
        for late in pending:
            late.cancel()
        if slow[item][5] > 0.5:
            await w.double(len(done))
        assert first == await asyncio.wait_for(w.work(f"{item}d", 0.0), 30)
        return item

    async def tick() -> None:
        for n in range(10):
            await asyncio.sleep(0.03)
            await other.double(n)

    ticking = asyncio.create_task(tick())
    items = await scatter(range(20), worker, body)
    await ticking
    return len(items)


@pytest.mark.parametrize("seed", range(3))
async def test_waits_races_and_claims_come_out_as_before(runs: Runs, seed: int) -> None:
    run = await runs.start(races, seed)
    assert await run.result() == 20
    assert len(await lengths(runs.client, run)) > 3
    done = [item for item in diary.items(run.id, "end") if item[-1] in "ad"]
    assert sorted(done) == sorted(f"{item}{part}" for item in range(20) for part in "ad")


async def test_every_history_of_a_run_can_be_replayed(runs: Runs) -> None:
    run = await runs.start(races, 7)
    await run.result()
    for history in await histories(runs.client, run):
        await replayer(races).replay_workflow(history)


@choreography(worker=2)
async def two_lines(worker: Worker) -> list[list[int]]:
    """Run two loops of different speed side by side, whose calls look alike."""

    async def line(pause: float) -> list[int]:
        numbers = []
        for n in range(12):
            numbers.append(await worker.double(n))
            await asyncio.sleep(pause)
        return numbers

    return list(await asyncio.gather(line(0.03), line(0.0)))


async def test_tasks_that_run_side_by_side_are_not_taken_for_each_other(runs: Runs) -> None:
    run = await runs.start(two_lines)
    assert await run.result() == [[2 * n for n in range(12)]] * 2
    assert len(await lengths(runs.client, run)) > 2


@choreography
async def sleeper(naps: int, worker: Worker) -> int:
    """Sleep between calls."""
    for n in range(naps):
        await asyncio.sleep(0.4)
        await worker.double(n)
    return naps


async def test_nobody_sleeps_the_same_sleep_twice(runs: Runs) -> None:
    began = time.monotonic()
    run = await runs.start(sleeper, 16)
    assert await run.result() == 16
    continued_as_new = len(await lengths(runs.client, run)) - 1
    assert continued_as_new >= 3
    slept_again = sum(0.4 * 16 * n / continued_as_new for n in range(continued_as_new))
    assert time.monotonic() - began < 0.4 * 16 + slept_again


@choreography(worker=2)
async def with_failures(number: int, worker: Worker) -> list[str]:
    """Fail now and then, and go on."""
    told = []
    for n in range(number):
        try:
            await worker.fail(f"no {n}")
        except Exception as error:
            told.append(str(error))
        await worker.double(n)
    return told


async def test_a_failure_is_told_as_it_was(runs: Runs) -> None:
    run = await runs.start(with_failures, 12)
    told = await run.result()
    assert len(await lengths(runs.client, run)) > 2
    for n, message in enumerate(told):
        assert f"failed: RuntimeError: no {n} " in message


@choreography
async def endless(worker: Worker) -> None:
    """Do one thing after the other, the kind of the fifth of which a test may change."""
    number = 0
    while True:
        number += 1
        if diary.gate("another path").is_set() and number == 5:
            await worker.work(f"other {number}", 0.0)
        else:
            await worker.double(number)


async def test_a_run_that_comes_to_another_path_waits_and_tells_where(runs: Runs) -> None:
    run = await runs.start(endless, task_timeout=timedelta(seconds=2))
    await continued(runs.client, run, 1)
    with open_gate("another path"):
        said = await told(runs, run)
    assert "step 5 expected Worker.double by worker-1 (5), found Worker.work by worker-1 (other 5). Serve the" in said
    await continued(runs.client, run, len(await lengths(runs.client, run)))


async def test_a_run_that_continued_is_cancelled_like_any_other(runs: Runs) -> None:
    run = await runs.start(endless)
    await continued(runs.client, run, 2)
    await run.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await run.result()
    assert isinstance(caught.value.cause, CancelledError)


@choreography
async def shorter_and_shorter(length: int, worker: Worker) -> int:
    """Do fewer and fewer calls as the test shows the way, and end."""
    rounds_left = 1 if diary.gate("the short way").is_set() else length
    for n in range(rounds_left):
        await worker.double(n)
    return rounds_left


async def test_a_program_that_ends_before_it_comes_to_where_it_was_is_waited_for(runs: Runs) -> None:
    run = await runs.start(shorter_and_shorter, 10_000, task_timeout=timedelta(seconds=2))
    await continued(runs.client, run, 1)
    with open_gate("the short way"):
        said = await told(runs, run)
    assert "step 2 expected Worker.double by worker-1 (1), found the program ended before that" in said


@workflow.defn(sandboxed=False)
class CancelsEarly:
    """Tells of a past in which the second of two steps had not come to its end, and cancels that one."""

    @workflow.run
    async def run(self) -> list[Any]:
        """Return how both end, and what was done."""
        done: list[str] = []

        async def work() -> Outcome:
            done.append("worked")
            return Outcome("anew")

        journal = Journal(0.0, write_page([Happening(0.1, Step("1", "one"), Outcome("before"))]))
        first, second = [asyncio.create_task(journal.step(Step(id, id), work)) for id in ("1", "2")]
        await asyncio.sleep(0)
        second.cancel()
        telling = asyncio.create_task(journal.tell())
        ended = [(await first).data, (await second).data, (await journal.step(Step("3", "3"), work)).data]
        telling.cancel()
        return [*ended, *done]


async def test_a_step_that_is_cancelled_before_its_turn_comes_is_never_begun(client: Client) -> None:
    queue = f"journal-{uuid.uuid4().hex[:8]}"
    async with TemporalWorker(client, task_queue=queue, workflows=[CancelsEarly]):
        ended = await client.execute_workflow(
            "CancelsEarly", id=queue, task_queue=queue, execution_timeout=timedelta(seconds=20)
        )
    assert ended == ["before", None, "anew", "worked"]


@choreography
async def generations(left: int, seen: list[str], worker: Worker) -> list[str]:
    """Pass on to a fresh program what was seen."""
    seen.append(await worker.work(f"round {left}", 0.0))
    return continue_with(left - 1, seen) if left > 1 else seen


async def test_continue_with_begins_afresh_with_other_inputs(runs: Runs) -> None:
    run = await runs.start(generations, 5, [])
    assert await run.result() == ["worker-1"] * 5
    assert len(await lengths(runs.client, run)) == 5
    assert diary.items(run.id, "end") == [f"round {left}" for left in (5, 4, 3, 2, 1)]


async def test_continue_with_keeps_the_options(runs: Runs) -> None:
    run = await runs.start(generations, 2, [], {"instances": {"worker": 7}})
    await run.result()
    described = (await run.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert b'"instances":{"worker":7}' in described.input.payloads[-1].data


@choreography
async def wrong_inputs(left: int, worker: Worker) -> int:
    """Pass on what it does not take."""
    return continue_with(left - 1, colour="green")


async def test_continue_with_names_an_input_that_there_is_not(runs: Runs) -> None:
    failure = await failure_of(await runs.start(wrong_inputs, 5))
    assert failure.type == "InputInvalid"
    assert "colour" in failure.message
    assert "wrong_inputs takes (left: int" in failure.message


async def test_without_a_server_continue_with_can_be_compared() -> None:
    result: Any = await wrong_inputs(2, Worker())
    assert result == continue_with(1, colour="green")


# What belongs to the run, whatever it continues as


class Count(BaseModel):
    """How often somebody counted."""

    counted: int = 0


class Counter(Agent):
    """Remembers how often it counted."""

    state: Count = Count()

    @task
    async def count(self) -> int:
        """Count one more."""
        self.state.counted += 1
        return self.state.counted


@choreography(worker=2)
async def count_before_and_after(rounds: int, counter: Counter, worker: Worker) -> list[int]:
    """Count, do much else, and count again if there is more to do."""
    counted = [await counter.count()]
    for n in range(20):
        await worker.double(n)
    if rounds % 2:
        counted.append(await counter.count())
    return continue_with(rounds - 2) if rounds > 2 else counted


@pytest.mark.parametrize(("rounds", "counted"), [(1, [1, 2]), (2, [1]), (3, [3, 4]), (4, [2])])
async def test_conversations_go_on_and_end_with_the_run(runs: Runs, rounds: int, counted: list[int]) -> None:
    run = await runs.start(count_before_and_after, rounds)
    assert await run.result() == counted
    assert len(await lengths(runs.client, run)) > 2
    async with asyncio.timeout(20):
        assert "entries" in await runs.client.get_workflow_handle(f"{run.id}/counter-1").result()


# Where there is much to remember


@choreography(worker=2)
async def texts(number: int, worker: Worker) -> int:
    """Get a text that can't be compressed, again and again."""
    return sum([len(await worker.noise(n, 20_000)) for n in range(number)])


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run carry only little in its history, and keep the rest in small pages."""
    monkeypatch.setattr(workflows.engine.continuation, "INPUT_BYTES", 40_000)
    monkeypatch.setattr(workflows.engine.continuation, "PAGE_BYTES", 30_000)


@pytest.mark.usefixtures("little_room")
async def test_a_large_journal_is_kept_outside_of_the_history(runs: Runs) -> None:
    run = await runs.start(texts, 30)
    assert await run.result() == 30 * 20_000
    found = await histories(runs.client, run)
    assert len(found) > 4
    inputs = found[-1].events[0].workflow_execution_started_event_attributes.input
    assert inputs.ByteSize() < 40_000
    assert b'"pages":' in inputs.payloads[1].data
    client = await open_client(target_host=runs.client.service_client.config.target_host)
    for history in found:
        await replayer(texts, client=client).replay_workflow(history)


@pytest.mark.usefixtures("little_room")
async def test_a_large_journal_is_encrypted_with_all_of_its_pages(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYLOAD_KEY", new_key())
    client = await open_client(target_host=runs.client.service_client.config.target_host)
    async with runs.serving(__name__, team="sealed"):
        run = await client.start_workflow("texts", 30, id="sealed-texts", task_queue="sealed.choreography")
        assert await run.result() == 30 * 20_000
        found = await histories(client, run)
        assert len(found) > 4
        inputs = found[-1].events[0].workflow_execution_started_event_attributes.input
        assert {payload.metadata["encoding"] for payload in inputs.payloads} == {b"binary/encrypted"}
        await replayer(texts, client=client).replay_workflow(found[-1])


@pytest.mark.usefixtures("little_room")
async def test_what_keeps_the_pages_ends_with_the_run(runs: Runs) -> None:
    run = await runs.start(texts, 30)
    await run.result()
    journal = runs.client.get_workflow_handle(f"{run.id}/journal")
    async with asyncio.timeout(20):
        assert (await journal.result()).startswith("kept ")


@pytest.mark.usefixtures("little_room")
async def test_a_journal_that_is_too_large_fails_the_run_and_says_what_to_do(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.engine.continuation, "JOURNAL_BYTES", 100_000)
    failure = await failure_of(await runs.start(texts, 1_000))
    assert failure.type == "JournalFull"
    assert "continue_with" in failure.message
