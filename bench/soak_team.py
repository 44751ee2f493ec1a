"""The team of the soak: each kind of run that there is, small, with a result that can be told beforehand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from activities import Agent, Person, prompt, task, tool
from workflows import choreography, continue_with, scatter

RETRIES = 12
"""A fifth of all requests fails, some in ways after which an attempt is over."""


class Scribe(Agent):
    """You write."""

    @prompt(memory=False, retries=RETRIES)
    async def write(self, about: str) -> str:
        """Write about {about}."""


class Thinker(Agent):
    """You look at things before you think about them."""

    @tool
    def look(self, at: str) -> str:
        """Look at something."""
        assert self.call is not None
        note(f"{at} {self.call.idempotency_key}")
        return f"{at} is there"

    @prompt(retries=RETRIES)
    async def think(self, about: str) -> str:
        """Think about {about}."""

    @task
    async def gather(self, about: str) -> str:
        """Think about something twice, inside of a call."""
        return f"{await self.think(f'{about} once')} / {await self.think(f'{about} again')}"


class Press(Agent):
    """You print what was decided."""

    @tool(approve=True)
    def put_out(self, title: str) -> str:
        """Print a title."""
        assert self.call is not None
        note(f"{title} {self.call.idempotency_key}")
        return f"{title} is printed"

    @prompt(retries=RETRIES)
    async def produce(self, about: str) -> str:
        """Print {about}."""


class Owner(Person):
    """Who decides."""

    @prompt
    async def decide(self, about: str) -> Literal["go", "stop"]:
        """Shall {about} be printed?"""


@choreography(scribe=4)
async def soak_wide(name: str, count: int, scribe: Scribe) -> Sequence[str]:
    """Write about many things, four at a time."""
    return await scatter(range(count), scribe, lambda s, number: s.write(f"{name}-{number}"))


@choreography
async def soak_deep(name: str, count: int, thinker: Thinker) -> Sequence[str]:
    """Think about one thing after the other, remembering all; the last time inside of a task."""
    thoughts = [await thinker.think(f"{name}-{number}") for number in range(count)]
    return [*thoughts, await thinker.gather(f"{name}-{count}")]


@choreography
async def soak_people(name: str, owner: Owner, press: Press) -> str:
    """Ask a person, and print what needs an approval."""
    decided = await owner.decide(name)
    return f"{decided}: {await press.produce(name)}"


@choreography
async def soak_long(name: str, rounds: int, thinker: Thinker) -> str:
    """Think once in each round; each is a run of its own on the engine."""
    thought = await thinker.think(f"{name}-{rounds}")
    return thought if rounds == 1 else continue_with(name, rounds - 1)


def note(done: str) -> None:
    """Write down what was done, by which process and when."""
    line = json.dumps({"done": done, "pid": os.getpid(), "at": time.time()})
    with Path(os.environ["SOAK_NOTES"]).open("a") as file:
        file.write(f"{line}\n")
