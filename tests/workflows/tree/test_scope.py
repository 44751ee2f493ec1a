from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from pydantic import BaseModel

from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import Step, steps
from workflows import choreography, fan_out, phase, scatter
from workflows.shown.reading import what_goes_on
from workflows.tree.current import current_scope, inside, numbering_scope
from workflows.tree.scope import CallScope, PhaseScope, ScatterScope, Scope

R = TypeVar("R")


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


# How long a scope is in its tree


def below(scope: Scope) -> list[str]:
    return [inner.path for inner in scope.everything_below() if inner is not scope]


def test_a_scope_is_in_the_tree_until_it_has_ended_and_nothing_below_it_goes_on() -> None:
    main = Scope()
    with main.child("1.1") as item, item.child("1.1.1"):
        assert below(main) == ["1.1", "1.1.1"]
    assert below(main) == []
    item.begin()
    call = CallScope("1.1.1", parent=item)
    call.begin()
    item.end()
    assert below(main) == ["1.1", "1.1.1"]
    call.end()
    assert below(main) == []


def test_what_begins_in_a_scope_that_has_ended_brings_it_back_as_long_as_it_goes_on() -> None:
    main = Scope()
    with main.child("1") as outer, outer.child("1.1") as item:
        pass
    with CallScope("1.1.1", parent=item):
        assert below(main) == ["1", "1.1", "1.1.1"]
    assert below(main) == []


def test_a_scope_that_is_left_by_an_error_has_ended() -> None:
    main = Scope()
    with pytest.raises(KeyError), main.child("1"):
        raise KeyError
    assert below(main) == []


@pytest.mark.parametrize("order", [1, -1], ids=["first in first out", "last in first out"])
def test_to_begin_and_to_end_has_the_same_price_however_wide_the_tree_is(order: int) -> None:
    main = Scope()
    scopes = [CallScope(str(number), parent=main) for number in range(50_000)]
    began = time.perf_counter()
    for scope in scopes:
        scope.begin()
    for scope in scopes[::order]:
        scope.end()
    assert time.perf_counter() - began < 2


def test_a_scatter_is_named_by_its_first_call_and_counts_its_rounds_where_it_is() -> None:
    main = Scope()
    item = Scope("1.1", "parser.py", main)

    def titled(parent: Scope, method: str) -> str:
        with ScatterScope("2", "coder", parent) as made, made.child("2.1") as one:
            named = PhaseScope(title="inside", parent=one)
            for does in (method, "Coder.other"):
                CallScope("2.1.1", parent=named, method=does).send(datetime.now(UTC))
        return made.title

    assert ScatterScope("2", "coder", main).title == "coder"
    assert [titled(main, "Coder.write") for _ in range(2)] == ["Coder.write", "Coder.write, round 2"]
    assert titled(item, "Coder.write") == "parser.py: Coder.write"
    assert titled(PhaseScope(title="late", parent=item), "Coder.write") == "parser.py: Coder.write, round 2"
    assert titled(main, "Coder.fix") == "Coder.fix"


# Phases number nothing


async def step() -> str:
    return numbering_scope().next_step()


async def in_turn(named: bool) -> list[str]:
    return [await maybe(named, step), await step(), await maybe(named, step)]


async def side_by_side(named: bool) -> list[str]:
    return [*await asyncio.gather(maybe(named, step), maybe(named, step)), await step()]


async def a_task_that_enters_one(named: bool) -> list[str]:
    async def task() -> list[str]:
        return [await maybe(named, step), await step()]

    first, second = await asyncio.gather(task(), task())
    return [*first, *second, await step()]


async def tasks_below_one(named: bool) -> list[str]:
    async def tasks() -> list[str]:
        return list(await asyncio.gather(step(), maybe(named, step)))

    return [*await maybe(named, tasks), await step()]


async def a_task_that_only_waits_in_one(named: bool) -> list[str]:
    async def wait() -> str:
        await asyncio.sleep(0)
        return ""

    return [*await asyncio.gather(maybe(named, wait), step()), await step()]


async def maybe(named: bool, body: Callable[[], Awaitable[R]]) -> R:
    with phase("named") if named else nullcontext():
        return await body()


@pytest.mark.parametrize(
    "program", [in_turn, side_by_side, a_task_that_enters_one, tasks_below_one, a_task_that_only_waits_in_one]
)
async def test_steps_are_the_same_with_and_without_phases(program: Callable[[bool], Awaitable[list[str]]]) -> None:
    with inside(Scope()):
        plain = await program(False)
    with inside(Scope()):
        assert await program(True) == plain
        assert below(current_scope()) == []


async def test_a_tasks_own_scope_is_around_the_phases_that_it_has_entered_and_below_those_that_it_was_begun_in() -> (
    None
):
    async def task() -> list[str]:
        with phase("inner"):
            numbering_scope()
            scope: Scope | None = current_scope()
            seen = []
            while scope is not None:
                seen.append(scope.title or scope.path)
                scope = scope.parent
            return seen

    with inside(Scope("main")):
        current_scope().next_step()
        with phase("outer"):
            assert await asyncio.create_task(task()) == ["inner", "main.2", "outer", "main"]


async def test_what_is_begun_in_a_phase_that_was_left_belongs_to_it() -> None:
    main = Scope()
    with inside(main):
        with phase("review"):
            going = asyncio.Event()

            async def late() -> None:
                await going.wait()
                with phase("again"):
                    assert what_goes_on(main) == "review / again"

            task = asyncio.create_task(late())
        assert what_goes_on(main) == ""
        going.set()
        await task
        assert below(main) == []


async def test_one_phase_can_be_entered_by_several_tasks_at_the_same_time() -> None:
    one, main, first_left = phase("look"), Scope(), asyncio.Event()

    async def look(first: bool) -> Scope:
        with one:
            await (asyncio.sleep(0) if first else first_left.wait())
        first_left.set()
        return current_scope()

    with inside(main):
        found = await asyncio.gather(look(True), look(False))
    assert list(found) == [main, main]
    assert below(main) == []


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
