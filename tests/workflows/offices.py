"""Offices in which prompts are asked below prompts: what the tests of that run."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from pydantic import BaseModel

from activities import Agent, prompt, task, tool
from workflows import choreography, instance

FLUSHED_S = 0.4
"""Heartbeat details are on the server by then."""

_reached: set[str] = set()


async def linger(place: str) -> None:
    """Where DIE_WITH names places: wait here until all of them are reached, and then for the death of the process."""
    places = set(os.environ.get("DIE_WITH", "").split())
    if place not in places:
        return
    _reached.add(place)
    while _reached < places:
        await asyncio.sleep(0.02)
    await asyncio.sleep(FLUSHED_S)
    os.kill(os.getpid(), signal.SIGKILL)


class Reader(Agent):
    """You read."""

    @prompt
    async def read(self, letter: str) -> str:
        """Read {letter}."""


class Post(Agent):
    """You send letters."""

    @tool
    async def proof(self, letter: str) -> str:
        """Have somebody read a letter."""
        read = await Reader().read(letter)
        await linger(f"deep-{letter}")
        return read

    @prompt
    async def send(self, letter: str) -> str:
        """Send {letter}."""


class Pile(BaseModel):
    """What is kept of letters."""

    letters: list[str] = []


class Keeper(Agent):
    """You keep letters."""

    state: Pile = Pile()

    @tool
    def keep(self, letter: str) -> int:
        """Keep a letter."""
        self.state.letters.append(letter)
        return len(self.state.letters)

    @prompt(reasks=1, retries=0)
    async def count(self, what: str) -> int:
        """Count {what}."""

    @prompt(turns=1)
    async def hurry(self, what: str) -> str:
        """Hurry with {what}."""

    @prompt(timeout=1, retries=0)
    async def wait(self, what: str) -> str:
        """Wait for {what}."""

    @prompt
    async def describe(self, what: str) -> str:
        """Describe {what}."""

    @prompt(memory=False, retries=0)
    async def glance(self, what: str) -> int:
        """Glance at {what}."""

    @task(retries=1)
    async def describe_and_stumble(self, what: str) -> str:
        """Keep a letter, describe it, and fail."""
        self.state.letters.append(what)
        await self.describe(what)
        raise OSError("no more paper")

    @task
    def kept(self) -> list[str]:
        """Return the letters."""
        return self.state.letters


class Writer(Agent):
    """You write."""

    @tool
    async def post(self, letter: str) -> str:
        """Post a letter."""
        sent = await Post().send(letter)
        await linger("in-a-tool")
        return sent

    @tool(approve=True)
    async def burn(self, letter: str) -> str:
        """Burn a letter, with some last words."""
        return await self.draft(letter)

    @prompt
    async def draft(self, about: str) -> str:
        """Draft {about}."""

    @prompt
    async def write(self, about: str) -> str:
        """Write {about}."""

    @prompt(memory=False)
    async def scribble(self, about: str) -> str:
        """Scribble {about}."""

    @task
    async def twice(self) -> list[str]:
        """Draft two things, one after the other."""
        drafts = [await self.draft("one"), await self.draft("two")]
        await linger("in-turn")
        return drafts

    @task
    async def at_once(self) -> list[str]:
        """Have three things done at the same time, by two agents."""
        done = await asyncio.gather(self.draft("three"), self.draft("four"), Post().send("five"))
        await linger("at-once")
        return list(done)

    @task
    async def deep(self) -> str:
        """Ask an agent whose tool asks another one."""
        return await Post().send("six")

    @task
    def file(self, letter: str) -> str:
        """File a letter, without a word."""
        return letter


@choreography(writer=4)
async def all_at_once(writer: Writer) -> list[Any]:
    """Have prompts asked inside of everything, by an instance each."""
    one, two, three, four = (instance(writer, f"writer-{number}") for number in (1, 2, 3, 4))
    return list(await asyncio.gather(one.twice(), two.at_once(), three.deep(), four.write("seven")))


@choreography
async def one_after_the_other(method: str, arguments: list[Any], then: str, writer: Writer) -> list[Any]:
    """Make a call, and another one that comes after it."""
    return [await getattr(writer, method)(*arguments), await writer.write(then)]


@choreography
async def file_only(letter: str, writer: Writer) -> str:
    """Have plain code done that asks nobody."""
    return await writer.file(letter)


@choreography
async def fail_and_go_on(method: str, what: str, keeper: Keeper) -> tuple[str, str, list[str]]:
    """Make a call that fails, and go on with the same instance."""
    await keeper.keep("before")
    try:
        await getattr(keeper, method)(what)
        error = ""
    except Exception as failed:
        error = str(failed)
    return error, await keeper.describe("what there was"), await keeper.kept()
