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
from activities.errors import was_cancelled
from workflows.engine.calls import Calls
from workflows.engine.display import Display
from workflows.engine.handlers import serving_handlers_of
from workflows.engine.model_waits import ModelWaits
from workflows.engine.packing import pack, unpack
from workflows.engine.request import Request, Service
from workflows.engine.sending import send
from workflows.engine.together import together
from workflows.engine.traces import RunTime, Traces
from workflows.memory.positions import Positions
from workflows.shown.board import Board
from workflows.shown.reading import is_under_way
from workflows.steering.admission import Admission, SteeringState
from workflows.steering.budget import Purse
from workflows.steering.messages import Messages
from workflows.steering.shared import SharedBudgets
from workflows.steering.shares import Borrower, run_of_this_part
from workflows.tree.scope import CallScope, Scope

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
        positions: Where the instances and their branches stand.
    """

    scatter: str
    step: str
    services: list[Service]
    instances: list[str]
    stop_at_error: bool
    positions: dict[str, Position] = {}


@workflow.defn(name=SHARD, sandboxed=False)
@serving_handlers_of(admission=Admission, display=Display, models=ModelWaits, share=Borrower, shared=SharedBudgets)
class Shard:
    """Makes a part of the calls of a scatter."""

    @workflow.init
    def __init__(self, order: ShardOrder, requests: bytes, steering: SteeringState) -> None:
        self.board = Board()
        self.main = Scope()
        self.models = ModelWaits(lambda step: is_under_way(self.main, step))
        self.positions = Positions(order.positions)
        self.share = Borrower(order.step, steering, self._report_beside, messages := Messages())
        self.admission = self.share.admission
        self.shared = self.share.shared
        self.main.tally.watch = self.traces = Traces(RunTime())
        self.calls = Calls(self.board, self.share, self.models, self.positions, self.traces)
        self.display = Display(
            self.main,
            self.board,
            self.calls,
            self.models,
            waits=[self.models.in_words, lambda: list(self.shared.held().values())],
            paused=self.share.paused,
        )
        self._messages = messages
        self._order = order
        self._kept: list[list[Any]] = []
        self._kept_bytes = 0
        self._bytes = 0

    @workflow.run
    async def run(self, order: ShardOrder, requests: bytes, steering: SteeringState) -> bytes:
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
            await asyncio.shield(asyncio.ensure_future(self.shared.end()))
            raise
        reporting.cancel()
        await self.shared.end()
        await self._report()
        known, before = self.positions.all(), order.positions
        moved = {name: position for name, position in known.items() if position != before.get(name)}
        positions = {name: position.model_dump(exclude_defaults=True) for name, position in moved.items()}
        return pack([*self._kept, [POSITIONS, positions]])

    async def _line(self, instance: str, todo: Iterator[tuple[int, list[Any]]]) -> None:
        order = self._order
        for number, (service, *request) in todo:
            kind, asked = order.services[service], Request(*request)
            with CallScope(asked.step, asked.label, self.main, role=kind.role, method=kind.name) as scope:
                scope.instance = instance
                outcome = await send(self.calls, kind, asked, scope)
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
            await run_of_this_part().signal("shard_results", args=[self._order.step, packed])
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
        await run_of_this_part().signal("shard_reports", args=self._how_far(self.share.purse))

    def _report_beside(self, purse: Purse) -> None:
        self._messages.send(run_of_this_part(), "shard_reports", *self._how_far(purse))

    def _how_far(self, purse: Purse) -> list[Any]:
        report = self.board.report(self.main.tally.calls, self.calls.queued, self.display.waits())
        return [self._order.scatter, self._order.step, report, purse]


class _Enough(Exception):
    """An error came back, and the scatter is to end at the first."""
