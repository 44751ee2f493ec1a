"""Deleting what is stored and not needed any more: what was not used for long, and no run may ask for.

No file goes that a run may need which the server still knows: what its history refers to was written, or read, since it
began. So the oldest run that is open, or has ended a short while ago, holds all that was used since.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.housekeeping.beside import beside

LOOK_EVERY_S = 3600.0
"""Seconds between two looks."""

_DAY_S = 86_400.0
_BEYOND_RETENTION_DAYS = 7.0

logger = logging.getLogger(__name__)


class StoreCleanup:
    """Looks from time to time at what is stored, and deletes what is not needed."""

    def __init__(self, client: Client, remove_unused: Callable[[float], int], days: float | None) -> None:
        """Prepare to look.

        Args:
            client: Who knows the runs.
            remove_unused: Deletes what was used last before a time, in seconds since 1970; returns how many files.
            days: How long to keep what is not used; None for a week more than the server keeps the histories of runs.
        """
        self._client = client
        self._remove_unused = remove_unused
        self._days = days

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for as long as the block lasts."""
        async with beside(self._look_again_and_again()):
            yield

    async def _look_again_and_again(self) -> None:
        warned = False
        while True:
            try:
                if not warned:
                    await self._warn_if_short()
                    warned = True
                await self.look()
            except RPCError as error:
                if error.status == RPCStatusCode.UNIMPLEMENTED:  # the time-skipping server has no lists
                    return
                logger.debug("could not look at which runs there are: %s", error.message)
            except OSError as error:
                logger.warning("could not look through the payload store: %s", error)
            await asyncio.sleep(LOOK_EVERY_S * random.uniform(0.8, 1.2))

    async def look(self) -> int:
        """Delete what is not needed; return how many files.

        Raises:
            RPCError: The server does not answer.
            OSError: The store does not.
        """
        if self._days is None:
            self._days = await self._retention() + _BEYOND_RETENTION_DAYS
        cutoff = time.time() - self._days * _DAY_S
        removed = await asyncio.to_thread(self._remove_unused, min(cutoff, await self._needed_since(cutoff)))
        if removed:
            logger.info("deleted %d stored payloads that were not used for %g days", removed, self._days)
        return removed

    async def _warn_if_short(self) -> None:
        """Warn if less is kept than runs that have ended may ask for."""
        if self._days is not None and self._days < (retention := await self._retention()):
            logger.warning(
                "PAYLOAD_STORE_DAYS is %g, and the server keeps the histories of runs for %g days: after %g of them "
                "runs that have ended can't be shown, forked or reset if they had large payloads.",
                self._days,
                retention,
                self._days,
            )

    async def _needed_since(self, cutoff: float) -> float:
        """Return since when what was used may be needed by runs that began before a time.

        Their first inputs were stored before they began, by a clock of another machine; a day is enough for both.
        """
        at = datetime.fromtimestamp(cutoff, UTC).strftime("'%Y-%m-%dT%H:%M:%SZ'")
        old = f"StartTime < {at} AND (ExecutionStatus = 'Running' OR CloseTime > {at})"
        began = [run.start_time.timestamp() async for run in self._client.list_workflows(old)]
        return min(began, default=cutoff + _DAY_S) - _DAY_S

    async def _retention(self) -> float:
        """Return for how many days the server keeps the history of a run that has ended."""
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        described = await self._client.workflow_service.describe_namespace(request)
        return described.config.workflow_execution_retention_ttl.ToTimedelta().total_seconds() / _DAY_S
