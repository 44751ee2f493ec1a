from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import message_of, steps
from workflows import choreography, instance, scatter

pytestmark = pytest.mark.usefixtures("served")


@choreography(worker=3)
async def who_works(calls: int, worker: Worker) -> list[str]:
    """Make calls at the same time, and return who answered them."""
    return sorted(await asyncio.gather(*(worker.work(str(n), 0.05) for n in range(calls))))


@choreography
async def who_works_alone(worker: Worker) -> str:
    """Ask the only one."""
    return await worker.whoami()


@choreography(worker=["ann", "bob"])
async def who_has_a_name(worker: Worker) -> list[str]:
    """Ask both by name, and the one that is free."""
    return [await instance(worker, "bob").whoami(), await instance(worker, "ann").whoami(), await worker.whoami()]


@choreography(first=1, second=1)
async def two_roles_of_one_class(first: Worker, second: Worker) -> list[str]:
    """Ask one of each role."""
    return [await first.whoami(), await second.whoami()]


async def test_a_pool_has_as_many_instances_as_the_decorator_says(runs: Runs) -> None:
    assert await runs.execute(who_works, 3) == ["worker-1", "worker-2", "worker-3"]


async def test_a_role_has_one_instance_where_nothing_is_said(runs: Runs) -> None:
    assert await runs.execute(who_works_alone) == "worker-1"


async def test_the_options_of_a_run_decide_over_the_size_of_a_pool(runs: Runs) -> None:
    names = await runs.execute(who_works, 5, {"instances": {"worker": 5}})
    assert names == [f"worker-{number}" for number in range(1, 6)]


async def test_instances_may_have_names_of_their_own(runs: Runs) -> None:
    assert await runs.execute(who_has_a_name) == ["bob", "ann", "bob"]


async def test_roles_of_one_class_have_pools_of_their_own(runs: Runs) -> None:
    assert await runs.execute(two_roles_of_one_class) == ["first-1", "second-1"]


@choreography(worker=2)
async def ask_for(name: str, worker: Worker) -> str:
    """Ask a named instance."""
    return await instance(worker, name).whoami()


async def test_an_instance_can_be_named(runs: Runs) -> None:
    assert await runs.execute(ask_for, "worker-2") == "worker-2"


async def test_an_instance_that_there_is_not_fails_the_run_and_says_which_there_are(runs: Runs) -> None:
    message = await message_of(await runs.start(ask_for, "worker-3"))
    assert "'worker' has no instance 'worker-3' in this run; it has worker-1, worker-2" in message


@choreography
async def ask_for_something_else(worker: Worker) -> None:
    """Use a method that the agent does not have."""
    await worker.treble(1)  # type: ignore[attr-defined]


async def test_a_method_that_there_is_not_fails_the_run_and_says_which_there_are(runs: Runs) -> None:
    message = await message_of(await runs.start(ask_for_something_else))
    assert "The role 'worker' has no method 'treble': Worker has double, whoami, work" in message


# One thing at a time


@choreography(worker=2)
async def gather_on_a_pool(worker: Worker) -> None:
    """Ask for more at the same time than the pool can do."""
    await asyncio.gather(*(worker.work(str(n)) for n in range(6)))


@choreography(worker=2)
async def gather_in_a_body(worker: Worker) -> None:
    """Ask the instance of each item for several things at the same time."""
    await scatter(range(4), worker, lambda w, n: asyncio.gather(*(w.work(f"{n}.{m}") for m in range(3))))


async def fail_and_leave_another(worker: Worker) -> None:
    await asyncio.gather(worker.fail("no luck"), worker.work("left"))


@choreography
async def fail_with_a_call_left_over(worker: Worker) -> None:
    """Have an item fail while it has another call to make, and go on with the next item."""
    await scatter(range(3), worker, lambda w, n: fail_and_leave_another(w), on_error="collect")
    await worker.work("last")


async def start_and_leave(worker: Worker, left: list[asyncio.Future[str]]) -> None:
    left.append(asyncio.ensure_future(worker.work("left", 5.0)))
    await asyncio.sleep(0)


@choreography
async def end_with_a_call_left_over(worker: Worker) -> None:
    """Have the body end before a call that it began."""
    left: list[asyncio.Future[str]] = []
    await scatter([1], worker, lambda w, n: start_and_leave(w, left))
    await worker.work("last")


@pytest.mark.parametrize(
    "program",
    [gather_on_a_pool, gather_in_a_body, fail_with_a_call_left_over, end_with_a_call_left_over],
    ids=lambda program: program.name,
)
async def test_an_instance_does_one_thing_at_a_time(runs: Runs, program: Any) -> None:
    run = await runs.start(program)
    await run.result()
    for name in ("worker-1", "worker-2"):
        assert diary.most_at_once(run.id, name) <= 1


async def test_the_calls_of_a_pool_are_served_in_the_order_in_which_they_were_made(runs: Runs) -> None:
    run = await runs.start(gather_on_a_pool)
    await run.result()
    assert [step.id for step in await steps(run)] == ["1", "2", "3", "4", "5", "6"]


async def test_calls_that_a_body_gathers_are_made_one_after_the_other_in_their_order(runs: Runs) -> None:
    run = await runs.start(gather_in_a_body)
    await run.result()
    for n in range(4):
        begun = [item for item in diary.items(run.id, "begin") if item.startswith(f"{n}.")]
        assert begun == [f"{n}.0", f"{n}.1", f"{n}.2"]


# Cycles


@choreography
async def ask_in_a_circle(coder: Worker, reviewer: Worker) -> None:
    """Have a coder's body ask a reviewer whose body asks a coder."""
    await scatter(["wrap"], coder, lambda c, n: scatter([n], reviewer, lambda r, n: coder.whoami()))


@choreography
async def ask_in_a_circle_of_three(one: Worker, two: Worker, three: Worker) -> None:
    """Have three items each hold what the next one wants."""
    await asyncio.gather(
        scatter(["a"], one, lambda w, n: pass_on(w, two)),
        scatter(["b"], two, lambda w, n: pass_on(w, three)),
        scatter(["c"], three, lambda w, n: pass_on(w, one)),
    )


async def pass_on(mine: Worker, other: Worker) -> None:
    await mine.whoami()
    await other.whoami()


@choreography
async def claim_its_own_pool(worker: Worker) -> None:
    """Have a body ask for any instance of the pool that it holds the only instance of."""
    await scatter(["wrap"], worker, lambda w, n: worker.whoami())


@choreography(worker=2)
async def claim_itself_by_name(worker: Worker) -> None:
    """Have a body ask by name for the instance that it holds."""
    await scatter(["wrap"], worker, lambda w, n: instance(worker, "worker-1").whoami())


@choreography
async def hand_a_call_in(worker: Worker) -> None:
    """Have a body wait for a call of its own pool that was made outside."""
    call = worker.whoami()
    await scatter(["wrap"], worker, lambda w, n: call)


@pytest.mark.parametrize(
    "program",
    [ask_in_a_circle, ask_in_a_circle_of_three, claim_its_own_pool, claim_itself_by_name, hand_a_call_in],
    ids=lambda program: program.name,
)
async def test_a_cycle_of_claims_fails_the_run(runs: Runs, program: Any) -> None:
    message = await message_of(await runs.start(program))
    assert "which can never be free" in message


@pytest.mark.parametrize("size", [2, 3])
async def test_with_another_instance_in_the_pool_there_is_no_cycle(runs: Runs, size: int) -> None:
    await runs.execute(ask_in_a_circle, {"instances": {"coder": size}})
    await runs.execute(claim_its_own_pool, {"instances": {"worker": size}})
