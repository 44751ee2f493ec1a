"""Persons: what a class of theirs declares, and how one is asked in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from activities import Agent, Person, prompt, task, tool
from activities.declarations.method import Method
from activities.declarations.person import asks_people
from activities.errors import DeclarationError, NobodyToAsk


class Owner(Person):
    """Who pays for it."""

    @prompt(remind=60, deadline=3600, default="no")
    async def approve(self, plan: str) -> Literal["yes", "no"]:
        """Shall {plan} be built?"""


class Builder(Agent):
    """You build."""

    @tool(approve=True)
    def build(self) -> str:
        """Build it."""
        return "built"

    @prompt
    async def plan(self) -> str:
        """Plan it."""

    @task
    def rest(self) -> None:
        """Rest."""


def declare(base: type[Agent], **options: Any) -> str:
    """Declare a prompt with options; return the error."""
    with pytest.raises(DeclarationError) as caught:

        class Wrong(base):  # type: ignore[valid-type, misc]
            @prompt(**options)
            async def ask(self, plan: str) -> Literal["yes", "no"]:
                """Ask about {plan}."""

    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"default": "no"}, "the default is for when the deadline has passed; add deadline=seconds"),
        ({"deadline": 60, "default": "perhaps"}, "no answer of the declared type: Input should be 'yes' or 'no'"),
        ({"deadline": 60, "remind": 60}, "the first reminder would come 60 s after the question, and the deadline is"),
        ({"deadline": 0}, "deadline=0: give the seconds, more than 0"),
        ({"remind": -1.5}, "remind=-1.5: give the seconds, more than 0"),
        ({"model": "any"}, "model: these are for models; a person's method takes remind, deadline, default"),
        ({"retries": 1, "memory": False}, "retries, memory: these are for models"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_for_a_person_are_refused(options: dict[str, Any], told: str) -> None:
    assert told in declare(Person, **options)


@pytest.mark.parametrize("options", [{"remind": 60}, {"deadline": 60}, {"deadline": 60, "default": "no"}], ids=str)
def test_options_that_are_for_persons_are_refused_elsewhere(options: dict[str, Any]) -> None:
    assert "only a person is reminded and may not answer in time" in declare(Agent, **options)


def test_a_persons_method_is_a_question_and_nothing_else() -> None:
    def with_task() -> object:
        class Wrong(Person):
            @task
            def work(self) -> None:
                """Work."""

        return Wrong

    def with_tool() -> object:
        class Wrong(Person):
            @tool
            @prompt
            async def ask(self) -> str:
                """Ask."""

        return Wrong

    for wrong in (with_task, with_tool):
        with pytest.raises(DeclarationError, match="a person is asked, and runs no code; write @prompt alone"):
            wrong()


def test_a_persons_question_is_checked_like_a_prompt() -> None:
    with pytest.raises(DeclarationError, match=r"the placeholder '\{plans\}' names no parameter"):

        class Wrong(Person):
            @prompt
            async def ask(self, plan: str) -> str:
                """Shall {plans} be built?"""


def test_a_person_has_no_model() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.model: a person has no model and keeps no state here"):

        class Wrong(Person):
            model = "openai/any"


def test_calls_that_may_wait_for_people_are_known() -> None:
    methods: list[tuple[type[Agent], Method[..., Any]]] = [
        (Owner, Owner.approve),
        (Builder, Builder.plan),
        (Builder, Builder.rest),
        (Builder, Builder.build),
    ]
    assert [asks_people(agent, method) for agent, method in methods] == [True, True, False, False]


# In this process


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A way to say what somebody types at the terminal."""

    def type_in(*lines: str) -> None:
        left: Iterator[str] = iter(lines)
        monkeypatch.setattr("builtins.input", lambda _: next(left))

    return type_in


async def test_in_this_process_a_person_is_asked_at_the_terminal(
    typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    typed("yes")
    assert await Owner().approve("a library") == "yes"
    assert "Shall a library be built?" in capsys.readouterr().out


async def test_at_the_terminal_an_answer_that_does_not_fit_is_asked_for_again(
    typed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    typed("perhaps", '"no"')
    assert await Owner().approve("a library") == "no"
    assert "That does not fit: Input should be 'yes' or 'no'. The answer is JSON of this" in capsys.readouterr().out


async def test_without_a_terminal_the_error_says_what_to_do() -> None:
    with pytest.raises(NobodyToAsk, match=r"Shall a library be built\? Start the choreography on a server, or give"):
        await Owner().approve("a library")
