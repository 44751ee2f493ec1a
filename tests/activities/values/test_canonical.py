from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field

from activities import Agent, task
from workflows.engine.request import Request

WORDS = ["ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen"]


class Farm(BaseModel):
    animals: set[str] = Field(serialization_alias="beasts")
    by_size: dict[str, frozenset[str]] = {}


@dataclass(frozen=True)
class Pen:
    animals: frozenset[str]
    name: str = ""


class Farmer(Agent):
    @task
    async def feed(self, animals: set[str]) -> None: ...

    @task
    async def visit(self, farm: Farm, others: list[Farm]) -> None: ...

    @task
    async def clean(self, pens: set[Pen], others: list[str | set[int]], anything: Any = None) -> None: ...

    @task
    async def plant(self, rows: list[str], fields: dict[str, int]) -> None: ...


def text_of(method: str, arguments: Mapping[str, Any]) -> str:
    return Request.of(vars(Farmer)[method], "1", "", arguments).arguments


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "feed": lambda: {"animals": set(WORDS)},
    "visit": lambda: {
        "farm": Farm(animals=set(WORDS), by_size={"small": frozenset(WORDS)}),
        "others": [Farm(animals=set(WORDS[2:]))],
    },
    "clean": lambda: {
        "pens": {Pen(frozenset(WORDS[n:]), str(n)) for n in range(5)},
        "others": [set(range(20)), "a"],
    },
}


@pytest.mark.parametrize("method", CASES)
def test_arguments_that_hold_sets_are_the_same_text_in_every_process(method: str) -> None:
    here = text_of(method, CASES[method]())
    code = f"from tests.activities.values.test_canonical import *; print(text_of({method!r}, CASES[{method!r}]()))"
    for seed in "123":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == here


def test_what_is_in_a_set_is_sorted_and_nothing_else_is() -> None:
    arguments = json.loads(f"{{{text_of('visit', CASES['visit']())}}}")["arguments"]
    assert arguments["farm"] == {"animals": WORDS, "by_size": {"small": WORDS}}
    arguments = json.loads(f"{{{text_of('clean', {'pens': set(), 'others': ['b', 'a', {2, 1}]})}}}")["arguments"]
    assert arguments["others"] == ["b", "a", [1, 2]]


def test_only_types_that_may_hold_sets_are_looked_at() -> None:
    looked_at = {name: vars(Farmer)[name].may_take_sets for name in ("feed", "visit", "clean", "plant")}
    assert looked_at == {"feed": True, "visit": True, "clean": True, "plant": False}
