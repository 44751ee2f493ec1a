from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError

from activities import Agent, prompt
from activities.contract.leases import Lease, NoLease, Rates, Report
from activities.models import patience, throttle
from activities.models.throttle import Throttle
from testing.quota import Quota
from tests.conftest import Runs
from tests.provider import Fault, Provider, Text
from workflows import choreography, scatter
from workflows.limits import limiter, pot


class Asker(Agent):
    """You ask."""

    @prompt(memory=False)
    async def tell(self, what: str) -> str:
        """Tell of {what}."""

    @prompt(memory=False, timeout=1.0)
    async def tell_in_time(self, what: str) -> str:
        """Tell of {what}."""

    @prompt(memory=False, patience=0.5)
    async def tell_soon(self, what: str) -> str:
        """Tell of {what}."""


class Substituted(Agent):
    """You ask, and others in your place."""

    model = "openai/first"
    fallbacks = ("openai/second",)

    @prompt(memory=False)
    async def tell(self, what: str) -> str:
        """Tell of {what}."""


@choreography(asker=40)
async def tell_all(who: str, number: int, asker: Asker, method: str = "tell") -> list[str]:
    return await scatter(range(number), asker, lambda a, n: getattr(a, method)(f"{who} {n}."))


@choreography(substituted=10)
async def tell_by_others(number: int, substituted: Substituted) -> list[str]:
    return await scatter(range(number), substituted, lambda s, n: s.tell(f"{n}."))


LIMITERS = "WorkflowType = 'limiter' AND ExecutionStatus = 'Running'"


