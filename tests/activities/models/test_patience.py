from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle

from activities import Agent, prompt, task, tool
from activities.errors import ModelUnavailable
from activities.models import gates, model, patience
from activities.models.gates import Gate
from tests.conftest import Runs
from tests.provider import Cut, Fault, Garbage, Provider, Reply, Request, Slow, Streamed, Text, ToolCall, Tools
from workflows import choreography, scatter

DOWN_S = 3.0


class Asker(Agent):
    """You ask."""

    @prompt(retries=1)
    async def tell(self, what: str) -> str:
        """Tell of {what}."""

    @prompt(patience=0.5)
    async def tell_soon(self, what: str) -> str:
        """Tell of {what}."""

    @prompt(timeout=1.5)
    async def tell_in_time(self, what: str) -> str:
        """Tell of {what}."""

    @prompt
    async def delegate(self) -> str:
        """Delegate."""

    @tool(timeout=1.5)
    async def inner(self) -> str:
        """Ask another."""
        return await Inner().answer()

    @task(timeout=1.5)
    async def work(self) -> str:
        return await Inner().answer()


class Inner(Agent):
    """You are asked by others."""

    @prompt
    async def answer(self) -> str:
        """Answer."""


class Hasty(Asker):
    """You do not wait."""

    patience = 0.5


@choreography(asker=40)
async def tell_all(number: int, asker: Asker) -> list[str]:
    return await scatter(range(number), asker, lambda a, n: a.tell(f"number {n}."))


class Listener(Asker):
    """You notice silence."""

    silence = 0.5


@choreography
async def tell_patiently(listener: Listener) -> str:
    return await listener.tell("ducks")


@choreography
async def tell_soon(asker: Asker) -> str:
    return await asker.tell_soon("ducks")


@choreography
async def tell_hastily(hasty: Hasty) -> str:
    return await hasty.tell("ducks")


@choreography
async def tell_in_time(asker: Asker) -> str:
    return await asker.tell_in_time("ducks")


@choreography
async def delegate(asker: Asker) -> str:
    return await asker.delegate()


@choreography
async def work(asker: Asker) -> str:
    return await asker.work()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute lasts a second."""
    monkeypatch.setattr(gates, "FIRST_DELAY_S", 0.2)
    monkeypatch.setattr(gates, "LONGEST_DELAY_S", 1.0)
    monkeypatch.setattr(patience, "_TOLD_S", 0.5)
    monkeypatch.setattr(patience, "_LOOK_S", (0.05, 0.2))


def down(provider: Provider, reply: Reply, seconds: float = DOWN_S, then: Reply | None = None) -> float:
    """Let a provider fail from now on for some seconds; return when it is there again."""
    back = time.monotonic() + seconds

    def respond(_: Request) -> Reply:
        return reply if time.monotonic() < back else then or Text("quack")

    provider._responder = respond
    return back


async def failure_of(run: WorkflowHandle[Any, Any]) -> str:
    with pytest.raises(WorkflowFailureError) as caught:
        await run.result()
    return str(caught.value.cause)


@pytest.mark.parametrize(
    "reply", [Fault(503), Fault(500), Fault(529), Fault(429), Fault(429, retry_after=0.3)], ids=str
)
async def test_40_calls_wait_for_a_provider_that_is_down_and_are_answered(
    runs: Runs, provider: Provider, reply: Reply
) -> None:
    async with runs.serving(__name__):
        back = down(provider, reply)
        run = await runs.start(tell_all, 40)
        assert await run.result() == ["quack"] * 40
    meanwhile = [request for request in provider.requests if request.at < back]
    assert len(meanwhile) <= 40 + 20  # those that were sent before the first one failed, and tries


async def test_while_a_provider_is_down_one_request_at_a_time_tries(runs: Runs, provider: Provider) -> None:
    async with runs.serving(__name__):
        provider._responder = lambda _: Slow(0.5, Fault(503)) if len(provider.requests) <= 15 else Text("quack")
        assert await runs.execute(tell_all, 10) == ["quack"] * 10
    tries = [request.at for request in provider.requests[10:15]]
    assert len(tries) == 5
    assert all(later - earlier > 0.5 for earlier, later in itertools.pairwise(tries))


async def test_a_provider_that_is_away_for_ten_minutes_is_asked_twenty_times(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes last three seconds."""
    monkeypatch.setattr(gates, "FIRST_DELAY_S", 1 / 200)
    monkeypatch.setattr(gates, "LONGEST_DELAY_S", 60 / 200)
    monkeypatch.setattr(patience, "_LOOK_S", (0.01, 0.02))
    async with runs.serving(__name__):
        back = down(provider, Fault(503), seconds=0.3 + 600 / 200)
        assert await runs.execute(tell_all, 40) == ["quack"] * 40
    first = provider.requests[0].at
    assert sum(first + 0.3 <= request.at < back for request in provider.requests) <= 20


