"""What calls say while they are in flight: the question to the process that makes them, and what it answers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Kind = Literal["text", "reasoning", "tool"]

State = Literal["silent", "coming", "ended"]
"""Whether an answer is coming, and if none is, whether the attempt is over. The last entry has what has come."""


class Words(BaseModel):
    """A piece of an answer that is coming."""

    kind: Kind
    """Whether it is of the text, of the reasoning before it, or of the arguments of a tool that is called."""
    text: str
    tool: str = ""
    """The tool's name."""


class SoFar(BaseModel):
    """How much of a call somebody has heard."""

    attempt: str = ""
    entries: int = 0
    """Of what it has said, whole."""
    answer: int = 0
    """The answer that was coming."""
    characters: int = 0
    """Of that one."""
    state: State = "silent"


class Asked(BaseModel):
    """What somebody wants to hear."""

    run: str
    """Of which run, by its workflow id."""
    so_far: dict[str, SoFar] = {}
    """What is known already, by calls."""


class Saying(BaseModel):
    """What a call has said since, as far as its process has heard."""

    call: str
    """Which call it is: another one may have the same step, where a run goes on anew."""
    step: str
    instance: str
    method: str
    attempt: str
    """Which attempt at the call it is; no other has the same name."""
    began: float
    """When it began, by the server's clock."""
    resumed: int
    """With how many entries the attempt began: those of the attempts before it that stand."""
    number: int
    """How many entries there are before those that follow."""
    entries: list[dict[str, Any]] = []
    """What was said, whole: the prompt, turns with their tool calls, results of tools; long ones in short."""
    answer: int = 0
    """Which answer of the attempt is coming, or came last; 0 before the first."""
    start: int = 0
    """How many characters of it there are before the words that follow."""
    words: list[Words] = []
    state: State = "silent"