@pytest.fixture(autouse=True)
async def no_limiter(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let none live longer than its test, and none of another test any longer."""
    await end_limiters(client)
    monkeypatch.setattr(limiter, "ENDS_AFTER_S", 4.0)
    monkeypatch.setattr(pot, "REPORT_EVERY_S", 1.0)
    monkeypatch.setattr(throttle, "SOONEST_S", 0.2)
    yield
    await end_limiters(client)


async def end_limiters(client: Client) -> None:
    async with asyncio.timeout(60):
        while found := await limiters(client):
            for one in found:
                with suppress(RPCError):  # it has ended by itself
                    await client.get_workflow_handle(one).terminate("the test is over")
            await asyncio.sleep(0.05)


async def limiters(client: Client) -> list[str]:
    return [found.id async for found in client.list_workflows(LIMITERS)]


async def test_a_model_without_limits_has_no_limiter(runs: Runs, provider: Provider, client: Client) -> None:
    provider.enqueue(*[Text("quack")] * 40, Fault(429))
    async with runs.serving(__name__):
        await runs.execute(tell_all, "ann", 40)
        assert await limiters(client) == []


async def test_requests_keep_a_set_limit_and_two_runs_get_the_same(
    runs: Runs, provider: Provider, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=600rpm/100000tpm")
    provider._responder = lambda _: Text("quack")
    async with runs.serving(__name__):
        began = time.monotonic()
        many = await runs.start(tell_all, "ann", 24)
        await asyncio.sleep(0.5)
        few = await runs.start(tell_all, "bob", 6)
        assert await few.result() == ["quack"] * 6
        left = 24 - sum("ann" in request.last_user for request in provider.requests)
        assert await many.result() == ["quack"] * 24
        [name] = await limiters(client)
        held = await client.get_workflow_handle(name).query("limits")
        assert held["limits"] == {"requests": 600, "tokens": 100_000}
        history = await many.fetch_history()
    assert name.startswith("limits/openai/any/")
    assert time.monotonic() - began >= 23 / 10
    at = [request.at for request in provider.requests]
    assert all(later - earlier > 0.7 for earlier, later in zip(at, at[10:], strict=False))
    assert left > 5  # the small run was not behind the large one
    attempts = [e.activity_task_started_event_attributes.attempt for e in history.events if e.event_type == 11]
    assert set(attempts) == {1}


async def test_waiting_for_ones_turn_uses_up_patience_and_not_the_time_of_the_method(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=120rpm")
    provider._responder = lambda _: Text("quack")
    async with runs.serving(__name__):
        assert await runs.execute(tell_all, "ann", 4, "tell_in_time") == ["quack"] * 4
        with pytest.raises(WorkflowFailureError) as caught:
            await runs.execute(tell_all, "ann", 5, "tell_soon")
    assert "PatienceExhausted: openai/any takes 120 requests a minute, of all who ask it" in str(caught.value.__cause__)


async def test_a_run_is_told_that_its_calls_wait_for_their_turn(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=120rpm")
    monkeypatch.setattr(patience, "_TOLD_S", 0.3)
    provider._responder = lambda _: Text("quack")
    async with runs.serving(__name__):
        run = await runs.start(tell_all, "ann", 4)
        while not (progress := await run.query("progress"))["waits_for"]:
            await asyncio.sleep(0.05)
        assert progress["waits_for"] == ["openai/any takes 120 requests a minute, of all who ask it"]
        await run.result()
        assert (await run.query("progress"))["waits_for"] == []


async def test_limits_that_a_provider_tells_are_kept_once_half_of_them_is_used(
    runs: Runs, client: Client, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider(lambda _: Text("quack"), quota=Quota(20, 100_000, seconds=2)) as strict:
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        async with runs.serving(__name__):
            before = await limiters(client)
            assert await runs.execute(tell_all, "ann", 26) == ["quack"] * 26
            assert set(await limiters(client)) - set(before)
    assert strict.quota is not None
    assert len(strict.quota.refused) <= 12  # those under way when the limit was learnt


async def test_another_model_is_asked_when_the_turn_does_not_come(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/first=60rpm")
    monkeypatch.setattr(patience, "_TOLD_S", 0.3)
    provider._responder = lambda _: Text("quack")
    async with runs.serving(__name__):
        assert await runs.execute(tell_by_others, 10) == ["quack"] * 10
    asked = [request.model for request in provider.requests]
    assert asked.count("second") > 5


async def test_a_limiter_ends_by_itself(
    runs: Runs, provider: Provider, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=6000rpm")
    monkeypatch.setattr(throttle, "_IDLE_REPORTS", 1)
    monkeypatch.setattr(limiter, "ENDS_AFTER_S", 1.0)
    provider.enqueue(Text("quack"))
    async with runs.serving(__name__):
        await runs.execute(tell_all, "ann", 1)
        async with asyncio.timeout(60):
            while await limiters(client):
                await asyncio.sleep(0.2)


class Nobody:
    """Gives no leases."""

    async def lease(self, name: str, report: Report) -> Lease:
        raise NoLease("away")


class Once:
    """Gives one lease."""

    def __init__(self, lease: Lease) -> None:
        self._leases = iter([lease])

    async def lease(self, name: str, report: Report) -> Lease:
        for lease in self._leases:
            return lease
        raise NoLease("away")


@pytest.mark.parametrize(
    ("leases", "at_most"),
    [
        (Nobody(), 0.1 * 6000 / 60),
        (Once(Lease(rates=Rates(requests=1200), seconds=0, again_s=0.1)), 0.5 * 1200 / 60),
    ],
    ids=["never had one", "the last one has ended"],
)
async def test_without_the_limiter_a_process_goes_on_with_less(
    leases: Any, at_most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=6000rpm")
    one = Throttle("openai/any")
    permits = [one.ask("run", 10, leases) for _ in range(10)]
    began = time.monotonic()
    async with asyncio.timeout(60):
        await permits[-1].given
    assert time.monotonic() - began > 0.5 * len(permits) / at_most
    assert one._keeping is not None
    one._keeping.cancel()


class Sparing:
    """Gives nothing to those that want nothing."""

    def __init__(self) -> None:
        self.idle = asyncio.Event()

    async def lease(self, name: str, report: Report) -> Lease:
        if not report.runs:
            self.idle.set()
        rates = Rates(requests=60_000 if report.runs else 0)
        return Lease(rates=rates, seconds=30, again_s=0.5, all_taken=True)


async def test_whoever_asks_when_the_last_lease_is_about_to_end_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=60rpm")
    monkeypatch.setattr(throttle, "_IDLE_REPORTS", 1)
    one, leases = Throttle("openai/any"), Sparing()
    await asyncio.wait_for(one.ask("run", 10, leases).given, 60)
    await asyncio.wait_for(leases.idle.wait(), 60)
    while one._lease is not None and one._lease.rates.requests:
        await asyncio.sleep(0.01)
    one._requests.empty()
    await asyncio.wait_for(one.ask("run", 10, leases).given, 60)


async def test_whoever_leaves_the_line_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/*=60rpm")
    one = Throttle("openai/any")
    leases = Once(Lease(rates=Rates(requests=60), seconds=30, again_s=30))
    permits = [one.ask("run", 10, leases) for _ in range(50)]
    await asyncio.wait_for(permits[0].given, 60)
    for permit in permits[1:-1]:
        one.leave(permit)
    await asyncio.wait_for(permits[-1].given, 60)
    assert one._keeping is not None
    one._keeping.cancel()


class Shared:
    """Gives leases of what several processes have together."""

    def __init__(self, process: str, together: pot.Pot) -> None:
        self.process = process
        self.reports = 0
        self._together = together

    async def lease(self, name: str, report: Report) -> Lease:
        self.reports += 1
        lease = self._together.lease(report.model_copy(update={"process": self.process}), time.monotonic())
        return lease.model_copy(update={"again_s": 0.1})


async def test_in_an_outage_one_process_tries_for_all_though_no_limits_are_known() -> None:
    together = pot.Pot()
    one, other = Throttle("openai/any"), Throttle("openai/any")
    leases, leases_of_other = Shared("one", together), Shared("other", together)
    one.fails()
    other.fails()
    assert one.matters
    assert other.matters
    await asyncio.wait_for(one.ask("run", 10, leases).given, 60)
    waiting = other.ask("run", 10, leases_of_other)
    while leases_of_other.reports < 3:
        await asyncio.sleep(0.01)
    assert not waiting.given.done()
    one.answered()
    await asyncio.wait_for(waiting.given, 60)
    assert together.limits == Rates()  # what was answered meanwhile is no limit


async def test_a_process_that_tries_goes_on_to_do_so_while_its_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "_IDLE_REPORTS", 1)
    is_waited_for = True
    one, leases = Throttle("openai/any", is_waited_for=lambda: is_waited_for), Shared("one", pot.Pot())
    one.fails()
    one.leave(one.ask("run", 10, leases))
    while leases.reports < 5:
        await asyncio.sleep(0.01)
    is_waited_for = False
    assert one._keeping is not None
    await asyncio.wait_for(one._keeping, 60)


async def test_a_process_tries_by_itself_when_nobody_says_any_more_that_another_does() -> None:
    together = pot.Pot()
    await Shared("other", together).lease("", Report(process="other", seconds=0, outage="away"))
    lease = await Shared("one", together).lease("", Report(process="one", seconds=0))
    assert lease.away
    one = Throttle("openai/any")
    one.fails()
    await asyncio.wait_for(one.ask("run", 10, Once(lease.model_copy(update={"seconds": 0.5}))).given, 20)
    assert one._keeping is not None
    one._keeping.cancel()


async def test_nothing_is_sent_after_a_failure_before_it_is_known_who_tries() -> None:
    one, leases = Throttle("openai/any"), Shared("one", pot.Pot())
    one.fails()
    await asyncio.wait_for(one.ask("run", 10, leases).given, 60)
    told = leases.reports
    one.fails()
    await asyncio.wait_for(one.ask("run", 10, leases).given, 60)
    assert leases.reports > told
    one.fails()
    at_once = one.ask("run", 10, leases)
    one.answered()
    assert at_once.given.done()
    one.leave(at_once)
    assert one._keeping is not None
    one._keeping.cancel()


def test_limits_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "off")
    one = Throttle("openai/any")
    one.hears({"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "0"})
    assert not one.matters


def test_refusals_matter_by_themselves_only_if_they_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, now = Throttle("openai/any"), itertools.count(1000.0, 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    for _ in range(5):
        one.refused()
    assert not one.matters
    for _ in range(10):
        one.refused()
    assert one.matters
