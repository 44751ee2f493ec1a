"""Plain code that a choreography calls: a task, or a tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from activities.answering.checkpoint import Checkpoint
from activities.answering.record import working
from activities.declarations.agent import Agent
from activities.declarations.method import Method
from activities.declarations.state import declares_state, differs, restore_state, saved_state
from activities.memory.port import Memory, Recalled, leave_to_be_read


class PlainWork:
    """One task or tool being done by one agent, with the state that its instance keeps."""

    def __init__(
        self,
        agent: Agent,
        method: Method[..., Any],
        arguments: dict[str, Any],
        checkpoint: Checkpoint,
        memory: Memory,
        record: Callable[[], None],
    ) -> None:
        """Prepare to do it.

        Args:
            agent: Who does it.
            method: What is done.
            arguments: Its arguments by name, as their types.
            checkpoint: What an earlier attempt left of the prompts that are asked inside.
            memory: Where the state is kept, and what these prompts say.
            record: Called whenever there is something in the checkpoint that must not be lost.
        """
        self.agent = agent
        self.method = method
        self.arguments = arguments
        self.checkpoint = checkpoint
        self.memory = memory
        self.record = record
        self._recalled: Recalled | None = None

    async def run(self) -> Any:
        """Return what the method returns, once the memory has the state, and what was said."""
        if declares_state(type(self.agent)):
            restore_state(self.agent, (await self._recall()).state)
        async with working(self.checkpoint, self.record):
            value = await getattr(self.agent, self.method.name)(**self.arguments)
        await self._commit()
        return value

    async def give_up(self, why: str) -> None:
        """Leave what was said to be read, as the work has failed for good.

        Args:
            why: What a person is told of it.
        """
        if said := self.checkpoint.said_inside():
            await leave_to_be_read(self.memory, self._recall, said, why)

    async def _commit(self) -> None:
        said, kept = self.checkpoint.said_inside(), saved_state(self.agent)
        before = self._recalled.state if self._recalled else None
        changed = differs(kept, before)
        if said or changed:
            recalled = await self._recall()
            await self.memory.commit(recalled.transcript.next, said, 0, kept if changed else None)

    async def _recall(self) -> Recalled:
        if self._recalled is None:
            self._recalled = await self.memory.recall()
        return self._recalled
