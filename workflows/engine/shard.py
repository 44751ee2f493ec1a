"""A shard: a part of a large scatter in a workflow of its own, so that no history has to hold all of it.

It is a child of the run, gets bare calls as data and some instances to make them with, and returns what came back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contract.envelope import Position
from activities.contract.names import POSITIONS, SHARD
from activities.contract.usage import Usage
from activities.errors import was_cancelled
from workflows.engine.packing import pack, unpack
from workflows.engine.request import Request, Service
from workflows.engine.run import Run
from workflows.engine.sending import send
from workflows.engine.together import together
from workflows.steering.budget import Purse
from workflows.steering.steering import Steering
from workflows.tree.scope import CallScope

RESULT_BYTES = 1_000_000
"""Bytes of results after which a shard sends them to its run, instead of keeping them until it ends."""

ENOUGH_RESULT_BYTES = 3_000_000
"""Bytes of results after which it begins no more calls, and leaves the rest to another shard."""

_FIRST_REPORT_S = 10.0
"""Seconds after which a shard reports to its run; then it does so ever less often."""


class ShardOrder(BaseModel):
    """What a shard is to do, beside its requests.

    Attributes:
        scatter: The scatter's place in the program.
        step: The shard's place in it.
        services: Of which each request names one, by number.
        instances: With whom.
        stop_at_error: Whether the first error ends it.
        positions: Where the instances stand, by their conversations.
    """

    scatter: str
    step: str
    services: list[Service]
    instances: list[str]
    stop_at_error: bool
    positions: dict[str, Position] = {}


@workflow.defn(name=SHARD, sandboxed=False)
class Shard(Run):
    """Makes a part of the calls of a scatter."""

    @workflow.init
    def __init__(self, order: ShardOrder, requests: bytes, steering: Steering) -> None:
        super().__init__()
        self._kept: list[list[Any]] = []
        self._kept_bytes = 0
        self._bytes = 0
        self._order, self.steering, self.positions = order, steering, dict(order.positions)

    @workflow.run
    async def run(self, order: ShardOrder, requests: bytes, steering: Steering) -> bytes:
        """Make the calls; return what came back, packed. What is missing there has not been begun.

        The last line is no result: it tells where the instances stand.

        Args:
            order: What to do.
            requests: Number of the service, step, label and arguments of each, packed.
            steering: Its share of the budget, and whether the run is paused.
        """
        todo = enumerate(unpack(requests))
        reporting = asyncio.create_task(self._report_now_and_then())
        try:
            with suppress(_Enough):
                await together([self._line(instance, todo) for instance in order.instances])
        except asyncio.CancelledError:
            with suppress(FailureError):  # the run may have ended
                await asyncio.shield(asyncio.ensure_future(self._report()))
            raise
        reporting.cancel()
        await self._report()
        positions = {name: position.model_dump(exclude_defaults=True) for name, position in self.positions.items()}
        return pack([*self._kept, [POSITIONS, positions]])

    def is_long(self) -> bool:
        """Never be: it has as many calls as a history may hold."""
        return False

    is_too_long = is_long

    async def _line(self, instance: str, todo: Iterator[tuple[int, list[Any]]]) -> None:
        order = self._order
        for number, (service, *request) in todo:
            kind, asked = order.services[service], Request(*request)
            with CallScope(asked.step, asked.label, self.main, role=kind.role, method=kind.name) as scope:
                scope.instance = instance
                outcome = await send(self, kind, asked, scope)
            if outcome.data is None and outcome.error is None:
                raise asyncio.CancelledError
            await self._keep([number, instance, outcome.data, outcome.error])
            if outcome.error is not None and order.stop_at_error:
                raise _Enough
            if was_cancelled():
                raise asyncio.CancelledError
            if self._bytes > ENOUGH_RESULT_BYTES:
                return

    async def _keep(self, result: list[Any]) -> None:
        data = result[2] or ""
        if self._kept and self._kept_bytes + len(data) > RESULT_BYTES:
            packed = pack(self._kept)
            self._kept, self._kept_bytes = [], 0
            await self._run_of_this().signal("shard_results", args=[self._order.step, packed])
        self._kept.append(result)
        self._kept_bytes += len(data)
        self._bytes += len(data)

    async def _report_now_and_then(self) -> None:
        pause = _FIRST_REPORT_S
        while True:
            await workflow.sleep(pause)
            pause *= 1.1
            await self._report()

    async def _report(self) -> None:
        await self._run_of_this().signal("shard_reports", args=self._how_far(self.steering.purse))

    def _how_far(self, purse: Purse) -> list[Any]:
        return [self._order.scatter, self._order.step, self.board.report(self.waits(), self._queued), purse]

    def held_because(self) -> list[str]:
        """Say nothing of it: the run does."""
        return []

    def _warn(self, warnings: list[str]) -> None:
        """Warn of nothing: the run does."""

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge a call; if others wait, the run is to hear of what this one has left."""
        self._asked = False
        super().settle(method, usage, well=well)

    def _look(self) -> None:
        """Ask the run for more, where the share has no room for a call that waits."""
        purse, now = self.steering.purse, workflow.now()
        wanting = [method for method, count in self._waiting.items() if count and purse.is_short(method, now)]
        if not wanting or self._asked or self.steering.paused_at is not None:
            return
        self._asked = True
        self._asks += 1
        purse.give_back(now)
        held = purse.model_copy(deep=True)
        run = self._run_of_this()
        # So that the run can show the usage that it says is spent.
        self._messages.send(run, "shard_reports", *self._how_far(held))
        self._messages.send(run, "part_wants", self._order.step, self._asks, wanting[0], held)

    def _run_of_this(self) -> workflow.ExternalWorkflowHandle[Any]:
        parent = workflow.info().parent
        assert parent is not None
        # Not by its run id: a run that is reset goes on under another one, with the shards that it has.
        return workflow.get_external_workflow_handle(parent.workflow_id)


class _Enough(Exception):
    """An error came back, and the scatter is to end at the first."""