async def test_after_a_rate_limit_calls_do_not_all_come_at_once(runs: Runs, provider: Provider) -> None:
    async with runs.serving(__name__):
        back = down(provider, Fault(429, retry_after=1), seconds=2, then=Slow(0.5, Text("quack")))
        assert await runs.execute(tell_all, 20) == ["quack"] * 20
    first = next(request.at for request in provider.requests if request.at >= back)
    assert sum(first <= request.at < first + 0.4 for request in provider.requests) == 1
    assert sum(first <= request.at < first + 0.9 for request in provider.requests) <= 4


@pytest.mark.parametrize("start", [tell_soon, tell_hastily], ids=["the method's", "the class's"])
async def test_a_call_whose_patience_is_used_up_fails_for_good_and_says_so(
    runs: Runs, provider: Provider, start: Callable[..., Any]
) -> None:
    async with runs.serving(__name__):
        down(provider, Fault(503), seconds=60)
        began = time.monotonic()
        message = await failure_of(await runs.start(start))  # type: ignore[arg-type]
    assert time.monotonic() - began < 10
    assert "PatienceExhausted: openai/any is not to be had: since " in message
    assert "(could not answer (HTTP 503): The provider failed on demand). The call was to wait 0.5 s in all." in message


async def test_a_provider_that_asks_for_more_patience_than_there_is_is_not_waited_for(
    runs: Runs, provider: Provider
) -> None:
    async with runs.serving(__name__):
        down(provider, Fault(429, retry_after=100_000), seconds=60)
        assert "PatienceExhausted" in await failure_of(await runs.start(tell_in_time))
    assert len(provider.requests) == 1


@pytest.mark.parametrize("start", [tell_in_time, work, delegate], ids=["a prompt", "a task", "a tool"])
async def test_waiting_counts_neither_as_time_nor_as_an_attempt(
    runs: Runs, provider: Provider, start: Callable[..., Any]
) -> None:
    provider.on("Delegate", Tools((ToolCall("inner", {}),)), Text("quack"))
    async with runs.serving(__name__):
        down(provider, Fault(503))
        run = await runs.start(start)  # type: ignore[arg-type]
        assert await run.result() == "quack"
        history = await run.fetch_history()
    assert [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    ] == [1]


async def test_a_run_is_told_once_what_its_calls_wait_for_and_once_that_it_is_over(
    runs: Runs, provider: Provider
) -> None:
    async with runs.serving(__name__):
        down(provider, Fault(429, message="Slow down."))
        run = await runs.start(tell_all, 10)
        while not (progress := await run.query("progress"))["waits_for"]:
            await asyncio.sleep(0.1)
        assert progress["waits_for"][0].startswith("openai/any since ")
        assert "UTC (is limiting the rate: Slow down); next try at " in progress["waits_for"][0]
        assert progress["status"].startswith("waits: openai/any since ")
        await run.result()
        history = await run.fetch_history()
        assert (await run.query("progress"))["waits_for"] == []
    signals = [e for e in history.events if e.HasField("workflow_execution_signaled_event_attributes")]
    assert len(signals) == 2


async def test_a_request_that_fails_while_others_are_answered_holds_nobody_up(runs: Runs, provider: Provider) -> None:
    provider._responder = lambda request: Fault(500) if "number 3." in request.last_user else Slow(0.1, Text("quack"))
    async with runs.serving(__name__):
        run = await runs.start(tell_all, 600)
        assert "item 3 (3) on asker" in await failure_of(run)
    assert sum("number 3." in request.last_user for request in provider.requests) < 60


