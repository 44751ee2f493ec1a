"""Ending what belonged to a run that is no more: conversations, kept pages, and shards of a run that was deleted.

A run may be completed, cancelled, terminated, reset or deleted, and nothing of it can be relied upon afterwards. So the
workers of choreographies look from time to time at what is open, and at once when a run of theirs ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import ValidationError
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.conversations import OWNER_MEMO, Owner
from activities.contract.names import CONVERSATION, JOURNAL, SHARD
from activities.errors import KeyMissing
from activities.housekeeping.beside import beside

LOOK_EVERY_S = 5.0
"""Seconds between two looks while no run ends."""

_REST = 20
"""How many times as long as a look the pause after it is: where very much is open, it is looked at less often."""

_AFTER_AN_END_S = (0.1, 1.0)
"""Seconds until looks after the end of a run: the server's lists are late by a moment."""

_AT_A_TIME = 20

_OPEN = f"ExecutionStatus = 'Running' AND WorkflowType IN ('{CONVERSATION}', '{JOURNAL}', '{SHARD}')"

logger = logging.getLogger(__name__)


class Cleanup:
    """Looks at what is open, and ends what belongs to no run."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._due: list[float] = []
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_A_TIME)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for as long as the block lasts."""
        self._loop = asyncio.get_running_loop()
        async with beside(self._look_again_and_again()):
            yield

    def a_run_ends(self) -> None:
        """Look soon; may be called from any thread."""
        with suppress(RuntimeError, AttributeError):  # the worker is just stopping, or was never started
            self._loop.call_soon_threadsafe(self._look_soon)

    def _look_soon(self) -> None:
        now = time.monotonic()
        self._due = [now + seconds for seconds in _AFTER_AN_END_S]
        self._woken.set()

    async def _look_again_and_again(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.look()
            except RPCError as error:
                if error.status == RPCStatusCode.UNIMPLEMENTED:  # the time-skipping server has no lists
                    return
                logger.debug("could not look at what is open: %s", error.message)
            took = time.monotonic() - began
            await asyncio.sleep(_REST * took)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until a look is due."""
        usual = time.monotonic() + LOOK_EVERY_S * random.uniform(0.8, 1.2)
        while (left := min([usual, *self._due]) - time.monotonic()) > 0:
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
        self._due = [due for due in self._due if due > time.monotonic()]

    async def look(self) -> None:
        """End what is open and belongs to a run that is not.

        Raises:
            RPCError: The server does not answer.
        """
        owned: defaultdict[tuple[str, str], list[WorkflowExecution]] = defaultdict(list)
        async for found in self._client.list_workflows(_OPEN):
            if owner := await _owner_of(found):
                owned[owner.workflow_id, owner.run_id].append(found)
        await asyncio.gather(*(self._end_if_ended(Owner(workflow_id=w, run_id=r), owned[w, r]) for w, r in owned))

    async def _end_if_ended(self, owner: Owner, belongings: list[WorkflowExecution]) -> None:
        async with self._places:
            if await self._goes_on(owner):
                return
            for found in belongings:
                with suppress(RPCError):  # it has just ended by itself
                    await self._end(found, owner)

    async def _goes_on(self, owner: Owner) -> bool:
        try:
            described = await self._client.get_workflow_handle(owner.workflow_id).describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        first = described.raw_description.workflow_execution_info.first_run_id
        return described.status == WorkflowExecutionStatus.RUNNING and owner.run_id in ("", first)

    async def _end(self, found: WorkflowExecution, owner: Owner) -> None:
        handle = self._client.get_workflow_handle(found.id)
        if found.workflow_type == SHARD:
            await handle.cancel()
        else:
            await handle.signal("end", owner)


async def _owner_of(found: WorkflowExecution) -> Owner | None:
    if found.workflow_type == SHARD:
        return Owner(workflow_id=found.parent_id, run_id="") if found.parent_id else None
    try:
        named: Any = (await found.memo()).get(OWNER_MEMO)
        return Owner.model_validate(named) if named else None
    except (ValidationError, KeyMissing):  # nothing of ours, or of workers that have its key
        return None
