from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import steps
from workflows import choreography, phase, scatter
from workflows.errors import ChoreographyInvalid


@choreography(worker=3)
async def review_each(items: list[str], worker: Worker) -> str:
    """Work inside of named phases."""
    with phase("plan"):
        await worker.work("plan")
    with phase("review"):
        await scatter(items, worker, review_one)
    return "reviewed"


async def review_one(worker: Worker, item: str) -> None:
    with phase("first look" if item != "c" else "second look"):
        await worker.wait(item)


async def test_the_phase_is_part_of_the_progress_in_concurrent_branches_too(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(review_each, ["a", "b", "c"])
        await diary.wait_for(run.id, "begin", 4)
        during = await run.query("progress")
        diary.gate(run.id).set()
        await run.result()
        afterwards = await run.query("progress")
    assert during["phase"] == "review / first look (2), review / second look"
    assert sorted(work["item"] for work in during["working"]) == ["a", "b", "c"]
    assert (afterwards["status"], afterwards["phase"]) == ("done", "")


@choreography(worker=3)
async def everywhere(items: list[str], named: bool, worker: Worker) -> None:
    """Call, scatter and gather, in phases or without."""

    def maybe(name: str) -> AbstractContextManager[object]:
        return phase(name) if named else nullcontext()

    async def body(w: Worker, item: str) -> None:
        with maybe("look"):
            await w.work(item.upper())
            await asyncio.gather(w.double(1), w.double(2))
        with maybe("look closer"):
            await scatter([item], worker, lambda w, i: w.work(i))

    with maybe("plan"):
        await worker.work("plan")
        await asyncio.gather(worker.work("left"), worker.work("right"))
        with maybe("review"):
            await scatter(items, worker, body)
            await scatter(items, worker, lambda w, item: w.work(item))
    await worker.work("end")


async def test_phases_change_neither_the_steps_nor_what_calls_and_scatters_are_about(runs: Runs) -> None:
    async def seen(named: bool) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
        run = await runs.start(everywhere, ["a", "b"], named)
        await run.result()
        progress = await run.query("progress")
        calls = sorted((step.id, step.method, step.item) for step in await steps(run))
        return calls, sorted((scatter["step"], scatter["title"]) for scatter in progress["scatters"])

    async with runs.serving(__name__):
        calls, scatters = await seen(named=True)
        assert (calls, scatters) == await seen(named=False)
    assert [item for _, _, item in calls] == ["plan", "left", "right", *"aaaabbbb", "a", "b", "end"]
    assert scatters == [
        ("4", "Worker.work"),
        ("4.1.4", "a: Worker.work"),
        ("4.2.4", "b: Worker.work"),
        ("5", "Worker.work, round 2"),
    ]


async def test_outside_of_a_run_a_phase_does_nothing() -> None:
    class Fake:
        async def work(self, item: str) -> None: ...
        async def wait(self, item: str) -> None: ...

    assert await review_each(["a", "b"], Fake()) == "reviewed"  # type: ignore[arg-type]


async def test_a_phase_is_left_also_by_an_error_and_a_cancellation() -> None:
    inside = asyncio.Event()

    async def wait() -> None:
        with phase("wait"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(KeyError), phase("fail"):
        raise KeyError


@pytest.mark.parametrize("name", ["", "  ", 3])
def test_a_phase_has_a_name(name: str) -> None:
    with pytest.raises(ChoreographyInvalid, match="names nothing"):
        phase(name)
