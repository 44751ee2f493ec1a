"""Night watch: a loop that runs for days, within a budget, and never fills its history.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/night_watch.toml python worker.py dev --module examples/night_watch.py

and in another terminal, start it, and then write notes into a folder (fire.txt, milk.txt), the last one stop.txt:

    temporal workflow start --type night_watch --task-queue choreography --workflow-id watch \
        --input '"inbox"' --input 60 --input '[]' --input '{"budget": {"usd": 5}}'
"""

import asyncio
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from activities import Agent, prompt, task
from workflows import choreography, continue_with, phase, scatter

ROUNDS = 24
"""Rounds after which the program begins afresh, without what it did so far in its history."""


class Finding(BaseModel):
    """What became of a note."""

    note: str
    urgency: Literal["now", "tomorrow", "never"]
    summary: str


class Guard(Agent):
    """You keep watch over a folder."""

    @task
    def look(self, folder: str, seen: list[str]) -> list[str]:
        """Return the names of the notes that were not seen yet."""
        return sorted({note.name for note in Path(folder).glob("*.txt")} - set(seen))

    @task
    def read(self, folder: str, note: str) -> str:
        """Read a note."""
        return Path(folder, note).read_text(encoding="utf-8")

    @task
    def report(self, findings: list[Finding]) -> None:
        """Write findings into the run's workspace."""
        for finding in findings:
            self.workspace.write(f"report/{finding.note}", f"{finding.urgency}: {finding.summary}\n")


class Clerk(Agent):
    """You sort notes by how urgent they are. You remember what you read before, and say when it is the same again."""

    @prompt
    async def sort(self, note: str, text: str) -> Finding:
        """How urgent is the note {note}? {text}"""


@choreography(guard=2, clerk=2)
async def night_watch(folder: str, pause_s: float, seen: list[str], guard: Guard, clerk: Clerk) -> list[str]:
    """Look for new notes every so many seconds and have them sorted, until there is one called stop.txt."""

    async def read_and_sort(clerk: Clerk, note: str) -> Finding:
        return await clerk.sort(note, await guard.read(folder, note))

    for number in range(1, ROUNDS + 1):
        with phase(f"round {number}"):
            notes = await guard.look(folder, seen)
            findings = await scatter(notes, clerk, read_and_sort)
            await guard.report(findings)
            seen = [*seen, *notes]
        if "stop.txt" in notes:
            return seen
        await asyncio.sleep(pause_s)
    return continue_with(folder, pause_s, seen)
