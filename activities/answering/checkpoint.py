"""How far a call has come: what travels as heartbeat details, so that the next attempt starts from there.

Prompts that are asked inside a call, by a task or by a tool, have a checkpoint of their own inside the call's, and
so on down.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field
from pydantic_core import PydanticSerializationError

from activities.border.washing import washed_tree
from activities.contract.limits import PAYLOAD_LIMIT
from activities.contract.usage import Usage
from activities.memory.transcript import (
    SENT_OF_LONG_RESULTS,
    Entry,
    compressed,
    decompressed,
    error,
    inner,
    readable,
    shortened,
    with_short_results,
)

READABLE_BYTES = 16_000
"""Up to this size a checkpoint is recorded as it is, for people to read in the UI; beyond, it is compressed."""


class Checkpoint(BaseModel):
    """What an attempt of a call has done that no other attempt should do again."""

    entries: list[Entry] = Field(default_factory=list)  # which is quicker than a copy of an empty one
    """What was said since the user prompt, and notes on compaction."""
    heard: int = 0
    """How many tells of people are among them."""
    tools_done: list[str] = Field(default_factory=list)
    usage: Usage = Field(default_factory=Usage)
    """What was used, by prompts inside as well."""
    rejections: int = 0
    """How many answers were sent back."""
    failures: int = 0
    """How many attempts ended in an error; a worker's death is none."""
    state: Any = None
    """The agent's state after the last tool; None if it declares none."""
    state_number: int = 0
    """Which state this is, of those that prompts inside the call have left."""
    inner: dict[str, InnerCheckpoint] = Field(default_factory=dict)
    """Prompts that were asked inside, by names that say where and what."""

    def record(self, limit: int = PAYLOAD_LIMIT) -> Any:
        """Return what to write down: always less than the server's limit for a payload, and quick to write often.

        Args:
            limit: The most bytes; some less than the server's, where something else is sent along.
        """
        try:
            written = self.model_dump_json(exclude_defaults=True)
        except PydanticSerializationError:  # of half a character, in a state that a method has made
            return type(self).model_validate(washed_tree(self.model_dump())).record(limit)
        if len(written) <= min(READABLE_BYTES, limit):
            return self.model_dump(mode="json", exclude_defaults=True)
        packed = compressed(written)
        if len(packed) > limit:
            short = self._with_short_results()
            packed = compressed(short.model_dump_json(exclude_defaults=True))
            if len(packed) > limit and self.inner:
                packed = compressed(short._with_last_words().model_dump_json(exclude_defaults=True))
        return {"packed": packed}

    def snapshot(self) -> Self:
        """Return this as it is now, for another thread to write down while the call goes on."""
        inside = {name: one.snapshot() for name, one in list(self.inner.items())}
        return self.model_copy(update={"entries": list(self.entries), "inner": inside})

    @classmethod
    def read(cls, recorded: Any) -> Checkpoint:
        """Read what `record` has returned."""
        if "packed" in recorded:
            return cls.model_validate_json(decompressed(recorded["packed"]))
        return cls.model_validate(recorded)

    def said_inside(self) -> list[Entry]:
        """Return what was said by prompts that were asked inside, a note for each."""
        return readable([inner(one.method, one.tool_call, one.said()) for one in self.inner.values()])

    def _with_short_results(self) -> Self:
        """Leave of long tool results head and tail."""
        inside = {name: one._with_short_results() for name, one in self.inner.items()}
        return self.model_copy(update={"entries": with_short_results(self.entries), "inner": inside})

    def _with_last_words(self) -> Self:
        """Leave of prompts inside that are answered only the answer: it is all that the next attempt needs."""
        return self.model_copy(update={"inner": {name: one._with_last_words() for name, one in self.inner.items()}})


class InnerCheckpoint(Checkpoint):
    """What was done of a prompt that was asked inside a call."""

    method: str
    tool_call: str = ""
    """The id of the tool call in which it was asked; empty for the code of a task."""
    asked: str
    """The user prompt."""
    done: bool = False
    """Whether it was answered."""
    error: str = ""
    """Why the last attempt at it has failed, if it has."""

    def said(self) -> list[Entry]:
        """Return all that was said."""
        why = [error(self.error)] if self.error else []
        return [{"role": "user", "content": self.asked}, *self.entries, *self.said_inside(), *why]

    def _with_short_results(self) -> Self:
        asked = shortened(self.asked, SENT_OF_LONG_RESULTS)
        return super()._with_short_results().model_copy(update={"asked": asked})

    def _with_last_words(self) -> Self:
        if not self.done:
            return super()._with_last_words()
        answer = max(number for number, entry in enumerate(self.entries) if entry.get("role") == "assistant")
        return self.model_copy(update={"entries": self.entries[answer:], "inner": {}})
