"""How long a run's history may get: when it is time to continue as new, and what that has to wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio import workflow

from workflows.engine.sdk import STOPPED

CONTINUE_AT_EVENTS = 10_000
"""Events at which a run begins no more calls, and continues as new when those in flight have ended. The server suggests
it at 4,096, from which on the run does so as soon as no call is in flight; it ends a workflow at 51,200."""

CONTINUE_AT_BYTES = 8_000_000
"""Bytes of history at which it does so; the server suggests it at 4 MB, and ends a workflow at 50 MB."""


class Lifetime:
    """What is under way in a run, and whether its history has become so long that nothing more may begin."""

    def __init__(self, can_be_carried: Callable[[], bool]) -> None:
        """Begin with nothing under way.

        Args:
            can_be_carried: Whether what waits for people is little enough to be taken along.
        """
        self._can_be_carried = can_be_carried
        self._under_way = 0
        self._ending = False

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Have something under way that would be lost if the run continued as new; not to be begun if it is about to.

        Then the next run of the chain begins it.
        """
        self._ending = self._ending or (_is_too_long() if self._under_way else _is_long())
        if self._ending:
            await workflow.wait_condition(lambda: not self._can_be_carried())
        self._under_way += 1
        try:
            yield
        except STOPPED:
            self._under_way -= 1
            raise
        self._under_way -= 1

    def end(self) -> None:
        """Let nothing more begin."""
        self._ending = True

    def may_continue(self) -> bool:
        """Whether it is time to continue as new, and nothing is under way that would be lost."""
        if self._under_way or not _is_long() or not self._can_be_carried():
            return False
        return workflow.all_handlers_finished()


def _is_long() -> bool:
    """Whether it is time to continue as new where nothing would be waited for."""
    return workflow.info().is_continue_as_new_suggested() or _is_too_long()


def _is_too_long() -> bool:
    """Whether it is time to continue as new, whatever has to be waited for."""
    info = workflow.info()
    return (
        info.get_current_history_length() >= CONTINUE_AT_EVENTS or info.get_current_history_size() >= CONTINUE_AT_BYTES
    )
