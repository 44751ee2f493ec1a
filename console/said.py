"""What was said in a conversation, for people to read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from activities.border.washing import washed, washed_within
from activities.memory.transcript import Entry, shortened

SHOWN_OF_A_MESSAGE = 20_000
"""Characters of what was said once that are shown: a browser takes long for a line of ten million."""

_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]",
    re.DOTALL,
)
"""What steers terminals, and what has text shown in another order than it is in: who approves sees what there is."""


class Said(BaseModel):
    """Something that was said in a conversation, for people to read.

    Attributes:
        who: `user`, `assistant`, `tool`, `system`, or the kind of a note.
        text: What.
        tools: Calls of tools, each with its name and its arguments.
        inside: What was said inside of it.
        heard: Whether the agent has heard it, where a person told it something.
    """

    who: str
    text: str = ""
    tools: list[tuple[str, str]] = []
    inside: list[Said] = []
    heard: bool = True


def said_of(entry: Entry) -> Said:
    """Return an entry of a conversation as people read it."""
    calls: Sequence[Any] = entry.get("tool_calls") or ()
    inside = [said_of(one) for one in entry.get("entries", ())]
    text = str(entry.get("content") or entry.get("text") or "")
    if entry.get("note") == "branch":
        text = f"The run was taken back: it goes on after entry {entry.get('after')}."
    return Said(
        who=str(entry.get("note") or entry.get("role") or "?"),
        text=plain(text),
        tools=[(plain(call["function"]["name"]), plain(call["function"]["arguments"])) for call in calls],
        inside=inside,
        heard=entry.get("heard", True),
    )


def plain(text: str, most: int = SHOWN_OF_A_MESSAGE) -> str:
    """Return a text without what steers terminals, and not longer than a browser takes."""
    return washed_within(text, most, cut=shortened, wash=_without_controls)


def _without_controls(text: str) -> str:
    return _CONTROL.sub("", washed(text))
