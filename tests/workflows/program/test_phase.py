from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
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
    assert (afterwards["status"], afterwards["phase"]) == ("done", "")


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
