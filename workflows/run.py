"""What every run has, whatever its choreography: pools, limits, what it shows of itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError

from activities.contract import CONVERSATION_KEEPER, UNSERVED_ACTIVITY, Usage
from workflows.options import Options
from workflows.pool import Pool

CALLS_IN_FLIGHT = 90
"""Calls that one run has in the queues at a time. A default server fails a workflow task during which more than 100
events arrive, so no more than that may end at once."""

TASK_BYTES = 3 * 1024 * 1024
"""Bytes of arguments sent in one workflow task. The server terminates a run whose commands exceed 4 MB."""

QUIET_S = 20.0
"""Seconds without any result from a queue after which the run asks whether somebody serves it."""

WATCHING = "then asks whether all queues are served"
"""What the UI's timeline shows beside the timer for that."""

_TRUST_S = 60.0
"""Seconds for which a queue that was seen to be served is not asked about again; doubled each time."""

_MOST_TRUST_S = 1800.0

_ASK_AGAIN_S = 30.0
"""Seconds after which an unserved queue is asked about again."""


class Progress(BaseModel):
    """What a run tells of itself when asked."""

    calls_done: int
    calls_running: int
    waits_for: list[str]
    usage: Usage


class _Queue:
    """What a run knows of a task queue that it uses."""

    def __init__(self) -> None:
        self.pending: dict[int, datetime] = {}
        self.trust = _TRUST_S
        self.trusted_until: datetime | None = None
        self.unserved = False

    def due(self) -> datetime:
        """When to ask whether somebody serves it; there are calls in it."""
        longest_pending = next(iter(self.pending.values()))
        quiet = longest_pending + timedelta(seconds=QUIET_S)
        return max(quiet, self.trusted_until or quiet)

    def found(self, now: datetime, *, unserved: bool) -> None:
        self.unserved = unserved
        self.trusted_until = now + timedelta(seconds=_ASK_AGAIN_S if unserved else self.trust)


class Run:
    """The base of every choreography's workflow."""

    def __init__(self) -> None:
        self.options = Options()
        self.pools: list[Pool] = []
        self._in_flight = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._queues: dict[str, _Queue] = {}
        self._calls = 0
        self._calls_done = 0
        self._usage = Usage()
        self._task_at = -1
        self._task_bytes = 0
        self._watching: asyncio.Task[None] | None = None
        self._keeper: asyncio.Future[None] | None = None
        self._shows_waits = False

    @staticmethod
    def current() -> Run:
        """Return the run whose code is executing."""
        run = workflow.instance()
        assert isinstance(run, Run)
        return run

    @workflow.query(description="Calls done and running, what the run waits for, and what it has used.")
    def progress(self) -> Progress:
        """Tell how far the run is."""
        return Progress(
            calls_done=self._calls_done,
            calls_running=sum(len(queue.pending) for queue in self._queues.values()),
            waits_for=self._waits(),
            usage=self._usage,
        )

    @asynccontextmanager
    async def calling(self, queue_name: str) -> AsyncIterator[None]:
        """Be in flight: wait for a place among the run's calls, and be watched while it lasts."""
        async with self._in_flight:
            self._calls += 1
            number = self._calls
            queue = self._queues.setdefault(queue_name, _Queue())
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch())
            queue.pending[number] = workflow.now()
            try:
                yield
            except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
                self._end_call(queue, number)
                raise
            self._calls_done += 1
            queue.found(workflow.now(), unserved=False)
            self._end_call(queue, number)

    def _end_call(self, queue: _Queue, number: int) -> None:
        del queue.pending[number]
        if self._shows_waits:
            self._show_waits()

    async def room_for(self, size: int) -> None:
        """Wait for a workflow task in which a command of this size has room."""
        while True:
            now_at = workflow.info().get_current_history_length()
            if now_at != self._task_at:
                self._task_at, self._task_bytes = now_at, 0
            if self._task_bytes == 0 or self._task_bytes + size <= TASK_BYTES:
                self._task_bytes += size
                return
            await workflow.sleep(0.01)

    async def keep_conversations(self) -> None:
        """See to it, before the first of them is begun, that the run's conversations end when the run has ended."""
        if self._keeper is None:
            self._keeper = asyncio.ensure_future(self._start_keeper())
        await asyncio.shield(self._keeper)

    async def _start_keeper(self) -> None:
        info = workflow.info()
        instances = [name for pool in self.pools if not pool.named for name in pool.instances]
        _ = await workflow.start_child_workflow(  # it is never awaited: it ends after the run
            CONVERSATION_KEEPER,
            args=[info.first_execution_run_id, instances],
            id=f"{info.workflow_id}/conversations",
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            # One of an earlier run that has not ended its work yet.
            id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING,
            static_summary="ends the conversations of the run when the run has ended",
        )

    def used(self, usage: Usage) -> None:
        """Add what a call used to the run's account."""
        self._usage += usage

    async def _watch(self) -> None:
        """Find out when calls wait in a queue that nobody serves, and say so."""
        while True:
            await workflow.wait_condition(lambda: self._next_due() is not None)
            due = self._next_due()
            assert due is not None
            wait = (due - workflow.now()).total_seconds()
            if wait <= 0:
                await self._ask_about([n for n, q in self._queues.items() if q.pending and q.due() <= workflow.now()])
                continue
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    functools.partial(self._is_due_before, due), timeout=wait, timeout_summary=WATCHING
                )

    def _next_due(self) -> datetime | None:
        return min((queue.due() for queue in self._queues.values() if queue.pending), default=None)

    def _is_due_before(self, moment: datetime) -> bool:
        due = self._next_due()
        return due is not None and due < moment

    async def _ask_about(self, names: list[str]) -> None:
        try:
            unserved: list[str] = await workflow.execute_local_activity(
                UNSERVED_ACTIVITY,
                names,
                result_type=list[str],
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except FailureError as error:
            workflow.logger.warning("could not find out who serves %s: %s", ", ".join(names), error)
            unserved = []
        for name in names:
            queue = self._queues[name]
            queue.found(workflow.now(), unserved=name in unserved)
            if queue.unserved:
                workflow.logger.warning("%s", _advice(name, queue))
            else:
                queue.trust = min(queue.trust * 2, _MOST_TRUST_S)
        self._show_waits()

    def _waits(self) -> list[str]:
        return [_advice(name, queue) for name, queue in self._queues.items() if queue.unserved and queue.pending]

    def _show_waits(self) -> None:
        waits = self._waits()
        self._shows_waits = bool(waits)
        workflow.set_current_details("\n".join(f"**Waits:** {wait}\n" for wait in waits))


def _advice(name: str, queue: _Queue) -> str:
    return (
        f"nobody serves the task queue {name}: {len(queue.pending)} calls wait in it. "
        f"Start a worker for it: python worker.py --serve {name}"
    )
