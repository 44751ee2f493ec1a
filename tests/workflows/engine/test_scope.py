from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import Step, steps
from workflows import choreography, fan_out, scatter
from workflows.engine.scope import Scope, current_scope, inside


async def test_steps_count_from_one_in_each_scope() -> None:
    outer = Scope()
    assert [outer.next_step(), outer.next_step()] == ["1", "2"]
    with outer.child("2.1") as inner:
        assert [inner.next_step(), inner.next_step()] == ["2.1.1", "2.1.2"]


async def test_outside_of_a_run_there_is_a_main_line_too() -> None:
    assert current_scope() is current_scope()


async def test_a_task_that_is_begun_in_a_scope_is_in_that_scope() -> None:
    async def where() -> Scope:
        await asyncio.sleep(0)
        return current_scope()

    scope = Scope("1")
    with inside(scope):
        task = asyncio.create_task(where())
    assert await task is scope


# The steps of a run


class Module(BaseModel):
    size: int
    module_path: str


@choreography(coder=3, reviewer=2)
async def build(modules: list[Module], coder: Worker, reviewer: Worker) -> None:
    """Do a little of everything."""
    await coder.double(1)
    await asyncio.gather(coder.work("plan"), reviewer.work("plan"))
    await scatter(modules, coder, lambda c, module: write_and_review(c, module, reviewer))
    await fan_out(
        [
            (["a", "b"], coder, lambda c, item: c.work(item)),
            ([1, 2], reviewer, lambda r, number: r.double(number)),
        ]
    )
    await coder.whoami()


async def write_and_review(coder: Worker, module: Module, reviewer: Worker) -> None:
    await coder.work("write")
    await asyncio.gather(reviewer.work("read"), reviewer.double(module.size))


MODULES = [Module(size=n, module_path=f"textkit/{n}.py") for n in range(2)]

pytestmark = pytest.mark.usefixtures("served")


async def test_steps_are_numbered_by_their_place_in_the_program(runs: Runs) -> None:
    run = await runs.start(build, MODULES)
    await run.result()
    assert [(step.id, step.method) for step in sorted(await steps(run))] == [
        ("1", "Worker.double"),
        ("2", "Worker.work"),
        ("3", "Worker.work"),
        ("4.1.1", "Worker.work"),
        ("4.1.2", "Worker.work"),
        ("4.1.3", "Worker.double"),
        ("4.2.1", "Worker.work"),
        ("4.2.2", "Worker.work"),
        ("4.2.3", "Worker.double"),
        ("5.1.1", "Worker.work"),
        ("5.2.1", "Worker.work"),
        ("6.1.1", "Worker.double"),
        ("6.2.1", "Worker.double"),
        ("7", "Worker.whoami"),
    ]


async def test_a_step_tells_who_works_on_what(runs: Runs) -> None:
    run = await runs.start(build, MODULES[:1], {"instances": {"coder": 1}})
    await run.result()
    assert Step("4.1.1", "Worker.work", "coder-1 · textkit/0.py") in await steps(run)
    assert Step("2", "Worker.work", "coder-1 · plan") in await steps(run)
    assert Step("1", "Worker.double", "coder-1 · 1") in await steps(run)
    assert Step("7", "Worker.whoami", "coder-1 · whoami") in await steps(run)


async def test_ten_runs_have_the_same_steps(runs: Runs) -> None:
    started = [await runs.start(build, MODULES, {"instances": {"coder": 1, "reviewer": 1}}) for _ in range(10)]
    await asyncio.gather(*(run.result() for run in started))
    first, *others = [sorted(await steps(run)) for run in started]
    assert len(first) == 14
    assert others == [first] * 9


async def test_ten_runs_have_the_same_steps_whoever_of_a_pool_takes_them(runs: Runs) -> None:
    started = [await runs.start(build, MODULES) for _ in range(10)]
    await asyncio.gather(*(run.result() for run in started))
    first, *others = [sorted((step.id, step.method, step.item) for step in await steps(run)) for run in started]
    assert others == [first] * 9
