"""Small programs as data, for a choreography that does whatever they say: they can be made at random, and be changed.

A program is read again whenever a run is replayed, as the code of a choreography is when its worker starts: who changes
the file changes the program under its runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from temporalio import workflow

Kind = Literal[
    "do", "use", "think", "glance", "ask", "keep", "named", "fail", "sleep", "scatter", "fan_out", "gather", "phase"
]

Edit = Literal["remove", "repeat", "change", "turn", "swap"]


class Step(BaseModel):
    """One step: a call about a text, or something made of other steps.

    Attributes:
        kind: What is done.
        text: What a call is about.
        items: What is scattered.
        inner: The steps of a body, or the branches of a gather, the groups of a fan-out.
    """

    kind: Kind
    text: str = ""
    items: list[str] = []
    inner: list[Step] = []

    def __str__(self) -> str:
        """Say it as a program does."""
        inner = ", ".join(map(str, self.inner))
        match self.kind:
            case "sleep":
                return "sleep"
            case "scatter":
                return f"scatter {self.items} [{inner}]"
            case "fan_out" | "gather" | "phase":
                return f"{self.kind} [{inner}]"
        return f"{self.kind} {self.text!r}"


class Program(BaseModel):
    """Parts of a program; each but the first begins afresh with `continue_with`."""

    parts: list[list[Step]]

    def __str__(self) -> str:
        return "\n  then afresh\n".join("\n".join(f"  {step}" for step in part) for part in self.parts)

    def texts(self, kind: Kind) -> list[str]:
        """Return what its steps of a kind are about, those inside of others included."""
        return [step.text for part in self.parts for step in part for step in _flat(step) if step.kind == kind]

    def edited(self, how: Edit, where: int) -> Program:
        """Return this program with one edit.

        Args:
            how: What is done.
            where: To which of its steps, those inside of others included; counted round and round.
        """
        made = self.model_copy(deep=True)
        places = made._places()
        block, index = places[where % len(places)]
        step = block[index]
        match how:
            case "remove":
                del block[index]
            case "repeat":
                block.insert(index, step.model_copy(deep=True))
            case "change":
                block[index] = step.model_copy(update={"text": f"another {step.text}"})
            case "turn":
                block[index] = step.model_copy(update={"kind": "use" if step.kind == "do" else "do", "inner": []})
            case "swap":
                other = (index + 1) % len(block)
                block[index], block[other] = block[other], step
        return made

    def told_of(self, how: Edit, where: int) -> str:
        """Return what has to be told of an edit of a step that was made before, as far as that is simple to say."""
        places = self._places()
        block, index = places[where % len(places)]
        step = block[index]
        scatters = [one for part in self.parts for outer in part for one in _flat(outer) if one.kind == "scatter"]
        in_scatter = any(step in one.inner for one in scatters)
        plain = step.text and not step.inner and step.kind != "ask" and how in ("change", "turn")
        return f"({step.text})" if plain and not in_scatter else ""

    def _places(self) -> list[tuple[list[Step], int]]:
        blocks = [block for part in self.parts for block in _blocks(part)]
        return [(block, index) for block in blocks for index in range(len(block))]

    def save(self, path: Path) -> None:
        """Make this the program at a place, all at once."""
        draft = path.with_suffix(".draft")
        draft.write_text(self.model_dump_json())
        draft.rename(path)


def program_at(path: str) -> Program:
    """Return the program that a file holds now."""
    with workflow.unsafe.sandbox_unrestricted():
        return Program.model_validate_json(Path(path).read_text())


def happens(run: str, what: str) -> None:
    """Note what happens in a run, a line for each."""
    with (Path(os.environ["HAPPENINGS"]) / run).open("a") as file:
        file.write(f"{what}\n")


def _blocks(steps: list[Step]) -> list[list[Step]]:
    """Return a list of steps and those inside of it, but for the groups of a fan-out, which are no steps."""
    inner = [step.inner for step in steps if step.kind != "fan_out"]
    return [steps, *(block for one in inner if one for block in _blocks(one))]


def _flat(step: Step) -> list[Step]:
    return [step, *(deeper for inner in step.inner for deeper in _flat(inner))]
