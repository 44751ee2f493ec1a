"""A board that decides, and a press that must not print without it: what the tests of people run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from activities import Agent, Person, prompt, tool
from workflows import choreography, scatter


class Plan(BaseModel):
    title: str
    pages: int


class Decision(BaseModel):
    verdict: Literal["go", "stop"]
    pages: int


class Owner(Person):
    """Who pays for it."""

    @prompt
    async def decide(self, plan: Plan) -> Decision:
        """Shall {plan.title} be printed?"""

    @prompt(remind=3600)
    async def call_it(self, plan: Plan) -> str:
        """What shall it be called?"""

    @prompt(deadline=3600)
    async def sign(self, plan: Plan) -> bool:
        """Sign for {plan.title}."""

    @prompt(remind=1000, deadline=3600, default=Decision(verdict="stop", pages=0))
    async def decide_today(self, plan: Plan) -> Decision:
        """Shall {plan.title} be printed today?"""


class Press(Agent):
    """You print."""

    @tool
    def look_up(self, title: str, ledger: str) -> str:
        """Look something up."""
        return note(ledger, f"looked up {title}")

    @tool(approve=True)
    def print_out(self, title: str, ledger: str, copies: int = 1) -> str:
        """Print a title."""
        assert self.call is not None
        number = f" {copies} times" if copies > 1 else ""
        return note(ledger, f"printed {title}{number} as {self.call.idempotency_key.partition('/')[2]}")

    @prompt
    async def produce(self, title: str) -> str:
        """Produce {title}."""


def note(ledger: str, line: str) -> str:
    with Path(ledger).open("a") as file:
        file.write(f"{line}\n")
    return line


@choreography
async def decide_once(plan: Plan, owner: Owner) -> Decision:
    return await owner.decide(plan)


@choreography(owner=["ann", "bob"])
async def decide_all(plans: list[Plan], owner: Owner) -> list[Decision]:
    return await scatter(plans, owner, lambda o, plan: o.decide(plan))


@choreography
async def ask_for(method: str, plan: Plan, owner: Owner) -> object:
    """Ask the owner one of their questions."""
    return await getattr(owner, method)(plan)


@choreography
async def give_up(plan: Plan, owner: Owner) -> str:
    """Ask, and do not wait for the answer."""
    try:
        async with asyncio.timeout(1):
            await owner.decide(plan)
    except TimeoutError:
        return await owner.call_it(plan)
    return "decided"


@choreography
async def print_directly(title: str, ledger: str, press: Press) -> str:
    return await press.print_out(title, ledger)


@choreography
async def produce_twice(title: str, press: Press) -> list[str]:
    return [await press.produce(title), await press.produce(f"{title} again")]


@choreography
async def decide_and_produce(plan: Plan, owner: Owner, press: Press) -> str:
    decision = await owner.decide(plan)
    if decision.verdict == "stop":
        return "stopped"
    return await press.produce(plan.title)


@choreography(press=2)
async def decide_meanwhile(plan: Plan, ledger: str, owner: Owner, press: Press) -> list[object]:
    """Ask, produce, and look many things up at the same time."""

    async def look_up_many() -> int:
        return len([await press.look_up(str(n), ledger) for n in range(30)])

    return list(await asyncio.gather(owner.decide(plan), press.produce(plan.title), look_up_many()))
