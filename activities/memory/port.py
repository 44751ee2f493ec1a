"""What a call needs of its instance's memory, and the memories that are not durable: none, and that of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from activities.contract.envelope import Position
from activities.memory.transcript import Entry, Transcript, error

logger = logging.getLogger(__name__)


@dataclass
class Recalled:
    """What an instance remembers when a call begins."""

    transcript: Transcript = field(default_factory=Transcript)
    state: Any = None
    committed: list[Entry] | None = None


class Memory(Protocol):
    """Where a call finds what was said before, and leaves what it says.

    Attributes:
        position: Where the instance stands since the call was committed; None before that.
    """

    position: Position | None

    async def recall(self) -> Recalled:
        """Return what is remembered."""

    async def tells(self) -> Sequence[str]:
        """Return what people told the agent since its last call."""

    async def commit(
        self, base: int, entries: Sequence[Entry], heard: int, state: Any, *, failed: bool = False
    ) -> None:
        """Remember a call: all of it, once. One that has failed is kept to be read, and is not remembered."""


class Nothing:
    """The memory of a call that starts afresh and keeps nothing."""

    position: Position | None = None

    async def recall(self) -> Recalled:
        """Return nothing."""
        return Recalled()

    async def tells(self) -> Sequence[str]:
        """Return nothing."""
        return ()

    async def commit(
        self, base: int, entries: Sequence[Entry], heard: int, state: Any, *, failed: bool = False
    ) -> None:
        """Remember nothing."""


class InThisProcess(Nothing):
    """The memory of an agent that lives in this process, for as long as it does."""

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript

    async def recall(self) -> Recalled:
        """Return what was said."""
        return Recalled(Transcript(self.transcript.numbered, self.transcript.next))

    async def commit(
        self, base: int, entries: Sequence[Entry], heard: int, state: Any, *, failed: bool = False
    ) -> None:
        """Remember it as long as the object."""
        self.transcript.add([{"note": "failed", "entries": list(entries)}] if failed else entries)


LEAVE_S = 10.0
"""Seconds that keeping what a failed call said may take; its failure waits for that."""


async def leave_to_be_read(
    memory: Memory, recall: Callable[[], Awaitable[Recalled]], said: Sequence[Entry], why: str
) -> None:
    """Keep what was said in a call that has failed for good. Whatever goes wrong with that, the failure is not hidden.

    Args:
        memory: Where it is kept.
        recall: Returns what was remembered when the call began.
        said: What was said.
        why: Why the call has failed.
    """
    if memory.position is not None:  # it is remembered already, and failed when it was to be told
        return
    try:
        async with asyncio.timeout(LEAVE_S):
            base = (await recall()).transcript.next
            await memory.commit(base, [*said, error(why)], 0, None, failed=True)
    except Exception:
        logger.warning("what was said in a call that has failed could not be kept", exc_info=True)
