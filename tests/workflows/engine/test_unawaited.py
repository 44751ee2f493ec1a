from __future__ import annotations

import asyncio
import re
import timeit
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

import workflows.program.sharding
from activities.border.author import Line
from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import failure_of, message_of
from workflows import choreography, continue_with, scatter
from workflows.errors import CallFailed

pytestmark = pytest.mark.usefixtures("served")


class Box(BaseModel):
    content: Any


@choreography(worker=2)
async def forget(how: str, worker: Worker) -> Any:
    """Forget an await somewhere."""
    match how:
        case "returned":
            return worker.double(1)
        case "in a list":
            return [await worker.double(0), worker.double(1)]
        case "in a dict":
            return {"one": worker.double(1)}
        case "in a model":
            return Box(content=(worker.double(1),))
        case "left":
            worker.double(1)  # type: ignore[unused-awaitable]
        case "stored":
            made = [worker.double(1)]
            return len(made)
        case "continued":
            worker.double(1)  # type: ignore[unused-awaitable]
            return continue_with("fine")
        case "in a task":
            await asyncio.gather(forget_in(worker), worker.double(2))
        case "in a body":
            await scatter(range(3), worker, forget_in_body)
        case "in shards":
            await scatter(range(30), worker, lambda w, n: (w.double(1), w.double(n))[1] if n == 7 else w.double(n))
        case "a scatter":
            scatter([1], worker, lambda w, n: w.double(n))  # type: ignore[unused-coroutine]
    return None


async def forget_in(worker: Worker) -> None:
    worker.double(1)  # type: ignore[unused-awaitable]


async def forget_in_body(worker: Worker, number: int) -> int:
    if number == 1:
        worker.double(1)  # type: ignore[unused-awaitable]
    return await worker.double(number)


@pytest.mark.parametrize(
    ("how", "step", "function"),
    [
        ("returned", "1", "forget"),
        ("in a list", "2", "forget"),
        ("in a dict", "1", "forget"),
        ("in a model", "1", "forget"),
        ("left", "1", "forget"),
        ("stored", "1", "forget"),
        ("continued", "1", "forget"),
        ("in a task", r"\d[.]1", "forget_in"),
        ("in a body", "1.2.1", "forget_in_body"),
        ("in shards", "1.8.1", ""),
    ],
)
async def test_a_call_that_nobody_awaits_is_an_error_with_the_authors_line(
    runs: Runs, how: str, step: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 20)
    failure = await failure_of(await runs.start(forget, how))
    assert failure.type == "NotAwaited"
    line = r"test_unawaited.py:\d+" + (f" in {function}" if function else "")
    assert re.search(rf"the call of Worker.double \(step {step}\) at {line}: never awaited", failure.message)
    assert "Write 'await' before it" in failure.message


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
async def test_a_scatter_that_nobody_awaits_is_one_too(runs: Runs) -> None:
    message = await message_of(await runs.start(forget, "a scatter"))
    assert re.search(r"the scatter at test_unawaited.py:\d+ in forget: never awaited", message)


@choreography(worker=3)
async def interrupted(how: str, worker: Worker) -> str:
    """Begin calls of which some are not awaited, as something came between."""
    match how:
        case "awaited later":
            begun = [worker.double(n) for n in range(3)]
            return str([await call for call in reversed(begun)])
        case "awaited twice":
            call = worker.double(2)
            return str([await call, await call])
        case "cancelled before it began":
            task: asyncio.Future[Any] = asyncio.ensure_future(worker.double(1))
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        case "handed to a task that is cancelled before it began":
            task = asyncio.ensure_future(awaiting(worker.double(1)))
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        case "cancelled in between":
            task = asyncio.ensure_future(two_calls(worker))
            await asyncio.sleep(0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        case "failed in between":
            with suppress(CallFailed):
                await asyncio.gather(fail_first(worker))
        case "failed in a body":
            failed = await scatter(range(2), worker, lambda w, n: fail_first(w), on_error="collect")
            return str(len(failed))
    return "well"


async def awaiting(call: Any) -> int:
    return int(await call)


async def two_calls(worker: Worker) -> None:
    second = worker.double(1)
    await worker.wait("here")
    await second


async def fail_first(worker: Worker) -> None:
    second = worker.double(1)
    await worker.fail("no")
    await second


@pytest.mark.parametrize(
    ("how", "result"),
    [
        ("awaited later", "[4, 2, 0]"),
        ("awaited twice", "[4, 4]"),
        ("cancelled before it began", "well"),
        ("handed to a task that is cancelled before it began", "well"),
        ("cancelled in between", "well"),
        ("failed in between", "well"),
        ("failed in a body", "2"),
    ],
)
async def test_a_call_that_something_came_between_is_no_error(runs: Runs, how: str, result: str) -> None:
    assert await runs.execute(interrupted, how) == result


def test_the_authors_line_costs_a_few_microseconds() -> None:
    times = timeit.repeat(Line.here, number=1_000, repeat=5)
    assert min(times) / 1_000 < 20e-6
