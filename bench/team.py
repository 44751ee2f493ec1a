"""The crew that is measured: it does next to nothing, so that what is left is what the harness and the engine cost."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from activities import Agent, prompt, task, tool
from workflows import choreography, scatter

if TYPE_CHECKING:
    import aiohttp


class Hand(Agent):
    """You do as you are told."""

    model = "openai/mock"
    parameters = {"mock_response": "Done."}  # noqa: RUF012 - litellm answers itself, and asks no provider

    @task
    async def nothing(self, number: int) -> int:
        """Return the number."""
        return number

    @prompt(memory=False)
    async def say(self, number: int) -> str:
        """Say that {number} is done."""

    @task
    async def take(self, number: int, seconds: float) -> int:
        """Take some time; the environment's SLOWNESS times as much."""
        await asyncio.sleep(seconds * float(os.environ.get("SLOWNESS", "1")))
        return number

    @task
    async def note(self, number: int, seconds: float, ledger: str) -> int:
        """Write down who begins with the number, and when; then take some time."""
        with Path(ledger).open("a") as file:
            file.write(f"{number} {os.getpid()} {time.time()}\n")
        await asyncio.sleep(seconds)
        return number

    @task
    async def fetch(self, number: int) -> str:
        """Ask the model about the number without litellm: by nothing but an HTTP client."""
        question = [
            {"role": "system", "content": "You think for a second before you do as you are told."},
            {"role": "user", "content": f"Think about {number}."},
        ]
        address, key = f"{os.environ['LOOPBACK']}/chat/completions", {"Authorization": "Bearer any"}
        async with _session().post(address, json={"model": "loopback", "messages": question}, headers=key) as response:
            answer = await response.json()
        return str(answer["choices"][0]["message"]["content"])


@functools.cache
def _session() -> aiohttp.ClientSession:
    import aiohttp  # here, because the sandbox of the choreographies imports this module too

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


class Thinker(Hand):
    """You think for a second before you do as you are told."""

    model = "openai/loopback"
    api_base = os.environ.get("LOOPBACK")
    parameters = {}  # noqa: RUF012

    @prompt(memory=False)
    async def think(self, number: int) -> str:
        """Think about {number}."""


class Talker(Thinker):
    """You think, and say what you think in three hundred words."""

    model = "openai/talkative"


class Asker(Agent):
    """You ask what others ask as well."""

    model = "openai/limited"
    api_base = os.environ.get("LOOPBACK")

    @prompt(memory=False)
    async def ask(self, who: str, number: int) -> str:
        """This is {who}, with question {number}, which is as long as a question may well be that somebody asks who has
        something to ask: what is the answer, and why is it that, and not another one, of which there are so many?"""


class Mind(Agent):
    """You use your tool, then you answer."""

    model = "openai/loopback"
    api_base = os.environ.get("LOOPBACK")

    @tool
    def look(self, at: str) -> str:
        """Look at something."""
        return f"{at} is there"

    @prompt
    async def think(self, number: int) -> str:
        """Think about {number}."""

    @prompt(memory=False)
    async def glance(self, number: int) -> str:
        """Think about {number}."""


@choreography
async def think_in_turn(count: int, mind: Mind) -> list[str]:
    """Make one call after the other, each of which is remembered."""
    return [await mind.think(number) for number in range(count)]


@choreography
async def glance_in_turn(count: int, mind: Mind) -> list[str]:
    """Make the same calls without memory."""
    return [await mind.glance(number) for number in range(count)]


@choreography
async def nothing_at_once(count: int, hand: Hand) -> list[int]:
    """Make many calls, as many at a time as there are hands."""
    return await scatter(range(count), hand, lambda h, number: h.nothing(number))


@choreography
async def nothing_in_turn(count: int, hand: Hand) -> list[int]:
    """Make one call after the other."""
    return [await hand.nothing(number) for number in range(count)]


@choreography
async def say_at_once(count: int, hand: Hand) -> list[str]:
    """Ask for many answers, as many at a time as there are hands."""
    return await scatter(range(count), hand, lambda h, number: h.say(number))


@choreography
async def say_in_turn(count: int, hand: Hand) -> list[str]:
    """Ask for one answer after the other."""
    return [await hand.say(number) for number in range(count)]


@choreography
async def think_at_once(count: int, thinker: Thinker) -> list[str]:
    """Have many things thought about, as many at a time as there are thinkers."""
    return await scatter(range(count), thinker, lambda t, number: t.think(number))


@choreography
async def talk_at_once(count: int, talker: Talker) -> list[str]:
    """Have many things thought about, and many words said of each."""
    return await scatter(range(count), talker, lambda t, number: t.think(number))


@choreography
async def fetch_at_once(count: int, hand: Hand) -> list[str]:
    """Ask the model as often without litellm."""
    return await scatter(range(count), hand, lambda h, number: h.fetch(number))


@choreography
async def ask_at_once(who: str, count: int, asker: Asker) -> list[str]:
    """Ask many questions, as many at a time as there are askers."""
    return await scatter(range(count), asker, lambda a, number: a.ask(who, number))


@choreography
async def take_at_once(count: int, seconds: float, hand: Hand) -> list[int]:
    """Do many things that take some time."""
    return await scatter(range(count), hand, lambda h, number: h.take(number, seconds))


@choreography
async def note_at_once(count: int, seconds: float, ledger: str, hand: Hand) -> list[int]:
    """Do many things that take some time and are written down."""
    return await scatter(range(count), hand, lambda h, number: h.note(number, seconds, ledger))
