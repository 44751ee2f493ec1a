"""A shard: a part of a large scatter in a workflow of its own, so that no history has to hold all of it.

It is a child of the run, gets bare calls as data and some instances to make them with, and returns what came back.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from temporalio import workflow

from activities.contract import SHARD, CallReply
from activities.errors import was_cancelled
from workflows.request import Request, Service, send
from workflows.run import Run
from workflows.together import together

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
    """

    scatter: str
    step: str
    services: list[Service]
    instances: list[str]
    stop_at_error: bool


def pack(lines: Iterable[object]) -> bytes:
    """Write JSON lines, compressed."""
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    return gzip.compress(text.encode(), mtime=0)


def unpack(packed: bytes) -> Iterator[list[Any]]:
    """Read what `pack` has written, also several of them in one."""
    return map(json.loads, gzip.decompress(packed).splitlines()) if packed else iter(())


@workflow.defn(name=SHARD, sandboxed=False)
class Shard(Run):
    """Makes a part of the calls of a scatter."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[list[Any]] = []
        self._kept_bytes = 0
        self._bytes = 0

    @workflow.run
    async def run(self, order: ShardOrder, requests: bytes) -> bytes:
        """Make the calls; return what came back, packed. What is missing there has not been begun.

        Args:
            order: What to do.
            requests: Number of the service, step, label and arguments of each, packed.
        """
        todo = enumerate(unpack(requests))
        reporting = asyncio.create_task(self._report_now_and_then(order))
        with suppress(_Enough):
            await together([self._line(order, instance, todo) for instance in order.instances])
        reporting.cancel()
        return pack(self._kept)

    async def keep_conversations(self) -> None:
        """Do nothing: the run does."""

    def is_long(self) -> bool:
        """Never be: it has as many calls as a history may hold."""
        return False

    is_too_long = is_long

    async def _line(self, order: ShardOrder, instance: str, todo: Iterator[tuple[int, list[Any]]]) -> None:
        for number, (service, *request) in todo:
            outcome = await send(self, order.services[service], Request(*request), instance)
            if outcome.data is None and outcome.error is None:
                raise asyncio.CancelledError
            await self._keep(order.step, [number, instance, outcome.data, outcome.error])
            if outcome.data is not None:
                usage = CallReply[Any].model_validate_json(outcome.data).usage
                self.board.used(order.services[service].role, usage)
            elif order.stop_at_error:
                raise _Enough
            if was_cancelled():
                raise asyncio.CancelledError
            if self._bytes > ENOUGH_RESULT_BYTES:
                return

    async def _keep(self, step: str, result: list[Any]) -> None:
        data = result[2] or ""
        if self._kept and self._kept_bytes + len(data) > RESULT_BYTES:
            packed = pack(self._kept)
            self._kept, self._kept_bytes = [], 0
            await self._run_of_this().signal("shard_results", args=[step, packed])
        self._kept.append(result)
        self._kept_bytes += len(data)
        self._bytes += len(data)

    async def _report_now_and_then(self, order: ShardOrder) -> None:
        pause = _FIRST_REPORT_S
        while True:
            await workflow.sleep(pause)
            pause *= 1.1
            report = self.board.report(self.waits())
            await self._run_of_this().signal("shard_reports", args=[order.scatter, order.step, report])

    def _run_of_this(self) -> workflow.ExternalWorkflowHandle[Any]:
        parent = workflow.info().parent
        assert parent is not None
        return workflow.get_external_workflow_handle(parent.workflow_id, run_id=parent.run_id)


class _Enough(Exception):
    """An error came back, and the scatter is to end at the first."""
