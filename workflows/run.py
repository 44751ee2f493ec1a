"""What every run has, whatever its choreography: pools, limits, what it shows of itself."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError, is_cancelled_exception

from activities.contract import CONVERSATION_KEEPER, UNSERVED_ACTIVITY
from workflows.board import Board, Work
from workflows.listing import Listed, Listing
from workflows.options import Options
from workflows.pool import Pool
from workflows.progress import Progress, tokens_of

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
        self.board = Board()
        self.listing = Listing(self.status, self._listed)
        self._in_flight = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._queues: dict[str, _Queue] = {}
        self._task_at = -1
        self._task_bytes = 0
        self._watching: asyncio.Task[None] | None = None
        self._keeper: asyncio.Future[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    @staticmethod
    def current() -> Run:
        """Return the run whose code is executing."""
        run = workflow.instance()
        assert isinstance(run, Run)
        return run

    @workflow.query(description="How far the run is, who does what, what it has used, and what it waits for.")
    def progress(self) -> Progress:
        """Tell how far the run is."""
        return self.board.progress(
            workflow.info().workflow_type, self.status(), self._waits(), {pool.role: len(pool) for pool in self.pools}
        )

    def status(self) -> str:
        """Say in words how the run is."""
        moving = any(queue.pending and not queue.unserved for queue in self._queues.values())
        return self.board.status(self._waits(), stuck=not moving)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Be a run that its program goes on in, and at the end one that ended so or so, for whoever looks."""
        self._telling = asyncio.create_task(self.listing.keep())
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            self.board.outcome = "cancelled" if is_cancelled_exception(error) else "failed"
            self.listing.tell()
            raise
        self.board.outcome = "done"
        self.listing.tell()

    def _listed(self) -> Listed:
        usage = self.board.usage()
        return Listed(
            choreography=workflow.info().workflow_type,
            status=self.status(),
            roles=[pool.role for pool in self.pools],
            cost_usd=usage.cost_usd,
            tokens=tokens_of(usage),
            failed_items=self.board.failed_items,
        )

    @asynccontextmanager
    async def calling(self, queue_name: str, work: Work) -> AsyncIterator[None]:
        """Be in flight: wait for a place among the run's calls, and be watched and shown while it lasts."""
        async with self._in_flight:
            number = self.board.call_begins(work, workflow.now())
            queue = self._queues.setdefault(queue_name, _Queue())
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch())
            queue.pending[number] = workflow.now()
            try:
                yield
            except (Exception, asyncio.CancelledError) as error:  # a run that the collector closes can do nothing
                del queue.pending[number]
                self.board.call_ends(number, "failed" if isinstance(error, Exception) else "cancelled")
                raise
            queue.found(workflow.now(), unserved=False)
            del queue.pending[number]
            self.board.call_ends(number, "done")

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

    def _waits(self) -> list[str]:
        return [_advice(name, queue) for name, queue in self._queues.items() if queue.unserved and queue.pending]


def current_board() -> Board:
    """Return the board of the run whose code is executing; where there is none, as in a unit test, one for nobody."""
    return Run.current().board if workflow.in_workflow() else Board()


def _advice(name: str, queue: _Queue) -> str:
    return (
        f"nobody serves the task queue {name}: {len(queue.pending)} calls wait in it. "
        f"Start a worker for it: python worker.py --serve {name}"
    )
