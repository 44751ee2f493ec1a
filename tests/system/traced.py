"""A run whose trace is looked at: two phases, and twenty calls of two turns each, with a tool in the first of them."""

from __future__ import annotations

import os
from pathlib import Path

from activities import Agent, Person, prompt, task, tool
from workflows import choreography, phase, scatter
from workflows.engine import lifetime

if "CONTINUE_AT" in os.environ:
    lifetime.CONTINUE_AT_EVENTS = int(os.environ["CONTINUE_AT"])


class Scout(Agent):
    """You look around."""

    ledger = os.environ.get("LEDGER", "")

    @tool
    def note(self, what: str) -> str:
        """Note what was seen."""
        if self.ledger:
            with Path(self.ledger).open("a") as file:
                file.write(f"{what} {os.environ.get('WORKER')}\n")
        return f"noted {what}"

    @tool(approve=True)
    def fell(self, what: str) -> str:
        """Cut something down."""
        return f"{what} is down"

    @tool
    async def ask_another(self, what: str) -> str:
        """Ask another scout."""
        return await Scout().look(what)

    @prompt(memory=False)
    async def look(self, place: str) -> str:
        """Look at {place}."""

    @task
    async def look_twice(self, place: str) -> str:
        """Look once here, once there."""
        return f"{await Scout().look(place)}, {await Scout().look(place)}"


@choreography(scout=2)
async def explore(places: list[str], scout: Scout) -> int:
    """Look at one half of some places, then at the other."""
    half = len(places) // 2
    with phase("survey"):
        seen = await scatter(places[:half], scout, lambda s, place: s.look(place))
    with phase("report"):
        seen += await scatter(places[half:], scout, lambda s, place: s.look(place))
    return len(seen)


@choreography
async def look_around(place: str, scout: Scout) -> str:
    """Have one call made."""
    return await scout.look(place)


class Owner(Person):
    """Decides."""

    @prompt
    async def approve(self, what: str) -> bool:
        """Is {what} good?"""


@choreography
async def ask_the_owner(what: str, owner: Owner) -> bool:
    """Ask a person."""
    with phase("asking"):
        return await owner.approve(what)


@choreography
async def look_again(place: str, scout: Scout) -> str:
    """Have one call made that asks inside."""
    return await scout.look_twice(place)
