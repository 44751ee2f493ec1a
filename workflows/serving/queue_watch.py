"""Finds out in which task queues calls wait that nobody serves; says so in the worker's log, and in what runs tell.

A worker of choreographies asks the server now and then, so that runs need no timers for it. What a run does never
depends on what it finds: it is only told, when somebody asks a run how far it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from temporalio import workflow
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import (
    HandleQueryInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from activities.contract.names import MAKE_NO_CALLS, team_of
from activities.housekeeping.beside import beside
from activities.housekeeping.queues import look_at
from workflows.engine.display import Display, nobody_serves

LOOK_EVERY_S = 15.0
"""Seconds between two looks at the queues that this worker's runs may use and that it does not serve itself."""

RUNS_ASKED = 100
"""Runs that are asked for their calls where calls seem to wait in vain."""

_SCHEDULED = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED

logger = logging.getLogger(__name__)


class QueueWatch(Interceptor):
    """Knows which queues nobody serves, and tells it to runs that are asked.

    Attributes:
        unserved: Those queues.
    """

    def __init__(self, client: Client, queue: str, called: Mapping[str, Collection[str]]) -> None:
        """Watch queues.

        Args:
            client: Temporal's client.
            queue: Where the runs are.
            called: The queues that they use and this process does not serve, with the methods in each.
        """
        self.unserved: frozenset[str] = frozenset()
        self._client = client
        self._queue = queue
        self._called = called
        self._warned_of: set[str] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look for as long as the block lasts."""
        async with beside(self._refresh_now_and_then()):
            yield

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return what each run's queries go through."""
        watch = self

        class Told(WorkflowInboundInterceptor):
            async def handle_query(self, input: HandleQueryInput) -> Any:
                display = getattr(workflow.instance(), "display", None)
                if isinstance(display, Display):
                    display.unserved = watch.unserved
                return await super().handle_query(input)

        return Told

    async def _refresh_now_and_then(self) -> None:
        while self._called:
            try:
                await self._refresh()
            except RPCError as error:
                logger.debug("could not find out who serves the task queues: %s", error.message)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _refresh(self) -> None:
        looks = [await look_at(self._client, queue) for queue in self._called]
        self.unserved = frozenset(look.queue for look in looks if not look.served)
        self._warned_of &= self.unserved
        if any(look.waiting and look.queue in self.unserved - self._warned_of for look in looks):
            # What a server counts may be left by runs that have ended.
            for queue, calls in (await self._waiting()).items():
                if queue in self.unserved - self._warned_of:
                    self._warned_of.add(queue)
                    logger.warning("%s", nobody_serves(queue, calls, team_of(self._queue)))

    async def _waiting(self) -> Counter[str]:
        """Count the calls of open runs that wait in each queue."""
        queues = {method: queue for queue, methods in self._called.items() for method in methods}
        found: Counter[str] = Counter()
        query = f"TaskQueue = '{self._queue}' AND ExecutionStatus = 'Running'"
        async for run in self._client.list_workflows(query, limit=RUNS_ASKED):
            if run.workflow_type in MAKE_NO_CALLS:
                continue
            described = await self._client.get_workflow_handle(run.id, run_id=run.run_id).describe()
            for call in described.raw_description.pending_activities:
                if call.state == _SCHEDULED and call.activity_type.name in queues:
                    found[queues[call.activity_type.name]] += 1
        return found
