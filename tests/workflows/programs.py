"""A program, and the same as somebody edits it while its runs wait: modules that are written where a test says."""

from __future__ import annotations

import itertools
from pathlib import Path

PROGRAM = '''
from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from activities import Agent, Person, prompt, task
from workflows import choreography, phase, scatter


class Note(BaseModel):
    text: str


class Writer(Agent):
    """Writes."""

    @task
    async def do(self, what: str) -> str:
        """Do it."""
        return f"done {what}"

    @task
    async def redo(self, what: str) -> str:
        """Do it again."""
        return f"done again {what}"

    @task
    async def note(self, what: str) -> Note:
        """Note it."""
        return Note(text=what)

    @task
    async def last(self, what: str) -> str:
        """Do it at last: served only when the program was edited."""
        return f"last {what}"


class Owner(Person):
    """Decides."""

    @prompt
    async def approve(self, what: str) -> bool:
        """Is {what} good?"""


@choreography(writer=2)
async def edited(writer: Writer, owner: Owner) -> list[Any]:
    """Write."""
    first = await writer.do("old")
    note = await writer.note("n")
    many = await scatter(["a", "b"], writer, lambda w, item: w.do(item))
    last = await writer.last("x")
    return [first, note.text, *many, last]
'''

RESULT = ["done old", "n", "done a", "done b", "last x"]

_numbers = itertools.count(1)


def write(folder: Path, *edits: tuple[str, str]) -> str:
    """Write the program into a module of its own, edited; return the module's name."""
    text = PROGRAM
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    name = f"program_{next(_numbers)}"
    (folder / f"{name}.py").write_text(text)
    return name
