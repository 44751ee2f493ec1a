from __future__ import annotations

import asyncio
import datetime
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from typing_extensions import TypedDict

from activities import Agent, task
from activities.contract.limits import MESSAGE_LIMIT
from activities.errors import ArgumentInvalid, ModelUnavailable
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import count, failure_of, message_of, steps
from workflows import choreography, scatter
from workflows.errors import CallFailed
from workflows.program.label import label

pytestmark = pytest.mark.usefixtures("served")


class Part(BaseModel):
    name: str
    path_: str = Field(alias="path")


@dataclass
class Spot:
    x: int
    y: float


class Named(TypedDict):
    name: str


attempts: defaultdict[str, int] = defaultdict(int)
"""Attempts by run, in this process."""


class Typed(Agent):
    """Gives and takes all sorts of types."""

    @task
    def part(self) -> Part:
        """Return a model whose field has another name in JSON."""
        return Part(name="wrap", path="textkit/wrap.py")

    @task
    def parts(self) -> list[Part]:
        """Return models."""
        return [self.part.__wrapped__(self)] * 2  # type: ignore[attr-defined]

    @task
    def nothing(self) -> None:
        """Return nothing."""

    @task
    def perhaps(self) -> Part | None:
        """Return nothing this time."""
        return None

    @task
    def moment(self) -> datetime.datetime:
        """Return a time."""
        return datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)

    @task
    def spots(self) -> dict[str, tuple[Spot, ...]]:
        """Return data classes in containers."""
        return {"a": (Spot(1, 2.5),)}

    @task
    def named(self) -> Named:
        """Return a typed dict."""
        return {"name": "Ada"}

    @task
    def anything(self):  # type: ignore[no-untyped-def]
        """Return something without saying what."""
        return {"a": [1, None]}

    @task
    def takes(self, part: Part, when: datetime.date, *, spots: list[Spot] | None = None, note: str = "none") -> str:
        """Tell the arguments as they arrive."""
        return f"{part!r}, {when!r}, {spots!r}, {note!r}"

    @task
    def counts(self, text: str) -> int:
        """Return the length of a text."""
        return len(text)


class Troubled(Agent):
    """Has all sorts of trouble."""

    @task(retries=2)
    def fail(self, times: int) -> int:
        """Raise an error a number of times, and then return how often it was tried."""
        return self._attempt(times, RuntimeError("no luck"))

    @task(retries=2)
    def be_busy(self, times: int, seconds: float) -> int:
        """Ask to be tried again later a number of times."""
        return self._attempt(times, ModelUnavailable("busy", retry_after=seconds))

    def _attempt(self, times: int, error: Exception) -> int:
        assert self.call is not None
        attempts[self.call.workflow_id] += 1
        if attempts[self.call.workflow_id] <= times:
            raise error
        return attempts[self.call.workflow_id]

    @task(timeout=0.05, retries=1)
    async def dawdle(self) -> None:
        """Take too long."""
        assert self.call is not None
        attempts[self.call.workflow_id] += 1
        await asyncio.Event().wait()

    @task(retries=0)
    def say(self, length: int) -> str:
        """Return a long text."""
        return "x" * length

    @task(retries=0)
    def complain(self, length: int) -> None:
        """Raise an error with a long message."""
        raise RuntimeError("x" * length)

    @task
    def give_up(self) -> None:
        """Raise what Temporal takes for final."""
        raise ApplicationError("hopeless", type="Hopeless", non_retryable=True)

    @task
    def lie(self) -> int:
        """Return something else than is declared."""
        return "two"  # type: ignore[return-value]

    @task(retries=0)
    async def wait_in_vain(self) -> None:
        """Wait for something that is cancelled."""
        waiting = asyncio.ensure_future(asyncio.sleep(1))
        waiting.cancel()
        await waiting

    @task(retries=0)
    def leave(self) -> None:
        """Try to end the process."""
        sys.exit("gone")


# Types


