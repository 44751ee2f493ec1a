from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.engine.pool import Pool
from workflows.errors import ClaimCycle, UnknownInstance
from workflows.tree.scope import CallScope, PhaseScope, Scope


def instances(role: str, size: int) -> list[str]:
    return [f"{role}-{number}" for number in range(1, size + 1)]


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_instances_are_handed_out_first_come_first_served() -> None:
    pool = Pool("coder", instances("coder", 1))
    served: list[int] = []

    async def claim(number: int) -> None:
        async with pool.claimed(Scope(str(number))):
            served.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(claim(number) for number in range(10)))
    assert served == list(range(10))


async def test_the_instance_that_has_been_free_longest_is_next() -> None:
    pool = Pool("coder", instances("coder", 3))
    names = []
    for number in range(4):
        async with pool.claimed(Scope(str(number))) as name:
            names.append(name)
    assert names == ["coder-1", "coder-2", "coder-3", "coder-1"]


async def test_a_named_instance_is_waited_for_though_others_are_free() -> None:
    pool = Pool("coder", instances("coder", 2))
    async with AsyncExitStack() as held:
        await held.enter_async_context(pool.claimed(Scope("1"), "coder-1"))
        waiting = asyncio.create_task(pool.claimed(Scope("2"), "coder-1").__aenter__())
        await settle()
        assert not waiting.done()
    assert await waiting == "coder-1"


async def test_who_waits_for_any_instance_is_not_kept_by_who_waits_for_a_named_one() -> None:
    pool = Pool("coder", instances("coder", 2))
    async with pool.claimed(Scope("1"), "coder-1"), AsyncExitStack() as held:
        await held.enter_async_context(pool.claimed(Scope("2"), "coder-2"))
        named = asyncio.create_task(pool.claimed(Scope("3"), "coder-1").__aenter__())
        anyone = asyncio.create_task(pool.claimed(Scope("4")).__aenter__())
        await settle()
        await held.aclose()
        assert await anyone == "coder-2"
        assert not named.done()
    assert await named == "coder-1"


async def test_an_instance_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    pool = Pool("coder", instances("coder", 2))
    with pytest.raises(UnknownInstance, match="'coder' has no instance 'coder-3' in this run; it has coder-1, coder-2"):
        await pool.claimed(Scope("1"), "coder-3").__aenter__()


async def test_a_claim_that_is_cancelled_while_it_waits_takes_nothing() -> None:
    pool = Pool("coder", instances("coder", 1))
    async with pool.claimed(Scope("1")):
        waiting = asyncio.create_task(pool.claimed(Scope("2")).__aenter__())
        await settle()
        waiting.cancel()
    async with pool.claimed(Scope("3")) as name:
        assert name == "coder-1"


async def test_a_claim_that_is_cancelled_just_when_it_is_granted_passes_the_instance_on() -> None:
    pool = Pool("coder", instances("coder", 1))
    async with AsyncExitStack() as held:
        await held.enter_async_context(pool.claimed(Scope("1")))
        first = asyncio.create_task(pool.claimed(Scope("2")).__aenter__())
        second = asyncio.create_task(pool.claimed(Scope("3")).__aenter__())
        await settle()
    first.cancel()
    assert await second == "coder-1"


async def test_a_cycle_is_told_from_the_claim_that_closes_it_and_back_to_it() -> None:
    one, two, three = (Pool(role, instances(role, 1)) for role in ("one", "two", "three"))
    a, b, c = (Scope(str(number), f"item {name}") for number, name in enumerate("abc", start=1))
    async with one.claimed(a), two.claimed(b), three.claimed(c):
        waiting = [asyncio.create_task(pool.claimed(scope).__aenter__()) for pool, scope in ((two, a), (three, b))]
        await settle()
        with pytest.raises(ClaimCycle) as cycle:
            await one.claimed(c).__aenter__()
        for task in waiting:
            task.cancel()
    assert str(cycle.value) == (
        "the work on item c (step 3) claims an instance of one, which can never be free: "
        "one-1 is held by the work on item a (step 1), which waits for two; "
        "two-1 is held by the work on item b (step 2), which waits for three; "
        "three-1 is held by the work on item c (step 3), which waits for this. "
        "Give the pool more instances, or claim in the same order everywhere."
    )


async def test_what_outlives_the_item_that_it_was_begun_in_closes_no_cycle() -> None:
    pool = Pool("coder", instances("coder", 1))
    outer = Scope("1")
    with outer.child("1.1") as item, item.child("1.1.1") as late:
        item.end()
        async with pool.claimed(outer):
            waiting = asyncio.create_task(pool.claimed(late).__aenter__())
            await settle()
            assert not waiting.done()
        assert await waiting == "coder-1"


