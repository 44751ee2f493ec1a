"""An office of clerks: the agents and choreographies of `tests/test_peers.py`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, field_validator

from activities import Agent, prompt, task, tool
from workflows import choreography, fan_out, scatter

meeting = asyncio.Barrier(2)


class Letter(BaseModel):
    to: str
    lines: list[str]

    @field_validator("lines")
    @classmethod
    def _not_empty(cls, lines: list[str]) -> list[str]:
        if not lines:
            raise ValueError("a letter has at least one line")
        return lines


class Clerk(Agent):
    """You write letters."""

    @task
    async def nothing(self) -> None:
        """Give nothing back."""

    @task(retries=2)
    async def fail_at_first(self, ledger: str) -> str:
        """Fail once."""
        if note(ledger, "tried") == 1:
            raise OSError("the ink is dry")
        return "written"

    @task(retries=0)
    async def fail_if_odd(self, number: int, ledger: str) -> int:
        """Note a number; fail if it is odd."""
        note(ledger, str(number))
        if number % 2:
            raise OSError(f"{number} is odd")
        return number

    @task
    async def letter(self, to: str) -> Letter:
        """Write a letter."""
        return Letter(to=to, lines=[f"Dear {to}"])

    @task
    async def post(self, letter: Letter, ledger: str) -> str:
        """Post a letter."""
        note(ledger, f"posted to {letter.to}")
        return type(letter).__name__

    @task
    async def meet(self, who: str) -> str:
        """Wait until someone else is here as well."""
        async with asyncio.timeout(60):
            await meeting.wait()
        return who

    @task
    async def wait(self) -> None:
        """Wait until this is cancelled."""
        await asyncio.Event().wait()

    @task
    async def copy(self, text: str, times: int) -> str:
        """Give back a text some times over."""
        return text * times

    @tool
    def stamp(self, ledger: str) -> str:
        """Stamp a letter.

        Args:
            ledger: Where to note it.
        """
        return f"stamp {note(ledger, 'stamped')}"

    @prompt(turns=4)
    async def write(self, topic: str) -> str:
        """Write about {topic}."""

    @prompt(reasks=1)
    async def write_letter(self, topic: str) -> Letter:
        """Write a letter about {topic}."""

    @prompt(require=("stamp",))
    async def write_stamped(self, topic: str) -> str:
        """Write about {topic}, with a stamp."""

    @prompt(retries=2)
    async def write_in_bad_times(self, topic: str) -> str:
        """Write about {topic} in bad times."""

    @prompt
    async def write_nothing(self) -> None:
        """Write nothing."""

    @tool
    @prompt
    async def rhyme(self, word: str) -> str:
        """Find a rhyme for {word}."""

    @task
    async def write_a_poem(self, topic: str) -> str:
        """Have a prompt do the work."""
        return await self.write(topic)


class Porter(Agent):
    """You hold doors open."""

    @task
    async def open_door(self) -> str:
        """Open the door."""
        return "open"


def note(ledger: str, line: str) -> int:
    """Append a line; return how many lines like it there are now."""
    with Path(ledger).open("a+") as file:
        file.write(f"{line}\n")
        file.seek(0)
        return file.read().splitlines().count(line)


@choreography
async def one_call(method: str, arguments: list[Any], clerk: Clerk) -> Any:
    """Make one call."""
    return await getattr(clerk, method)(*arguments)


@choreography(clerk=2)
async def note_numbers(numbers: list[int], ledger: str, clerk: Clerk, collect: bool = False) -> list[str]:
    """Have numbers noted, of which odd ones fail."""
    on_error: Literal["collect", "raise"] = "collect" if collect else "raise"
    results = await scatter(numbers, clerk, lambda c, number: c.fail_if_odd(number, ledger), on_error=on_error)
    return [str(result) for result in results]


@choreography
async def stamp_and_wait(ledger: str, clerk: Clerk, porter: Porter) -> str:
    stamped = await clerk.stamp(ledger)
    await porter.open_door()
    return stamped


@choreography
async def write_a_file(path: str, clerk: Clerk) -> None:
    Path(path).write_text("from the program")


@choreography
async def edited(name: str, clerk: Clerk) -> Letter:
    return await clerk.letter(name)


@choreography
async def write_and_post(name: str, ledger: str, clerk: Clerk, porter: Porter) -> list[str]:
    letter = await clerk.letter(name)
    await porter.open_door()
    return [type(letter).__name__, await clerk.post(letter, ledger)]


@choreography(clerk=2)
async def write_to_groups(clerk: Clerk) -> list[list[str]]:
    groups = [["Ann", "Bob"], [], ["Cleo"]]
    letters = await fan_out([(group, clerk, lambda c, name: c.letter(name)) for group in groups])
    return [[letter.to for letter in group] for group in letters]


@choreography(clerk=2)
async def meet_each_other(clerk: Clerk) -> list[str]:
    return list(await asyncio.gather(clerk.meet("reviewer"), clerk.meet("adversary")))


@choreography(clerk=5)
async def copy_at_once(size: int, clerk: Clerk) -> int:
    texts = ["x" * size] * 5
    copies = await scatter(texts, clerk, lambda c, text: c.copy(text, 1))
    return sum(map(len, copies))


@choreography
async def copy_twice(size: int, clerk: Clerk) -> int:
    return len(await clerk.copy("x" * size, 2))


@choreography
async def stumble(kind: str, clerk: Clerk) -> None:
    if kind == "bug":
        dict[str, str]()["nothing"]
    if kind == "model":
        Letter.model_validate({})
    await clerk.letter(7)  # type: ignore[arg-type]
