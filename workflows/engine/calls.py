"""The calls that a workflow has in the queues: at most so many at a time, each admitted, shown and charged."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from temporalio import workflow
from temporalio.common import Priority

from activities.contract.branches import Access
from activities.contract.envelope import Receipt
from activities.contract.usage import Usage
from workflows.engine.concurrency import ConcurrencyLimit
from workflows.engine.model_waits import ModelWaits
from workflows.engine.sdk import STOPPED, workflow_task
from workflows.engine.traces import Traces
from workflows.memory.positions import Positions
from workflows.shown.board import Board, CloseStatus
from workflows.steering.budget import Limit
from workflows.tree.current import inside
from workflows.tree.scope import CallScope

CALLS_IN_FLIGHT = 45
"""Calls that one workflow has in the queues at a time. A default server fails a workflow task during which more than
100 events arrive, and each answer is two of them; the rest is room for signals and timers."""

TASK_BYTES = 3 * 1024 * 1024
"""Bytes of arguments sent in one workflow task. The server terminates a run whose commands exceed 4 MB."""


class Gate(Protocol):
    """What admits calls, and charges them: the steering of a run, or a part's share of its budget."""

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start."""

    def left_for(self, method: str) -> Mapping[Limit, float]:
        """Return what is left for a call that was just admitted, by limit; empty if nothing limits it."""

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge what a call has used that was admitted."""


@dataclass
class InFlight:
    """A call that is under way; whoever makes it notes how it ends, if not well.

    Attributes:
        outcome: How it ended.
        receipt: What it took.
        budget_left: What was left of its budget when it began, by limit.
    """

    outcome: CloseStatus = "done"
    receipt: Receipt = field(default_factory=Receipt)
    budget_left: Mapping[Limit, float] = field(default_factory=dict)


class Calls:
    """The calls of a run, or of a shard of it, that are under way.

    Attributes:
        positions: Where the instances stand that make them.
        queued: How many are in which task queue.
    """

    def __init__(
        self,
        board: Board,
        gate: Gate,
        models: ModelWaits,
        positions: Positions,
        traces: Traces,
        priority: int | None = None,
        busy: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        """Begin without any.

        Args:
            board: What counts how they ended.
            gate: What admits them.
            models: Which models they wait for.
            positions: Where the instances stand that make them.
            traces: Who tells of them.
            priority: From 1 to 5; None for that of the workflow.
            busy: What each is in, so that the workflow does not end while it is under way.
        """
        self.positions = positions
        self.queued: Counter[str] = Counter()
        self._board = board
        self._gate = gate
        self._models = models
        self._traces = traces
        self._priority = priority
        self._busy = busy
        self._limits: defaultdict[str, ConcurrencyLimit] = defaultdict(lambda: ConcurrencyLimit(CALLS_IN_FLIGHT))
        self._in_flight = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._shared_tree = asyncio.Lock()
        self._task_at = -1
        self._task_bytes = 0

    @functools.cached_property
    def priority(self) -> Priority:
        """How the calls are to be dealt with where calls of several runs queue up: in turn with the others'."""
        given = workflow.info().priority
        return Priority(
            priority_key=self._priority or given.priority_key,
            fairness_key=given.fairness_key or workflow.info().first_execution_run_id,
            fairness_weight=given.fairness_weight,
        )

    def alone(self, access: Access | None) -> AbstractAsyncContextManager[None]:
        """Be the only call that works in the folder that all share, from its beginning to its end."""
        return self._shared_tree if access == "shared" else nullcontext()

    @asynccontextmanager
    async def calling(self, queue: str, scope: CallScope) -> AsyncIterator[InFlight]:
        """Be in flight: wait for a place among the calls, and be watched and shown while it lasts."""
        async with self._limits[queue], self._in_flight, self._busy():
            # In its place already: else a pause would come too late for those that wait for one.
            await self._gate.admit(scope.method)
            scope.send(workflow.now())
            self._traces.call_begins(scope)
            self.queued[queue] += 1
            call = InFlight(budget_left=self._gate.left_for(scope.method))
            try:
                yield call
            except STOPPED as error:
                call.outcome = "failed" if isinstance(error, Exception) else "cancelled"
                self._end(queue, scope, call)
                raise
            self._end(queue, scope, call)

    async def room_for(self, size: int) -> None:
        """Wait for a workflow task in which a command of this size has room."""
        while True:
            now_at = workflow_task()
            if now_at != self._task_at:
                self._task_at, self._task_bytes = now_at, 0
            if self._task_bytes == 0 or self._task_bytes + size <= TASK_BYTES:
                self._task_bytes += size
                return
            with inside(None):
                await workflow.sleep(0.01)

    def _end(self, queue: str, scope: CallScope, call: InFlight) -> None:
        done, now = call.outcome == "done", workflow.now()
        if done:
            self._limits[queue].observe(call.receipt.waited_s, call.receipt.took_s, now.timestamp())
        self.queued[queue] -= 1
        self._traces.call_ends(scope, call.outcome, call.receipt)
        self._models.call_ends(scope.path, answered=done)
        self._board.call_ends(scope.role, call.outcome, call.receipt.usage)
        self._gate.settle(scope.method, call.receipt.usage, well=done)