async def test_what_outlives_the_phase_that_it_was_begun_in_may_be_waited_for_and_closes_one() -> None:
    pool = Pool("coder", instances("coder", 1))
    outer = Scope("1", "parser.py")
    with PhaseScope(title="review", parent=outer) as phase, CallScope("1.1", "lexer.py", phase) as late:
        phase.end()
        async with pool.claimed(outer):
            with pytest.raises(ClaimCycle, match=r"^the work on parser.py \(step 1\) claims an instance of coder"):
                await pool.claimed(late).__aenter__()


async def test_thousands_of_claims_inside_another_one_are_sorted_out_within_a_workflow_task() -> None:
    coder, reviewer = Pool("coder", instances("coder", 1)), Pool("reviewer", instances("reviewer", 20))
    item = Scope("1")

    async def review(number: int) -> None:
        with item.child(f"1.{number}") as scope:
            async with reviewer.claimed(scope):
                await asyncio.sleep(0)

    began = time.monotonic()
    async with coder.claimed(item):
        await asyncio.gather(*(review(number) for number in range(3_000)))
    assert time.monotonic() - began < 2  # seconds, after which Temporal takes a workflow task for stuck


# Random programs: trees of claims, each held while the claims inside it are made, one after the other or at once.


@dataclass
class Claim:
    pool: int
    only: int | None
    at_once: bool
    inside: list[Claim] = field(default_factory=list)


class Programme:
    """Runs claims on pools, and sees that no instance is ever held twice."""

    def __init__(self, sizes: list[int]) -> None:
        self.pools = [Pool(f"role{n}", instances(f"role{n}", size)) for n, size in enumerate(sizes)]
        self.held: set[str] = set()
        self.granted = 0

    async def run(self, claims: list[Claim]) -> None:
        await self._all(Scope(), claims, at_once=True)

    async def _all(self, scope: Scope, claims: list[Claim], *, at_once: bool) -> None:
        if at_once:
            async with asyncio.TaskGroup() as group:
                for number, claim in enumerate(claims):
                    group.create_task(self._one(scope, number, claim))
            return
        for number, claim in enumerate(claims):
            await self._one(scope, number, claim)

    async def _one(self, outer: Scope, number: int, claim: Claim) -> None:
        pool = self.pools[claim.pool % len(self.pools)]
        only = None if claim.only is None else pool.instances[claim.only % len(pool)]
        with outer.child(f"{outer.path}.{number}") as scope:
            async with pool.claimed(scope, only) as name:
                assert name not in self.held, f"{name} is held twice"
                assert only in (None, name)
                self.held.add(name)
                self.granted += 1
                try:
                    await asyncio.sleep(0)
                    await self._all(scope, claim.inside, at_once=claim.at_once)
                finally:
                    self.held.remove(name)


def claims(only: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[Claim]]:
    leaf = st.builds(Claim, st.integers(0, 3), only, st.booleans())
    tree = st.recursive(
        leaf,
        lambda inner: st.builds(Claim, st.integers(0, 3), only, st.booleans(), st.lists(inner, max_size=3)),
        max_leaves=12,
    )
    return st.lists(tree, min_size=1, max_size=6)


def count(claims: list[Claim]) -> int:
    return sum(1 + count(claim.inside) for claim in claims)


def in_order(claims: list[Claim], least: int = 0) -> list[Claim]:
    """Return the same tree, but with each claim on a later pool than the one that it is made in."""
    return [
        Claim(least + claim.pool % 2, claim.only, claim.at_once, in_order(claim.inside, least + claim.pool % 2 + 1))
        for claim in claims
    ]


def pools_of(claims: list[Claim]) -> int:
    return max((max(claim.pool + 1, pools_of(claim.inside)) for claim in claims), default=0)


def run(programme: Programme, claims: list[Claim]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await programme.run(claims)

    asyncio.run(in_time())


named_or_not = st.none() | st.integers(0, 2)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), claims(named_or_not))
def test_any_program_of_claims_ends_with_everything_granted_or_with_a_cycle(
    sizes: list[int], program: list[Claim]
) -> None:
    programme = Programme(sizes)
    try:
        run(programme, program)
    except ExceptionGroup as errors:
        _, others = errors.split(ClaimCycle)
        assert others is None
    else:
        assert programme.granted == count(program)


@given(st.integers(1, 3), claims(named_or_not))
def test_claims_in_one_order_never_make_a_cycle(size: int, program: list[Claim]) -> None:
    ordered = in_order(program)
    programme = Programme([size] * pools_of(ordered))
    run(programme, ordered)
    assert programme.granted == count(ordered)


@given(claims(st.none()))
def test_pools_with_an_instance_for_every_claim_never_make_a_cycle(program: list[Claim]) -> None:
    programme = Programme([count(program)] * 4)
    run(programme, program)
    assert programme.granted == count(program)
