"""State: kept from call to call whatever its type, never shared, or refused when the class is defined."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from typing_extensions import TypedDict

from activities import Agent, task
from activities.declarations.state import declares_state, differs, restore_state, saved_state
from activities.errors import DeclarationError
from activities.values.values import NotKept


@dataclass
class Notes:
    seen: list[str] = field(default_factory=list)


class Aliased(BaseModel):
    seen: list[str] = Field(default=[], validation_alias="SEEN", serialization_alias="saw")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    since: datetime.datetime = datetime.datetime(2024, 2, 29)
    seen: tuple[str, ...] = ()


class Row(TypedDict):
    seen: list[str]


class Secret(BaseModel):
    token: SecretStr = SecretStr("")


class Odd(BaseModel):
    score: float = 0.0


class Base(Agent):
    state: Any = []  # noqa: RUF012


def keeping(state: Any, hint: Any = None) -> type[Agent]:
    namespace: dict[str, Any] = {"state": state, "__module__": __name__}
    if hint is not None:
        namespace["__annotations__"] = {"state": hint}
    return type("Keeper", (Agent,), namespace)


def change_notes(agent: Any) -> None:
    agent.state.seen.append("a")


def change_strict(agent: Any) -> None:
    agent.state.seen = ("a", "b")
    agent.state.since = datetime.datetime(2030, 1, 1)


def change_row(agent: Any) -> None:
    agent.state["seen"].append("a")


def change_list(agent: Any) -> None:
    agent.state.append("a")


def change_dict(agent: Any) -> None:
    agent.state[(1)] = {"a"}


def change_number(agent: Any) -> None:
    agent.state += 1


@pytest.mark.parametrize(
    ("agent", "change"),
    [
        (keeping(Notes(), Notes), change_notes),
        (keeping(Notes()), change_notes),
        (keeping(Aliased(), Aliased), change_notes),
        (keeping(Strict(), Strict), change_strict),
        (keeping({"seen": []}, Row), change_row),
        (keeping([], list[str]), change_list),
        (keeping([]), change_list),
        (keeping({}, dict[int, set[str]]), change_dict),
        (keeping(0, int), change_number),
        (keeping(0), change_number),
        (type("Heir", (Base,), {"__module__": __name__}), change_list),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_state_is_there_on_the_next_call_as_it_was(agent: type[Agent], change: Callable[[Any], None]) -> None:
    first, second, other = agent(), agent(), agent()
    change(first)
    saved = saved_state(first)
    assert saved != saved_state(other)  # nothing is shared
    restore_state(second, saved)
    assert vars(second)["state"] == vars(first)["state"]
    assert type(vars(second)["state"]) is type(vars(first)["state"])
    change(second)
    assert saved_state(first) == saved


def test_a_change_of_type_alone_is_a_change() -> None:
    assert differs({"a": True}, {"a": 1})
    assert differs([1.0], [1])
    assert not differs({"a": [1, None]}, {"a": [1, None]})


def test_where_nothing_was_saved_a_state_begins_as_the_class_says() -> None:
    made: Any = keeping(Notes(["first"]), Notes)()
    restore_state(made, None)
    assert made.state == Notes(["first"])


class Stateful(Agent):
    def state(self) -> str:
        """Be a plain method of that name."""
        return "none"


def test_a_class_without_state_keeps_none() -> None:
    assert not declares_state(Agent)
    assert not declares_state(Stateful)
    assert saved_state(Agent()) is None
    assert saved_state(Stateful()) is None
    restore_state(Agent(), {"seen": []})


@pytest.mark.parametrize(
    ("state", "hint", "problem"),
    [
        (Secret(), Secret, r"Keeper\.state: it 'token' \(SecretStr\) is a secret"),
        (None, None, "may be None"),
        (None, Notes | None, "may be None, which says that nothing was kept"),
        ("text", Notes, "does not begin as its type"),
        ({(1, 2): 3}, dict[tuple[int, int], int], "keys that are no text"),
        ({1: 2}, None, "the key 1 is not kept"),
        (object(), None, "can't be kept|can't be written"),
        (Odd(score=float("inf")), Odd, "'score': inf can't be read back; .*ser_json_inf_nan"),
    ],
    ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", ""),
)
def test_a_state_that_can_not_be_kept_is_refused_when_the_class_is_defined(state: Any, hint: Any, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        keeping(state, hint)


def test_a_state_without_a_beginning_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Careless\.state has no beginning: write the value"):

        class Careless(Agent):
            state: Notes


def test_a_state_that_becomes_something_else_is_refused_when_it_is_saved() -> None:
    made: Any = keeping(Notes(), Notes)()
    made.state = [1]
    with pytest.raises(NotKept, match=r"^Keeper\.state is something else than is declared"):
        saved_state(made)
    made = keeping(Odd(), Odd)()
    made.state.score = float("nan")
    with pytest.raises(NotKept, match=r"^Keeper\.state can't be kept: 'score': nan can't be read"):
        saved_state(made)


def test_what_was_saved_of_another_type_is_told_as_what_it_is() -> None:
    with pytest.raises(NotKept, match=r"Keeper\.state: what was saved of it does not fit .* It is \{'other': 1\}"):
        restore_state(keeping([], list[str])(), {"other": 1})


class Keeper(Agent):
    state: Later = []  # noqa: RUF012

    @task
    def keep(self) -> None:
        """Keep something."""


class Item(BaseModel):
    name: str


Later = list[Item]


def test_a_state_of_a_type_that_is_defined_later_is_kept() -> None:
    first, second = Keeper(), Keeper()
    first.state.append(Item(name="a"))
    restore_state(second, saved_state(first))
    assert second.state == [Item(name="a")]
