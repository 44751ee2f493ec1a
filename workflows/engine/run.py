"""What every run has, whatever its choreography: pools, limits, what it shows of itself, and how it goes on."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, cast

from temporalio import workflow
from temporalio.common import Priority, RawValue, RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception

from activities.contract.conversations import Owner
from activities.contract.envelope import Position, Receipt
from activities.contract.names import KEEP_PAGE_ACTIVITY, team_of
from activities.contract.pages import PagesKept
from workflows.engine.concurrency import ConcurrencyLimit
from workflows.engine.continuation import CarryOver, taken_along, to_take_along
from workflows.engine.fork import ForkPoint
from workflows.engine.journal import Journal
from workflows.engine.model_waits import ModelWaits
from workflows.engine.options import RunOptions
from workflows.engine.packing import text_of
from workflows.engine.pool import Pool
from workflows.engine.unawaited import Unawaited
from workflows.errors import ForkRefused, InputInvalid, JournalFull, NoSuchPart, ProgramChanged
from workflows.people.people import AsksPeople
from workflows.shown.board import Board, CloseStatus, Report
from workflows.shown.changed import CHANGED, HOW_TO_GO_ON
from workflows.shown.listing import Listed, Listing, Word
from workflows.shown.progress import Progress, estimated_in_words, tokens_of
from workflows.shown.reading import failed_items, is_under_way, progress, status
from workflows.steering.budget import Purse
from workflows.steering.steering import Steered
from workflows.tree.current import inside
from workflows.tree.scope import CallScope, Scope

CALLS_IN_FLIGHT = 45
"""Calls that one workflow has in the queues at a time. A default server fails a workflow task during which more than
100 events arrive, and each answer is two of them; the rest is room for signals and timers."""

TASK_BYTES = 3 * 1024 * 1024
"""Bytes of arguments sent in one workflow task. The server terminates a run whose commands exceed 4 MB."""

CONTINUE_AT_EVENTS = 10_000
"""Events at which a run begins no more calls, and continues as new when those in flight have ended. The server suggests
it at 4,096, from which on the run does so as soon as no call is in flight; it ends a workflow at 51,200."""

CONTINUE_AT_BYTES = 8_000_000
"""Bytes of history at which it does so; the server suggests it at 4 MB, and ends a workflow at 50 MB."""

INPUT_BYTES = 1_000_000
"""Bytes of inputs and journal that a run carries in its history when it continues as new; the server takes 2 MB.
Beyond, the journal's pages are kept outside of it."""

PAGE_BYTES = 1_500_000
"""Bytes of one page that is kept so."""

JOURNAL_BYTES = 40_000_000
"""Bytes of all pages, compressed; a server ends the workflow that keeps them at 50 MB."""

ID_BYTES = 800
"""Bytes of a run's workflow id. The server takes 1,000, and those of conversations and shards begin with the run's."""

T = TypeVar("T")


@dataclass
class InFlight:
    """A call that is under way; whoever makes it notes how it ends, if not well."""

    outcome: CloseStatus = "done"
    receipt: Receipt = field(default_factory=Receipt)


