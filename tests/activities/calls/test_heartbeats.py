from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import logging
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from temporalio.client import WorkflowHandle

from activities import Agent, prompt, task, tool
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Slow, Streamed, Text, ToolCall, Tools
from tests.system.processes import eventually
from workflows import choreography

TIMEOUT_S = 2.0
HELD_S = 3.5


def hold_by(how: str, seconds: float) -> None:
    end, data = time.monotonic() + seconds, bytes(20_000_000)
    while time.monotonic() < end:
        if how == "sleep":
            time.sleep(seconds)
        elif how == "compress":
            zlib.compress(data, 9)
        elif how == "digest":
            hashlib.sha256(data)
        else:
            sum(range(1_000))


class Holder(Agent):
    """You hold everybody up."""

    @task
    async def hold(self, how: str, book: str) -> str:
        note(book, how)
        hold_by(how, HELD_S)
        return how

    @task
    def stop_all_threads(self, book: str) -> None:
        note(book, "stopped")
        time.sleep(0.5)
        ctypes.PyDLL(None).usleep(1_500_000)  # keeps Python's lock, as a regular expression does

    @task
    async def hold_in_a_part(self, book: str) -> None:
        note(book, "part")

        async def part() -> None:
            hold_by("sleep", 1.5)

        await asyncio.gather(part(), asyncio.sleep(0))

    @task
    def compute(self, book: str) -> None:
        note(book, "plain")
        hold_by("compute", 1.5)

    @tool
    async def hold_while_asked(self) -> None:
        """Hold."""
        hold_by("sleep", HELD_S)

    @prompt
    async def use_a_tool(self) -> str:
        """Hold."""

    @prompt
    async def ponder(self) -> str:
        """Ponder."""


class Calm(Agent):
    """You wait."""

    @task
    async def wait(self, book: str) -> None:
        note(book, "calm")
        await asyncio.sleep(HELD_S)


def note(book: str, what: str) -> None:
    with Path(book).open("a") as file:
        file.write(f"{what}\n")


@choreography
async def hold_beside(how: str, book: str, holder: Holder, calm: Calm) -> None:
    calm_call = asyncio.ensure_future(calm.wait(book))
    await asyncio.sleep(0.5)
    await asyncio.gather(calm_call, holder.hold(how, book))


@choreography
async def stop_all_threads(book: str, holder: Holder) -> None:
    await holder.stop_all_threads(book)


@choreography
async def hold_in_a_part(book: str, holder: Holder) -> None:
    await holder.hold_in_a_part(book)


@choreography
async def compute(book: str, holder: Holder) -> None:
    await holder.compute(book)


@choreography
async def ask_and_hold(holder: Holder) -> str:
    return await holder.use_a_tool()


@choreography
async def ponder(holder: Holder) -> str:
    return await holder.ponder()


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are given away after two seconds."""
    monkeypatch.setattr("workflows.program.call.HEARTBEAT_TIMEOUT_S", TIMEOUT_S)


def held(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "event loop" in record.getMessage()]


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("how", ["sleep", "compute", "compress", "digest"])
async def test_a_method_that_holds_the_loop_and_its_neighbour_are_made_once(
    runs: Runs, ledger: Ledger, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async with runs.serving(__name__):
        await runs.execute(hold_beside, how, str(ledger.path))
    assert Counter(ledger.lines()) == {how: 1, "calm": 1}
    assert len(held(caplog)) == 1


async def test_the_log_says_afterwards_that_all_threads_stood_still(
    runs: Runs, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    async with runs.serving(__name__):
        await runs.execute(stop_all_threads, str(ledger.path))
    await eventually(lambda: "stood still" in caplog.text, seconds=10)  # said by a thread that stood still as well
    (told,) = [record.getMessage() for record in caplog.records if "stood still" in record.getMessage()]
    assert "this worker stood still for" in told
    assert ledger.lines() == ["stopped"]


@pytest.mark.usefixtures("short_timeout")
async def test_a_tool_that_holds_the_loop_costs_no_model_call(
    runs: Runs, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.enqueue(Tools((ToolCall("hold_while_asked", {}),)), Text("done"))
    async with runs.serving(__name__):
        assert await runs.execute(ask_and_hold) == "done"
    assert len(provider.requests) == 2
    assert held(caplog)[0].startswith("holds this worker's event loop")


async def test_the_log_names_run_instance_method_and_line_of_what_holds_the_loop(
    runs: Runs, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    from activities.border.logs import _name_the_call

    caplog.handler.addFilter(_name_the_call)
    async with runs.serving(__name__):
        run = await runs.start(hold_in_a_part, str(ledger.path))
        await run.result()
    (record,) = [record for record in caplog.records if "event loop" in record.getMessage()]
    assert record.levelno == logging.WARNING
    about = vars(record)
    assert (about["run"], about["instance"], about["method"]) == (run.id, "holder-1", "Holder.hold_in_a_part")
    assert f"{Path(__file__).name}:" in record.getMessage()
    assert "in hold_by" in record.getMessage()


async def test_a_synchronous_method_holds_nobody_up(
    runs: Runs, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    async with runs.serving(__name__):
        await runs.execute(compute, str(ledger.path))
    assert not held(caplog)


async def beats_of(run: WorkflowHandle[object, object], seconds: float) -> set[tuple[int, int]]:
    """Return the times of the heartbeats that arrive meanwhile, as the server has them."""
    seen = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        described = await run.describe()
        for call in described.raw_description.pending_activities:
            if call.HasField("last_heartbeat_time"):
                seen.add((call.last_heartbeat_time.seconds, call.last_heartbeat_time.nanos))
        await asyncio.sleep(0.2)
    return seen


async def test_a_call_without_news_heartbeats_no_oftener_than_the_timeout_needs(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Slow(11, Text("done")))
    async with runs.serving(__name__):
        run = await runs.start(ponder)
        beats = await beats_of(run, 10)  # the server's first time is that of the start
        assert await run.result() == "done"
    assert 3 <= len(beats) <= 4  # so in 60 s there are 20 at most


async def test_what_comes_of_an_answer_is_told_by_the_heartbeats_that_are_due(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Streamed(Text("It rained all day. " * 60), seconds=0.05))
    async with runs.serving(__name__):
        run = await runs.start(ponder)
        beats = await beats_of(run, 4)
        (call,) = (await run.describe()).raw_description.pending_activities
        told = json.loads(call.heartbeat_details.payloads[0].data)["receiving"]
        assert "It rained all day." in told["end"]
        assert len(told["end"]) <= 200
        assert 20 < told["tokens"] < 300
        await run.cancel()
    assert len(beats) <= 2


async def test_news_is_on_the_server_at_once(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("hold_while_asked", {}),)), Slow(3, Text("done")))
    async with runs.serving(__name__):
        run = await runs.start(ask_and_hold)
        while len(provider.requests) < 2:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.4)
        (call,) = (await run.describe()).raw_description.pending_activities
        assert b"hold_while_asked" in call.heartbeat_details.payloads[0].data
        assert await run.result() == "done"