@choreography
async def ask_for_types(typed: Typed) -> list[str]:
    """Tell the results as they arrive."""
    results = [
        await typed.part(),
        await typed.parts(),
        await typed.nothing(),  # type: ignore[func-returns-value]
        await typed.perhaps(),
        await typed.moment(),
        await typed.spots(),
        await typed.named(),
        await typed.anything(),
    ]
    return [repr(result) for result in results]


async def test_results_come_back_as_their_types(runs: Runs) -> None:
    assert await runs.execute(ask_for_types) == [
        "Part(name='wrap', path_='textkit/wrap.py')",
        "[Part(name='wrap', path_='textkit/wrap.py'), Part(name='wrap', path_='textkit/wrap.py')]",
        "None",
        "None",
        "datetime.datetime(2024, 2, 29, 12, 30, tzinfo=TzInfo(0))",
        "{'a': (Spot(x=1, y=2.5),)}",
        "{'name': 'Ada'}",
        "{'a': [1, None]}",
    ]


@choreography
async def give_types(typed: Typed) -> list[str]:
    """Leave arguments out, and give all of them."""
    part, day = Part(name="wrap", path="wrap.py"), datetime.date(2024, 2, 29)
    return [
        await typed.takes(part, day),
        await typed.takes(part=part, when=day, spots=[Spot(1, 2)], note="all"),
    ]


async def test_arguments_arrive_as_their_types_and_defaults_are_filled_in(runs: Runs) -> None:
    assert await runs.execute(give_types) == [
        "Part(name='wrap', path_='wrap.py'), datetime.date(2024, 2, 29), None, 'none'",
        "Part(name='wrap', path_='wrap.py'), datetime.date(2024, 2, 29), [Spot(x=1, y=2.0)], 'all'",
    ]


@choreography
async def give_wrong_arguments(typed: Typed) -> list[str]:
    """Make calls that can't be, without waiting for them."""
    complaints = []
    for make in (
        lambda: typed.takes("wrap", datetime.date(2024, 2, 29)),  # type: ignore[arg-type]
        lambda: typed.takes(Part(name="wrap", path="wrap.py")),  # type: ignore[call-arg]
        lambda: typed.counts("wrap", 1),  # type: ignore[call-arg]
        lambda: typed.counts("wrap", texts="wrap"),  # type: ignore[call-arg]
    ):
        try:
            make()
        except ArgumentInvalid as error:
            complaints.append(str(error))
    return complaints


async def test_a_wrong_argument_raises_where_the_call_is_made(runs: Runs) -> None:
    wrong, missing, too_many, unknown = await runs.execute(give_wrong_arguments)
    assert wrong.startswith("Typed.takes: 'part': Input should be")
    assert "missing a required argument: 'when'" in missing
    assert "too many positional arguments" in too_many
    assert "unexpected keyword argument 'texts'" in unknown


# Sizes


@choreography(typed=5)
async def give_much(characters: int, calls: int, typed: Typed) -> int:
    """Give long texts to several calls at the same time."""
    return sum(await scatter(range(calls), typed, lambda t, n: t.counts("x" * characters)))


