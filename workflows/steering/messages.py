"""Signals to other workflows, for whose arrival nobody waits."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError


class Messages:
    """Sends signals to other workflows."""

    def __init__(self) -> None:
        self._under_way: list[asyncio.Task[None]] = []
        self._last: dict[str, asyncio.Task[None]] = {}

    def send(
        self,
        handle: workflow.ExternalWorkflowHandle[Any],
        signal: str,
        *arguments: Any,
        lost: Callable[[], None] = lambda: None,
        after_others_to: str = "",
    ) -> None:
        """Send a signal; it may come too late for one that has just ended.

        Args:
            handle: To whom.
            signal: Its name.
            *arguments: Its arguments.
            lost: Called if there is nobody any more.
            after_others_to: To whom, where what is sent may not overtake what was sent before.
        """
        before = self._last.get(after_others_to)

        async def send() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await handle.signal(signal, args=arguments)
            except FailureError:
                lost()

        self._under_way = [message for message in self._under_way if not message.done()]
        # It is no step of the program, whatever it is sent from.
        sending = asyncio.create_task(send(), context=contextvars.Context())
        self._under_way.append(sending)
        if after_others_to:
            self._last = {whom: last for whom, last in self._last.items() if not last.done()}
            self._last[after_others_to] = sending

    @property
    def have_arrived(self) -> bool:
        """Whether all that were sent have arrived."""
        return all(message.done() for message in self._under_way)

    async def arrived(self) -> None:
        """Wait until all that were sent have arrived."""
        await workflow.wait_condition(lambda: self.have_arrived)
