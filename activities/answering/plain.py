"""Plain code that a choreography calls: a task, or a tool."""

from __future__ import annotations

from typing import Any

from activities.answering.record import working
from activities.answering.work import Work
from activities.declarations.state import declares_state, differs, restore_state, saved_state
from activities.memory.port import leave_to_be_read


class PlainWork(Work):
    """One task or tool being done by one agent, with the state that its instance keeps.

    Its checkpoint holds what was said by prompts that are asked inside.
    """

    async def run(self) -> Any:
        """Return what the method returns, once the memory has the state, and what was said."""
        if declares_state(type(self.agent)):
            restore_state(self.agent, (await self.recall()).state)
        async with working(self.checkpoint, self.record):
            value = await getattr(self.agent, self.method.name)(**self.arguments)
        await self._commit()
        return value

    async def give_up(self, why: str) -> None:
        """Leave what was said to be read, as the work has failed for good."""
        if said := self.checkpoint.said_inside():
            await leave_to_be_read(self.memory, self.recall, said, why)

    async def _commit(self) -> None:
        said, kept = self.checkpoint.said_inside(), saved_state(self.agent)
        before = self._recalled.state if self._recalled else None
        changed = differs(kept, before)
        if said or changed:
            recalled = await self.recall()
            await self.memory.commit(recalled.transcript.next, said, 0, kept if changed else None)