async def test_calls_whose_arguments_are_together_too_large_are_sent_one_after_the_other(runs: Runs) -> None:
    run = await runs.start(give_much, 1_000_000, 5)
    assert await run.result() == 5_000_000
    assert await count(run, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0


async def test_an_argument_that_is_too_large_fails_the_call_and_is_named(runs: Runs) -> None:
    message = await message_of(await runs.start(give_much, 2_500_000, 1))
    assert "its arguments are 2,500,0" in message
    assert "of which 'text' has the most; 2,031,616 is the most" in message
    assert "pass the path" in message


@choreography
async def get_much(length: int, troubled: Troubled) -> int:
    """Get a long text."""
    return len(await troubled.say(length))


async def test_a_result_that_is_too_large_fails_the_call_and_says_what_to_do(runs: Runs) -> None:
    message = await message_of(await runs.start(get_much, 2_500_000))
    assert "ResultInvalid: Troubled.say returned 2,500," in message
    assert "return its path" in message


@choreography
async def hear_a_long_complaint(troubled: Troubled) -> None:
    """Get a long error message."""
    await troubled.complain(10_000_000)


async def test_a_long_error_message_is_cut(runs: Runs) -> None:
    message = await message_of(await runs.start(hear_a_long_complaint))
    assert "RuntimeError: xxx" in message
    assert "characters cut" in message
    assert "(test_call.py:" in message
    assert len(message) <= MESSAGE_LIMIT + 100


# Failures


@choreography
async def try_often(times: int, troubled: Troubled) -> int:
    """Call what fails a number of times."""
    return await troubled.fail(times)


async def test_a_call_that_fails_is_tried_again(quick_runs: Runs) -> None:
    assert await quick_runs.execute(try_often, 2) == 3


async def test_a_call_that_fails_more_often_than_it_is_retried_fails_for_good(quick_runs: Runs) -> None:
    run = await quick_runs.start(try_often, 100)
    assert "Troubled.fail (troubled-1, step 1, 100) failed: RuntimeError: no luck" in await message_of(run)
    assert attempts[run.id] == 3


@choreography
async def take_too_long(troubled: Troubled) -> None:
    """Call what does not end in time."""
    await troubled.dawdle()


async def test_an_attempt_that_takes_too_long_is_ended_and_tried_again(quick_runs: Runs) -> None:
    run = await quick_runs.start(take_too_long)
    message = await message_of(run)
    assert "AttemptTimedOut: Troubled.dawdle was not done after 0.05 s. Give it more time, @task(timeout=…)" in message
    assert attempts[run.id] == 2


@choreography
async def find_it_busy(times: int, seconds: float, troubled: Troubled) -> int:
    """Call what asks to be tried again later."""
    return await troubled.be_busy(times, seconds)


async def test_a_call_that_is_asked_to_wait_is_tried_again_after_that_time(runs: Runs) -> None:
    run = await runs.start(find_it_busy, 1, 1234)
    async with asyncio.timeout(20):
        while not (pending := (await run.describe()).raw_description.pending_activities) or pending[0].attempt < 2:
            await asyncio.sleep(0.01)
    [call] = pending
    assert call.current_retry_interval.seconds == 1234


async def test_waiting_is_counted_like_any_failure(runs: Runs) -> None:
    run = await runs.start(find_it_busy, 100, 0.01)
    assert "ModelUnavailable: busy" in await message_of(run)
    assert attempts[run.id] == 3


@choreography
async def hear(method: str, troubled: Troubled) -> list[str]:
    """Tell what a failed call says of itself."""
    try:
        await getattr(troubled, method)()
    except CallFailed as error:
        return [error.method, error.instance, error.step, error.kind, *map(str, error.args)]
    return []


async def test_a_failed_call_can_be_caught_and_says_what_failed(runs: Runs) -> None:
    method, instance, step, kind, _ = await runs.execute(hear, "give_up")
    assert (method, instance, step, kind) == ("Troubled.give_up", "troubled-1", "1", "Hopeless")


async def test_a_result_of_another_type_fails_the_call_without_another_attempt(runs: Runs) -> None:
    *_, kind, message = await runs.execute(hear, "lie")
    assert kind == "ResultInvalid"
    assert "Troubled.lie returned something else than it declares" in message


async def test_code_that_tries_to_end_the_process_fails_its_call_only(runs: Runs) -> None:
    *_, kind, message = await runs.execute(hear, "leave")
    assert (kind, "gone (test_call.py:" in message) == ("SystemExit", True)


async def test_code_that_waits_for_what_is_cancelled_fails_its_call(runs: Runs) -> None:
    *_, kind, message = await runs.execute(hear, "wait_in_vain")
    assert (kind, "(test_call.py:" in message) == ("CancelledError", True)


# Awaiting


@choreography
async def await_twice(worker: Worker) -> list[str]:
    """Await one call again and again, also at the same time."""
    call = worker.work("once")
    first = await call
    return [first, await call, *await asyncio.gather(call, call)]


async def test_a_call_that_is_awaited_again_gives_the_same_result(runs: Runs) -> None:
    run = await runs.start(await_twice)
    assert await run.result() == ["worker-1"] * 4
    assert diary.items(run.id, "begin") == ["once"]


@choreography
async def await_at_the_same_time(worker: Worker) -> list[str]:
    """Await one call from two places at the same time."""
    call = worker.work("once")

    async def wait() -> str:
        return await call

    return list(await asyncio.gather(wait(), wait()))


async def test_a_call_may_be_awaited_from_several_places_at_the_same_time(runs: Runs) -> None:
    run = await runs.start(await_at_the_same_time)
    assert await run.result() == ["worker-1"] * 2
    assert diary.items(run.id, "begin") == ["once"]


@choreography
async def never_await(worker: Worker) -> str:
    """Make calls and forget about some."""
    _ = worker.work("never")
    return await worker.whoami()


async def test_a_call_that_is_never_awaited_is_never_made_and_that_is_said(runs: Runs) -> None:
    run = await runs.start(never_await)
    assert "the call of Worker.work (step 1) at test_call.py:" in await message_of(run)
    assert [step.id for step in await steps(run)] == ["2"]


@choreography
async def keep_an_instance(worker: Worker) -> None:
    """Use an instance after the body that it was claimed for."""
    kept: list[Worker] = []

    async def keep(worker: Worker) -> None:
        kept.append(worker)

    await scatter(["wrap"], worker, lambda w, item: keep(w))
    await kept[0].whoami()


@choreography
async def keep_a_call(worker: Worker) -> None:
    """Await a call after the body that it was made in."""
    calls: list[Any] = []

    async def make(worker: Worker) -> None:
        calls.append(worker.whoami())

    await scatter(["wrap"], worker, lambda w, item: make(w))
    await calls[0]


@pytest.mark.parametrize("program", [keep_an_instance, keep_a_call], ids=lambda program: program.name)
async def test_an_instance_can_not_be_used_after_its_body_has_ended(runs: Runs, program: Any) -> None:
    failure = await failure_of(await runs.start(program))
    assert failure.type == "ClaimEnded"
    assert "await its calls inside the body" in failure.message


# Cancelling


@choreography(worker=2)
async def wait_for_all(items: list[str], worker: Worker) -> list[str]:
    """Wait for calls that do not end by themselves."""
    return await scatter(items, worker, lambda w, item: w.wait(item))


async def test_cancelling_a_run_cancels_its_calls_and_begins_no_others(runs: Runs) -> None:
    run = await runs.start(wait_for_all, ["a", "b", "c"])
    await diary.wait_for(run.id, "begin", 2)
    await run.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await run.result()
    assert isinstance(failure.value.cause, CancelledError)
    assert sorted(diary.items(run.id, "cancelled")) == ["a", "b"]


@choreography
async def set_a_limit(worker: Worker) -> str:
    """Give up waiting for a call."""
    try:
        async with asyncio.timeout(0.1):
            return await worker.wait("long")
    except TimeoutError:
        return await worker.work("short")


async def test_a_choreography_may_limit_the_time_that_it_waits(runs: Runs) -> None:
    run = await runs.start(set_a_limit)
    assert await run.result() == "worker-1"
    assert diary.items(run.id, "cancelled") == ["long"]


# Labels


class Module(BaseModel):
    name: str
    module_path: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a  text\nof two lines", "a text of two lines"),
        ("x" * 100, f"{'x' * 59}…"),
        (7, "7"),
        (None, "None"),
        ("", ""),
        (Module(name="wrap", module_path="textkit/wrap.py"), "textkit/wrap.py"),
        ((Module(name="wrap", module_path="textkit/wrap.py"), "feedback"), "textkit/wrap.py"),
        ({"text": "hello", "module_name": "wrap"}, "wrap"),
        ({1: "one"}, "one"),
        ({"size": 3}, "{'size': 3}"),
        (Spot(1, 2.5), "Spot(x=1, y=2.5)"),
        ([], "[]"),
    ],
)
def test_an_items_label_is_what_tells_it_from_others(value: Any, text: str) -> None:
    assert label(value) == text
