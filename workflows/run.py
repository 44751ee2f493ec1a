"""What every run has, whatever its choreography: pools, limits, what it shows of itself."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import FailureError

from activities.contract import CONVERSATION_KEEPER, KEEP_PAGE_ACTIVITY, UNSERVED_ACTIVITY, PagesKept, Usage
from workflows.continuation import Carried, taken_along, to_take_along
from workflows.errors import LedgerFull, PathDiffers
from workflows.ledger import Ledger
from workflows.options import Options
from workflows.people import AsksPeople
from workflows.pool import Pool
from workflows.question import in_markdown
from workflows.scope import inside

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

CONTINUE_AT_EVENTS = 10_000
"""Events at which a run begins no more calls, and continues as new when those in flight have ended. The server suggests
it at 4,096, from which on the run does so as soon as no call is in flight; it ends a workflow at 51,200."""

CONTINUE_AT_BYTES = 8_000_000
"""Bytes of history at which it does so; the server suggests it at 4 MB, and ends a workflow at 50 MB."""

INPUT_BYTES = 1_000_000
"""Bytes of inputs and ledger that a run carries in its history when it continues as new; the server takes 2 MB. Beyond,
the ledger's pages are kept outside of it."""

PAGE_BYTES = 1_500_000
"""Bytes of one page that is kept so."""

LEDGER_BYTES = 40_000_000
"""Bytes of all pages, compressed; a server ends the workflow that keeps them at 50 MB."""

T = TypeVar("T")


class Progress(BaseModel):
    """What a run tells of itself when asked."""

    calls_done: int
    calls_running: int
    waits_for: list[str]
    usage: Usage


class ShardReport(BaseModel):
    """What a shard of a large scatter tells its run, now and then."""

    calls_done: int
    calls_running: int
    calls_failed: int
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


