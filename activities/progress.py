"""How far a call has come: what travels as heartbeat details, so that the next attempt starts from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel

from activities.contract import PAYLOAD_LIMIT, Usage
from activities.transcript import Entry, compressed, decompressed, with_short_results

READABLE_BYTES = 16_000
"""Up to this size progress is recorded as it is, for people to read in the UI; beyond, it is compressed."""


class Progress(BaseModel):
    """What an attempt of a call has done that no other attempt should do again."""

    entries: list[Entry] = []
    """What was said since the user prompt, and notes on compaction."""
    heard: int = 0
    """How many tells of people are among them."""
    tools_done: list[str] = []
    usage: Usage = Usage()
    rejections: int = 0
    """How many answers were sent back."""
    failures: int = 0
    """How many attempts ended in an error; a worker's death is none."""
    state: Any = None
    """The agent's state after the last tool; None if it declares none."""

    def record(self, limit: int = PAYLOAD_LIMIT) -> Any:
        """Return what to write down: always less than the server's limit for a payload, and quick to write often.

        Args:
            limit: The most bytes; some less than the server's, where something else is sent along.
        """
        written = self.model_dump_json(exclude_defaults=True)
        if len(written) <= min(READABLE_BYTES, limit):
            return self.model_dump(mode="json", exclude_defaults=True)
        packed = compressed(written)
        if len(packed) > limit:
            packed = compressed(self._with_short_results().model_dump_json(exclude_defaults=True))
        return {"packed": packed}

    def snapshot(self) -> Progress:
        """Return this as it is now, for another thread to write down while the call goes on."""
        return self.model_copy(update={"entries": list(self.entries)})

    @classmethod
    def read(cls, recorded: Any) -> Progress:
        """Read what `record` has returned."""
        if "packed" in recorded:
            return cls.model_validate_json(decompressed(recorded["packed"]))
        return cls.model_validate(recorded)

    def _with_short_results(self) -> Progress:
        return self.model_copy(update={"entries": with_short_results(self.entries)})


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


def current_progress() -> Progress | None:
    """Return the progress of the call inside which the code runs; None outside of any."""
    return _current.get()


@contextmanager
def accounting_to(progress: Progress) -> Iterator[None]:
    """Count what prompts use that are asked inside, by a task or by a tool, as used by this call."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)
