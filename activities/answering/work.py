"""A call at work: what is the same for a prompt and for plain code, in this process and for a run."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.answering.approval import Approvals, AtTheTerminal
from activities.answering.checkpoint import Checkpoint
from activities.declarations.agent import Agent
from activities.declarations.method import Method
from activities.memory.port import Memory, Recalled
from activities.memory.transcript import Entry
from activities.workspace.desk import Desk


@dataclass(eq=False)
class Work(ABC):
    """One method being carried out by one agent.

    Attributes:
        agent: Who does it.
        method: What is done.
        arguments: Its arguments by name, as their types.
        checkpoint: Empty, or what an earlier attempt left.
        memory: Where earlier calls are found, and this one goes.
        record: Called whenever there is something in the checkpoint that must not be lost.
        approvals: Who decides on tools that need it.
        desk: Where it is done, for a class that works on branches of a repository.
    """

    agent: Agent
    method: Method[..., Any]
    arguments: dict[str, Any]
    checkpoint: Checkpoint
    memory: Memory
    record: Callable[[], None] = lambda: None
    approvals: Approvals = field(default_factory=AtTheTerminal)
    desk: Desk | None = None

    def __post_init__(self) -> None:
        """Prepare to do it, or to go on doing it."""
        self._recalled: Recalled | None = None

    @abstractmethod
    async def run(self) -> Any:
        """Return the result, as its type, once the memory has what was said."""

    @abstractmethod
    async def give_up(self, why: str) -> None:
        """Leave what was said to be read, as the work has failed for good; the agent will not remember it.

        Args:
            why: What a person is told of it.
        """

    def said_so_far(self) -> Sequence[Entry]:
        """Return what was said, whole: what is asked and what came of it."""
        return ()

    async def unfinished(self) -> str:
        """Say what keeps the work from being committed, to whoever does it; nothing if nothing does."""
        return await asyncio.to_thread(self.desk.unfinished) if self.desk else ""

    async def recall(self) -> Recalled:
        """Return what is remembered, which is looked up once."""
        if self._recalled is None:
            self._recalled = await self.memory.recall()
        return self._recalled