class Run(AsksPeople, Steered):
    """The base of every choreography's workflow."""

    def __init__(self) -> None:
        super().__init__()
        self.options = RunOptions()
        self.given: Sequence[Any] = ()
        """What the program was given, as it came."""
        self.inputs: dict[str, Any] = {}
        self.refusal: FailureError | None = None
        """Why it can't begin with what it was given."""
        self.pools: list[Pool] = []
        self.board = Board()
        self.main = Scope()
        """The root of the tree that says what goes on."""
        self.listing = Listing(self._word, self._listed)
        self.unserved: frozenset[str] = frozenset()
        """Queues that nobody serves, as far as the worker knows: nothing that the run does depends on it."""
        self._queued: Counter[str] = Counter()
        self._models = ModelWaits()
        self._limits: defaultdict[str, ConcurrencyLimit] = defaultdict(lambda: ConcurrencyLimit(CALLS_IN_FLIGHT))
        self._in_flight = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._under_way = 0
        self._ending = False
        self._changed: str | None = None
        self.unawaited = Unawaited()
        self._task_at = -1
        self._task_bytes = 0
        self.positions: dict[str, Position] = {}
        self._telling: asyncio.Task[None] | None = None
        self._shard_results: dict[str, list[bytes]] = {}
        self._carried = CarryOver(
            began=workflow.now().timestamp(), pages=PagesKept(workflow_id=f"{workflow.info().workflow_id}/journal")
        )
        self._newer_pages = b""
        self.started_with: Callable[[], Sequence[RawValue]] = tuple
        """Returns all inputs of the program, and last the run's options."""
        self.journal = Journal(self._carried.began)

    @staticmethod
    def current() -> Run:
        """Return the run whose code is executing."""
        run = workflow.instance()
        assert isinstance(run, Run)
        return run

    def take_up(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """Take what an earlier run left, and return the inputs of the program.

        Raises:
            InputInvalid: The run's workflow id is longer than it may be.
        """
        if len(workflow.info().workflow_id.encode()) > ID_BYTES:
            raise InputInvalid(
                f"the workflow id has {len(workflow.info().workflow_id.encode()):,} bytes; {ID_BYTES} is the most, as "
                "those of its conversations and shards are made from it. Start the run under a shorter one."
            )
        carried, older, self._newer_pages, inputs = taken_along(payloads)
        if carried is not None:
            self._carried = carried
            self.board = Board(carried.accounts)
            # The steps of a program that began afresh have names of their own.
            self.main = Scope("" if carried.program == 1 else f"p{carried.program}")
            self.positions = carried.positions
            self.steering = carried.steering
            self.journal = Journal(carried.began, older + self._newer_pages)
        self.begin_asking(carried.asked if carried else None)
        self.journal.keep_timers()
        self.unawaited.watch_tasks()
        return inputs

    async def perform(self, program: Coroutine[Any, Any, T], inputs: Sequence[Any]) -> T:
        """Run the program to its end; on the way, where it is time, continue as new.

        Args:
            program: What the run is for.
            inputs: What it was given, for the next run.

        Raises:
            ForkRefused: It is a fork, and does not come to where the run was that it forks.
            NotAwaited: It has ended and never awaited something that it began.
            ProgramChanged: It can't go on with what has happened so far, in this run or before it continued as new.
            BudgetExceeded: The budget is spent, and the run is to fail then.
        """
        doing = asyncio.create_task(program)
        telling = asyncio.create_task(self.journal.tell(), context=contextvars.Context())
        try:
            await workflow.wait_condition(
                lambda: (
                    doing.done()
                    or self._changed is not None
                    or self.journal.difference is not None
                    or self.has_to_fail_for_its_budget
                    or self._may_continue()
                )
            )
        except asyncio.CancelledError:
            doing.cancel()
            return await doing
        telling.cancel()
        if self._changed is not None:
            raise ProgramChanged(self._changed)
        if doing.done():
            self.journal.ended()
        if self.journal.difference is not None:
            raise self._on_another_path(self.journal.difference)
        if not doing.done():
            if self.has_to_fail_for_its_budget:
                raise self.budget_exceeded()
            await self._continue(inputs)
        result = doing.result()
        self.unawaited.check()
        return result

    def _on_another_path(self, difference: str) -> Exception:
        """Return the error for a program that does not come to where it was, or where the run was that it forks."""
        if self._carried.forked:
            return ForkRefused(
                f"{difference}. What comes before the step of a fork has to happen as it did: fork at an earlier step, "
                "or with the inputs and the program that the run had."
            )
        return ProgramChanged(f"{CHANGED}{difference}. {HOW_TO_GO_ON}")

    async def wait_for_its_program(self, difference: str) -> NoReturn:
        """Never go on: the run's workflow task fails, and is tried again until its program is the one that it was.

        Args:
            difference: Which step expected what, and found what.
        """
        self._changed = f"{CHANGED}{difference}. {HOW_TO_GO_ON}"
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing is to be waited for here")

    def begin_afresh(self, inputs: Sequence[Any]) -> NoReturn:
        """Continue as new with a program that has done nothing yet."""
        carried = CarryOver(
            program=self._carried.program + 1,
            began=workflow.now().timestamp(),
            positions=self.positions,
            stood=self.positions,
            accounts=self.board.accounts,
            steering=self.steering,
            pages=PagesKept(workflow_id=self._carried.pages.workflow_id),
        )
        workflow.continue_as_new(args=to_take_along(carried, b"", inputs))

    async def _continue(self, inputs: Sequence[Any]) -> NoReturn:
        self._ending = True
        self.people.end()
        newer, kept = self._newer_pages + self.journal.page(), self._carried.pages
        if kept.size + len(newer) > JOURNAL_BYTES:
            raise JournalFull(
                f"the run has to continue as new, and would have to remember {kept.size + len(newer):,} bytes of "
                f"results (compressed); {JOURNAL_BYTES:,} is the most. Return continue_with(…) now and then, which "
                "begins afresh, or have results written into the workspace and return their paths."
            )
        if len(newer) + len(json.dumps(inputs, default=repr)) > INPUT_BYTES:
            for start in range(0, len(newer), PAGE_BYTES):
                kept = await self._keep_page(kept, newer[start : start + PAGE_BYTES])
            newer = b""
        changed = {
            "positions": self.positions,
            "accounts": self.board.accounts,
            "pages": kept,
            "asked": self.people.carried(),
            "steering": self.steering,
            "forked": False,
        }
        carried = self._carried.model_copy(update=changed)
        workflow.continue_as_new(args=to_take_along(carried, newer, inputs))

    async def _keep_page(self, kept: PagesKept, page: bytes) -> PagesKept:
        info = workflow.info()
        name: str = await workflow.execute_local_activity(
            KEEP_PAGE_ACTIVITY,
            args=[kept, page, Owner(workflow_id=info.workflow_id, run_id=info.first_execution_run_id)],
            result_type=str,
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
        )
        return kept.model_copy(update={"pages": [*kept.pages, name], "size": kept.size + len(page)})

    def _may_continue(self) -> bool:
        """Whether it is time to continue as new, and nothing is under way that would be lost."""
        if self._under_way or not self.is_long() or not self.journal.has_news:
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

    @workflow.query(description="What a fork of the run begins with: all that had happened when it began a step.")
    def fork_point(self, step: str) -> ForkPoint:
        """Tell what there was before a step, by its id."""
        happened = self.journal.before(step)
        if happened is None:
            raise ForkRefused(
                f"The run has begun no step '{step}'. 'python -m console show {workflow.info().workflow_id}' lists its "
                "steps; those of a divided scatter are begun together."
            )
        inputs = [json.loads(value.payload.data) for value in self.started_with()]
        return ForkPoint.of(self._carried, inputs, happened)

    @workflow.query(description="How far the run is, who does what, what it has used, and what it waits for.")
    def progress(self) -> Progress:
        """Tell how far the run is."""
        queued, team = self.board.queued(self._queued), team_of(workflow.info().task_queue)
        unserved = {queue: calls for queue, calls in queued.items() if calls and queue in self.unserved}
        waits = list(dict.fromkeys([*(nobody_serves(*one, team) for one in unserved.items()), *self.waits()]))
        moves = self._moves(self.board.calls_running - sum(unserved.values()))
        told = progress(
            self.main,
            self.board,
            choreography=workflow.info().workflow_type,
            status=status(self.board, waits, paused=self.paused, stuck=not moves),
            waits_for=waits,
            instances={pool.role: len(pool) for pool in self.pools},
        )
        told.notes = [
            *self.worth_knowing(),
            *estimated_in_words(told.usage),
            *([f"tags: {', '.join(self.options.tags)}"] if self.options.tags else []),
        ]
        return told

    def status(self) -> str:
        """Say in words how the run is."""
        return status(self.board, self.waits(), paused=self.paused, stuck=not self._moves(self.board.calls_running))

    def _word(self) -> Word:
        return cast("Word", self.status().partition(":")[0])

    def _moves(self, calls: int) -> bool:
        """Whether something goes on while the run waits.

        Args:
            calls: Those under way that somebody may be working on.
        """
        return calls > 0 and not self._models.hold_all

    def waits(self) -> list[str]:
        """Say what the run waits for, as far as it knows itself."""
        waits = [*self.held_because(), *self._models.waits(), *self.board.parts_wait_for(), *self.people.waits()]
        return list(dict.fromkeys(waits))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Be a run that its program goes on in, and at the end one that ended so or so, for whoever looks."""
        self._telling = asyncio.create_task(self.listing.keep())
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            self.board.ended = "cancelled" if is_cancelled_exception(error) else "failed"
            self.listing.tell()
            raise
        self.board.ended = "done"
        self.listing.tell()

    def _listed(self) -> Listed:
        usage = self.board.usage()
        return Listed(
            choreography=workflow.info().workflow_type,
            status=self._word(),
            roles=[pool.role for pool in self.pools],
            cost_usd=usage.cost_usd,
            tokens=tokens_of(usage),
            failed_items=failed_items(self.main, self.board),
            tags=self.options.tags,
        )

    @functools.cached_property
    def priority(self) -> Priority:
        """How the run's calls are to be dealt with where calls of several runs queue up: in turn with the others'."""
        given = workflow.info().priority
        return Priority(
            priority_key=self.options.priority or given.priority_key,
            fairness_key=given.fairness_key or workflow.info().first_execution_run_id,
            fairness_weight=given.fairness_weight,
        )

    @asynccontextmanager
    async def calling(self, queue: str, scope: CallScope) -> AsyncIterator[InFlight]:
        """Be in flight: wait for a place among the run's calls, and be watched and shown while it lasts."""
        async with self._limits[queue], self._in_flight, self.busy():
            # In its place already: else a pause would come too late for those that wait for one.
            await self.admit(scope.method)
            self.board.call_begins(scope, workflow.now())
            self._queued[queue] += 1
            call = InFlight()
            try:
                yield call
            except (Exception, asyncio.CancelledError) as error:  # a run that the collector closes can do nothing
                call.outcome = "failed" if isinstance(error, Exception) else "cancelled"
                self._end_call(queue, scope, call)
                raise
            self._end_call(queue, scope, call)

    def _end_call(self, queue: str, scope: CallScope, call: InFlight) -> None:
        done, now = call.outcome == "done", workflow.now()
        if done:
            self._limits[queue].observe(call.receipt.waited_s, call.receipt.took_s, now.timestamp())
        self._queued[queue] -= 1
        self._models.ends(scope.path, answered=done)
        self.board.call_ends(scope, call.outcome, call.receipt.usage)
        self.settle(scope.method, call.receipt.usage, well=done)

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

    @workflow.signal(description="Calls wait for a model that is not to be had; without a text, that is over.")
    def waits_for_model(self, about: str = "", step: str = "", text: str = "") -> None:
        """Note what calls wait for."""
        self._models.hears(about, step, text, under_way=is_under_way(self.main, step))

    @workflow.signal(description="Results of a shard that are too many to be kept until it ends.")
    def shard_results(self, step: str, packed: bytes) -> None:
        """Take results of a shard."""
        if step not in self.steering.purse.parts:
            raise NoSuchPart(f"no shard {step} is at work")
        text_of(packed)  # what can't be unpacked is refused here: later it would fail the scatter
        self._shard_results.setdefault(step, []).append(packed)

    @workflow.signal(description="How far a shard is.")
    def shard_reports(self, step: str, shard: str, report: Report, purse: Purse) -> None:
        """Note how far a shard of a scatter is."""
        if shard in self.steering.purse.parts:  # else it has ended, and a late report came after its last one
            self.board.part_reports(step, shard, report)
            self.part_reports(shard, purse)

    def shard_ended(self, step: str, shard: str) -> bytes:
        """Return the results that a shard has sent, and forget what it reported."""
        self.board.part_ends(shard)
        self.end_part(shard)
        return b"".join(self._shard_results.pop(shard, ()))

    async def _not_when_ending(self) -> None:
        """Wait if the run is about to continue as new; the call is made by the next run."""
        self._ending = self._ending or (self.is_too_long() if self._under_way else self.is_long())
        if self._ending:
            await workflow.wait_condition(lambda: not self.people.can_be_carried)

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


def nobody_serves(queue: str, calls: int, team: str = "") -> str:
    """Say that calls wait in a queue in vain, and what to do."""
    option = f"--team {team} " if team else ""
    return (
        f"nobody serves the task queue {queue}: {calls} calls wait in it. "
        f"Start a worker for it: python worker.py {option}--serve {queue.removeprefix(f'{team}.')}"
    )