async def test_nobody_waits_outside_of_a_run(provider: Provider) -> None:
    provider.enqueue(Fault(503))
    with pytest.raises(ModelUnavailable):
        await Asker().tell("ducks")


@pytest.mark.parametrize("arguments", [[], ["openai/any"], [1, 2, 3], ["a", "9", "text"], ["a", "1", None], [{}] * 5])
async def test_a_notice_that_makes_no_sense_changes_nothing(
    runs: Runs, provider: Provider, arguments: list[Any]
) -> None:
    provider.enqueue(Slow(0.4, Text("quack")))
    async with runs.serving(__name__):
        run = await runs.start(tell_in_time)
        await run.signal("waits_for_model", args=arguments)
        assert (await run.query("progress"))["waits_for"] == []
        assert await run.result() == "quack"


@pytest.mark.parametrize(
    ("reply", "parameters", "outage"),
    [
        (Fault(503), {}, True),
        (Fault(429), {}, True),
        (Slow(2, Text("late")), {"timeout": 0.5}, True),
        (Text("nobody asks for it"), {"api_base": "http://127.0.0.1:1/v1"}, True),
        (Text("nobody asks for it"), {"api_base": "http://nowhere.invalid/v1"}, True),
        (Streamed(Text("It rained."), pieces=2), {}, True),
        (Garbage(), {}, False),
        (Cut(), {}, False),
    ],
    ids=["503", "429", "late", "refused", "no such host", "silence", "garbage", "cut"],
)
async def test_what_nobody_would_be_answered_for_is_an_outage(
    provider: Provider, reply: Reply, parameters: dict[str, Any], outage: bool
) -> None:
    provider.enqueue(reply)
    messages = [{"role": "user", "content": "?"}]
    question = model.ModelRequest("openai/any", messages, parameters=parameters, silence=0.3)
    with pytest.raises(ModelUnavailable) as caught:
        await model.complete(question)
    assert caught.value.outage is outage


OUTAGE = ModelUnavailable("m is away. Wait.", outage=True)


def closed_gate() -> Gate:
    gate = Gate("m", None)
    gate.failed(gate.enter(), OUTAGE)
    return gate


def test_a_try_that_was_cancelled_makes_way_for_another() -> None:
    gate = closed_gate()
    gate._next_try = 0
    ticket = gate.enter()
    assert not gate.admits()
    gate.leave(ticket)
    assert gate.admits()


def test_a_failure_from_before_the_gate_was_closed_makes_nobody_wait_longer() -> None:
    gate = Gate("m", None)
    tickets = [gate.enter() for _ in range(30)]
    for ticket in tickets:
        assert gate.failed(ticket, OUTAGE)
    assert gate.seconds_to_next_try() <= gates.FIRST_DELAY_S


def test_an_answer_that_stalls_closes_no_gate_and_opens_none() -> None:
    stalled = ModelUnavailable("m fell silent.", outage=True, stalled=True)
    gate = Gate("m", None)
    assert not gate.failed(gate.enter(), stalled)
    assert gate.admits()

    gate = closed_gate()
    gate._next_try = 0
    assert gate.failed(gate.enter(), stalled)
    assert not gate.admits()


def test_a_request_that_fails_again_after_others_were_answered_holds_nobody_up() -> None:
    gate = Gate("m", None)
    assert gate.failed(gate.enter(), OUTAGE)
    failed_at = gate.answers
    gate._next_try = 0
    gate.answered(gate.enter())

    assert not gate.failed(gate.enter(failed_at), OUTAGE)
    assert gate.admits()
    assert gate.failed(gate.enter(gate.answers), OUTAGE)


async def test_a_call_whose_answer_stalls_asks_again_by_itself(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Streamed(Text("It rained."), pieces=2), Text("quack"))

    async with runs.serving(__name__):
        run = await runs.start(tell_patiently)
        assert await run.result() == "quack"
        usage = (await run.query("progress"))["usage"]

    assert (usage["model_calls"], usage["estimated"]) == (2, 1)


def test_one_answer_opens_the_gate_for_all_after_an_outage() -> None:
    gate = closed_gate()
    gate._next_try = 0
    gate.answered(gate.enter())
    assert all((gate.admits(), gate.enter()) for _ in range(100))