class Run(AsksPeople):
    """The base of every choreography's workflow."""

    def __init__(self) -> None:
        super().__init__()
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
        self._asks = False
        self._under_way = 0
        self._ending = False
        self._shard_results: dict[str, list[bytes]] = {}
        self._shard_reports: dict[str, ShardReport] = {}
        self._carried = Carried(
            began=workflow.now().timestamp(), pages=PagesKept(workflow_id=f"{workflow.info().workflow_id}/ledger")
        )
        self._newer_pages = b""
        self.ledger = Ledger(self._carried.began)

    @staticmethod
    def current() -> Run:
        """Return the run whose code is executing."""
        run = workflow.instance()
        assert isinstance(run, Run)
        return run

    def take_up(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """Take what an earlier run left, and return the inputs of the program."""
        carried, older, self._newer_pages, inputs = taken_along(payloads)
        if carried is not None:
            self._carried = carried
            self._calls_done, self._usage = carried.calls_done, carried.usage
            self.ledger = Ledger(carried.began, older + self._newer_pages)
            self.ask_again(carried.asked)
        self.ledger.keep_timers()
        return inputs

    @property
    def first_step(self) -> str:
        """Where the program's steps are: those of a program that began afresh have names of their own."""
        return "" if self._carried.program == 1 else f"p{self._carried.program}"

    async def perform(self, program: Coroutine[Any, Any, T], inputs: Sequence[Any]) -> T:
        """Run the program to its end; on the way, where it is time, continue as new.

        Args:
            program: What the run is for.
            inputs: What it was given, for the next run.

        Raises:
            PathDiffers: The program does not come to where it was when it continued as new.
        """
        if self._carried.conversations:
            await self.keep_conversations()
        doing = asyncio.create_task(program)
        telling = asyncio.create_task(self.ledger.tell(), context=contextvars.Context())
        try:
            await workflow.wait_condition(
                lambda: doing.done() or self.ledger.difference is not None or self._may_continue()
            )
        except asyncio.CancelledError:
            doing.cancel()
            return await doing
        telling.cancel()
        if doing.done():
            self.ledger.ended()
        if self.ledger.difference is not None:
            raise PathDiffers(self.ledger.difference)
        if not doing.done():
            await self._continue(inputs)
        return doing.result()

    def begin_afresh(self, inputs: Sequence[Any]) -> NoReturn:
        """Continue as new with a program that has done nothing yet."""
        carried = Carried(
            program=self._carried.program + 1,
            began=workflow.now().timestamp(),
            conversations=self._keeper is not None,
            calls_done=self._calls_done,
            usage=self._usage,
            pages=PagesKept(workflow_id=self._carried.pages.workflow_id),
        )
        workflow.continue_as_new(args=to_take_along(carried, b"", inputs))

    async def _continue(self, inputs: Sequence[Any]) -> NoReturn:
        self._ending = True
        self.people.end()
        newer, kept = self._newer_pages + self.ledger.page(), self._carried.pages
        if kept.size + len(newer) > LEDGER_BYTES:
            raise LedgerFull(
                f"the run has to continue as new, and would have to remember {kept.size + len(newer):,} bytes of "
                f"results (compressed); {LEDGER_BYTES:,} is the most. Return continue_with(…) now and then, which "
                "begins afresh, or have results written into the workspace and return their paths."
            )
        if len(newer) + len(json.dumps(inputs, default=repr)) > INPUT_BYTES:
            await self.keep_conversations()  # who ends them ends the workflow that keeps the pages, too
            for start in range(0, len(newer), PAGE_BYTES):
                kept = await self._keep_page(kept, newer[start : start + PAGE_BYTES])
            newer = b""
        carried = self._carried.model_copy(
            update={"conversations": self._keeper is not None, "pages": kept, "asked": self.people.carried()}
        )
        workflow.continue_as_new(args=to_take_along(carried, newer, inputs))

    async def _keep_page(self, kept: PagesKept, page: bytes) -> PagesKept:
        await workflow.execute_local_activity(
            KEEP_PAGE_ACTIVITY,
            args=[kept, page, workflow.info().first_execution_run_id],
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
        )
        return kept.model_copy(update={"count": kept.count + 1, "size": kept.size + len(page)})

    def _may_continue(self) -> bool:
        """Whether it is time to continue as new, and nothing is under way that would be lost."""
        if self._under_way or self._asks or not self.is_long() or not self.ledger.has_news:
            return False
        if not self.people.can_be_carried:
            return False
        return workflow.all_handlers_finished()

    def is_long(self) -> bool:
        """Whether it is time to continue as new where nothing would be waited for."""
        info = workflow.info()
        return info.is_continue_as_new_suggested() or self.is_too_long()

    def is_too_long(self) -> bool:
        """Whether it is time to continue as new, whatever has to be waited for."""
        info = workflow.info()
        return (
            info.get_current_history_length() >= CONTINUE_AT_EVENTS
            or info.get_current_history_size() >= CONTINUE_AT_BYTES
        )

    @workflow.query(description="Calls done and running, what the run waits for, and what it has used.")
    def progress(self) -> Progress:
        """Tell how far the run is."""
        shards = self._shard_reports.values()
        return Progress(
            calls_done=self._calls_done + sum(shard.calls_done for shard in shards),
            calls_running=sum(len(queue.pending) for queue in self._queues.values())
            + sum(shard.calls_running for shard in shards),
            waits_for=list(
                dict.fromkeys(
                    [*self._waits(), *(wait for shard in shards for wait in shard.waits_for), *self.people.waits()]
                )
            ),
            usage=sum((shard.usage for shard in shards), self._usage + self.people.usage),
        )

    @asynccontextmanager
    async def calling(self, queue_name: str) -> AsyncIterator[None]:
        """Be in flight: wait for a place among the run's calls, and be watched while it lasts."""
        async with self._in_flight, self.busy():
            self._calls += 1
            number = self._calls
            queue = self._queues.setdefault(queue_name, _Queue())
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch(), context=contextvars.Context())
            queue.pending[number] = workflow.now()
            try:
                yield
            except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
                self._end_call(queue, number)
                raise
            queue.found(workflow.now(), unserved=False)
            self._end_call(queue, number)

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """Have something under way that would be lost if the run continued as new."""
        await self._not_when_ending()
        self._under_way += 1
        try:
            yield
        except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
            self._under_way -= 1
            raise
        self._under_way -= 1

    @workflow.signal(description="Results of a shard that are too many to be kept until it ends.")
    def shard_results(self, step: str, packed: bytes) -> None:
        """Take results of a shard."""
        self._shard_results.setdefault(step, []).append(packed)

    @workflow.signal(description="How far a shard is.")
    def shard_reports(self, step: str, report: ShardReport) -> None:
        """Note how far a shard is."""
        self._shard_reports[step] = report

    def shard_ended(self, step: str) -> bytes:
        """Return the results that a shard has sent, and forget what it reported."""
        self._shard_reports.pop(step, None)
        return b"".join(self._shard_results.pop(step, ()))

    async def _not_when_ending(self) -> None:
        """Wait if the run is about to continue as new; the call is made by the next run."""
        self._ending = self._ending or (self.is_too_long() if self._under_way else self.is_long())
        if self._ending:
            await workflow.wait_condition(lambda: not self.people.can_be_carried)

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
            with inside(None):
                await workflow.sleep(0.01)

    async def keep_conversations(self) -> None:
        """See to it, before the first of them is begun, that the run's conversations end when the run has ended."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._start_keeper(), context=contextvars.Context())
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
        """Add a call that has ended well, and what it used, to the run's account."""
        self._calls_done += 1
        if usage.model_calls:
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
        self._asks = True
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
        self._asks = False
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
        asks = in_markdown(self.people.questions)
        workflow.set_current_details("\n".join([*(f"**Waits:** {wait}\n" for wait in waits), *asks]))

    def _questions_changed(self) -> None:
        self._show_waits()


def _advice(name: str, queue: _Queue) -> str:
    return (
        f"nobody serves the task queue {name}: {len(queue.pending)} calls wait in it. "
        f"Start a worker for it: python worker.py --serve {name}"
    )
