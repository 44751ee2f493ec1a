"""A team for which everything is large: what it is given, remembers, says and gives back."""

from __future__ import annotations

import asyncio
import os
import random
import string
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel
from temporalio.exceptions import ApplicationError

from activities import Agent, Person, prompt, task, tool
from workflows import choreography, continue_with, scatter


class Shelf(BaseModel):
    """What an archivist keeps."""

    text: str = ""


class Archivist(Agent):
    """You keep what is large."""

    state: Shelf = Shelf()

    @task
    def keep(self, text: str) -> int:
        """Remember a text."""
        self.state.text = text
        return len(text)

    @tool
    def copy_out(self, text: str) -> str:
        """Give back what is given."""
        return text

    @task
    async def linger(self, ledger: str) -> str:
        """Give back what was kept; where PACE says so, take that long for it."""
        with Path(ledger).open("a") as lines:
            lines.write(f"began {os.getpid()}\n")
        await asyncio.sleep(float(os.environ.get("PACE", "0")))
        return self.state.text

    @tool
    def fill(self, size: int) -> str:
        """Keep a text that can't be compressed to half of it."""
        self.state.text = "".join(random.Random(size).choices(string.ascii_letters, k=size))
        return "filled"

    @prompt
    async def read(self, text: str) -> str:
        """Read {text}"""

    @task
    async def stumble(self, ledger: str) -> str:
        """Ask, fail once, and go on from what was asked."""
        said = await self.read("what there is")
        with Path(ledger).open("r+") as lines:
            if not lines.read():
                lines.write("stumbled\n")
                raise ApplicationError(
                    "stumbled", next_retry_delay=timedelta(seconds=float(os.environ.get("REST", "0")))
                )
        return f"{said} {len(self.state.text)}"


class Clerk(Agent):
    """You do as you are told."""

    @tool
    def double(self, text: str) -> str:
        """Give a text twice."""
        return text + text


class Owner(Person):
    """Who is asked."""

    @prompt
    async def agree(self, to: str) -> str:
        """Is {to} right?"""


@choreography
async def through(spec: str, ledger: str, archivist: Archivist) -> str:
    """Have a text remembered and handed round, and give back what comes out."""
    await archivist.keep(spec)
    copied = await archivist.copy_out(spec)
    remembered = await archivist.linger(ledger)
    return copied if copied == remembered else "they differ"


@choreography
async def read_and_ask(text: str, archivist: Archivist, owner: Owner) -> str:
    """Have a text read, and a person asked about it."""
    await archivist.keep(text)
    return await archivist.read(text) + await owner.agree(text)


@choreography
async def stumble_once(ledger: str, archivist: Archivist) -> str:
    """Have an archivist stumble."""
    return await archivist.stumble(ledger)


@choreography(clerk=2)
async def double_all(texts: list[str], clerk: Clerk) -> list[str]:
    """Double many texts, in parts."""
    return await scatter(texts, clerk, lambda one, text: one.double(text))


@choreography
async def again(text: str, rounds: int, clerk: Clerk) -> int:
    """Go on with the same text, afresh."""
    if rounds > 1:
        return continue_with(text, rounds - 1)
    return len(await clerk.double(text))


@choreography
async def gather_texts(text: str, rounds: int, clerk: Clerk) -> int:
    """Get a large text again and again, and remember all of them."""
    return sum([len(await clerk.double(f"{number}{text}")) for number in range(rounds)])
