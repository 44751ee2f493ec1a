from __future__ import annotations

from typing import Any

import pytest

from activities import Agent, Person, prompt, task
from activities.build_team import Architect, Coder, Implementation, ModuleSpec, Plan, Review, Reviewer
from activities.errors import ArgumentInvalid
from activities.merger import Merge, Merger
from testing import FakeCall, FakeError, calls_of, fake
from workflows import choreography
from workflows.build_project import build_project

MODULE = ModuleSpec(name="a", module_path="a.py", test_path="test_a.py", purpose="to be", api="none")
PLAN = Plan(package="a", modules=[MODULE])
DONE = Implementation(module_path="a.py", test_path="test_a.py", summary="done")


class Owner(Person):
    """Who pays."""

    @prompt
    async def approve(self, what: str) -> bool:
        """Shall it be? {what}"""


class Clerk(Agent):
    """You keep papers."""

    @task
    async def add(self, numbers: list[int], start: int = 0) -> int:
        """Add numbers."""
        return sum(numbers, start)

    @task
    def names(self) -> list[str]:
        """Return names."""
        return []


@choreography
async def ask(what: str, owner: Owner, clerk: Clerk) -> int:
    """Add something if the owner wants it."""
    return await clerk.add([len(what)], start=1) if await owner.approve(what) else 0


def review(verdict: Any) -> Review:
    return Review(module_path="a.py", verdict=verdict, feedback="")


async def test_a_choreography_is_tested_with_fakes_for_its_roles() -> None:
    coder = fake(Coder, implement_module=DONE)
    bad, good = review("NEEDS_FIXES"), review("PASS")
    reviewer, merger = fake(Reviewer, review_module=[bad, good]), fake(Merger, merge=Merge(commit="1"))
    team = fake(Architect, plan_modules=PLAN), coder, reviewer, merger
    assert await build_project("a library", *team) == [good]
    assert [call.arguments["feedback"] for call in calls_of(coder)] == [None, ""]


async def test_answers_are_values_lists_functions_and_errors() -> None:
    async def later(numbers: list[int], start: int) -> int:
        return start

    for answer, given in ((7, 7), ([8], 8), (lambda numbers, start: len(numbers), 2), (later, 0), ([later], 0)):
        assert await fake(Clerk, add=answer).add([1, 2]) == given
    with pytest.raises(KeyError):
        await fake(Clerk, add=KeyError("no")).add([1])


async def test_a_list_that_is_the_answer_stands_in_a_list() -> None:
    assert await fake(Clerk, names=[["a", "b"]]).names() == ["a", "b"]


async def test_a_person_is_faked_as_well() -> None:
    assert (
        await ask("four", fake(Owner, approve=True), fake(Clerk, add=lambda numbers, start: sum(numbers, start))) == 5
    )


async def test_a_fake_tells_what_it_was_asked_with_defaults_applied() -> None:
    clerk = fake(Clerk, add=1)
    await clerk.add([1])
    assert calls_of(clerk) == [FakeCall("add", {"numbers": [1], "start": 0})]


async def test_arguments_that_do_not_fit_are_refused_as_in_a_run() -> None:
    wrong: Any = ["one"]
    with pytest.raises(ArgumentInvalid, match="numbers"):
        await fake(Clerk, add=1).add(wrong)


@pytest.mark.parametrize("answer", ["text", None, 1.5, [None]])
async def test_an_answer_of_another_type_is_named(answer: Any) -> None:
    with pytest.raises(FakeError, match=r"Clerk\.add is not of its return type"):
        await fake(Clerk, add=answer).add([1])


async def test_a_method_without_an_answer_says_what_to_give() -> None:
    with pytest.raises(FakeError, match=r"fake\(Clerk, add=…\)"):
        await fake(Clerk, names=[[]]).add([1])


async def test_more_calls_than_answers_are_named() -> None:
    clerk = fake(Clerk, add=[1])
    await clerk.add([1])
    with pytest.raises(FakeError, match="more often than it has answers"):
        await clerk.add([1])


def test_a_method_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(FakeError, match="no method 'ad' to answer for; it has add, names"):
        fake(Clerk, ad=1)


def test_what_is_no_method_is_no_attribute_of_a_fake() -> None:
    clerk: Any = fake(Clerk)
    with pytest.raises(AttributeError, match="no agent method 'ad'"):
        _ = clerk.ad


def test_only_a_fake_tells_what_it_was_asked() -> None:
    with pytest.raises(FakeError, match="is no fake"):
        calls_of(Clerk())
