"""A run: a choreography's program at work, composed of the parts that it needs.

Each part has its own state and takes its own signals, queries and updates. What is left here is the run's way: it
begins, perhaps where an earlier run of its chain was, performs its program, and ends or continues as new.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import is_cancelled_exception

from activities.border.washing import said
from activities.contract.pages import PagesKept
from workflows.engine.calls import Calls
from workflows.engine.continuation import CarryOver, Resumed, inputs_to_resume, with_room
from workflows.engine.display import Display
from workflows.engine.fork import ForkPoint
from workflows.engine.handlers import serving_handlers_of
from workflows.engine.journal import Journal
from workflows.engine.lifetime import Lifetime
from workflows.engine.model_waits import ModelWaits
from workflows.engine.options import RunOptions
from workflows.engine.parts import Parts
from workflows.engine.pool import Pool
from workflows.engine.sdk import STOPPED
from workflows.engine.timers import keep_timers
from workflows.engine.traces import Traces
from workflows.engine.unawaited import Unawaited
from workflows.errors import ForkRefused, ProgramChanged
from workflows.memory.positions import Positions
from workflows.people.people import People
from workflows.people.question import Question
from workflows.shown.board import Board
from workflows.shown.changed import CHANGED, HOW_TO_GO_ON
from workflows.shown.listing import Listed, Listing
from workflows.shown.progress import estimated_in_words, tokens_of
from workflows.shown.reading import failed_items, is_under_way
from workflows.shown.webhook import Webhook
from workflows.steering.admission import Admission
from workflows.steering.shared import SharedBudgets
from workflows.steering.steering import Steering
from workflows.tree.scope import Scope

T = TypeVar("T")

_WHY = 2_000
"""Characters of why a run has failed that a webhook is told."""


@serving_handlers_of(
    admission=Admission,
    display=Display,
    models=ModelWaits,
    people=People,
    steering=Steering,
    shared=SharedBudgets,
    parts=Parts,
)
class Run:
    """The base of every choreography's workflow.

    Attributes:
        options: What whoever started it has decided.
        given: What the program was given, as it came.
        started_with: Returns all inputs of the program, and last the run's options.
        main: The root of the tree that says what goes on.
        board: What its calls have come to.
        people: Its questions to people, and the calls that wait for them.
        steering: Whether it is paused, and its budget.
        shared: What it borrows of budgets that it shares with other runs.
        admission: Where its calls wait while it is paused, or its budget has no room for them.
        parts: The shards that work for it.
        calls: Those that are in the queues.
        journal: What has happened to its program.
        traces: Who tells of its parts, where somebody wants to know.
        unawaited: What its program has begun and not awaited.
        lifetime: Whether it is time to continue as new.
        display: What it tells of itself.
        webhook: Whom it tells of what happens.
    """

    def __init__(self, resumed: Resumed, options: RunOptions) -> None:
        """Begin a run, or go on with one: later is too late, as it may be told something with its first task.

        Args:
            resumed: What it begins with.
            options: What whoever started it has decided.
        """
        carried = resumed.carried or CarryOver(
            began=workflow.now().timestamp(), pages=PagesKept(workflow_id=f"{workflow.info().workflow_id}/journal")
        )
        self.options = options
        self.given = resumed.inputs
        self.started_with: Callable[[], Sequence[RawValue]] = tuple
        self.board = Board(carried.accounts)
        # The steps of a program that began afresh have names of their own.
        self.main = Scope("" if carried.program == 1 else f"p{carried.program}")
        self.people = People(carried.people)
        self.steering = Steering(carried.steering, options.budget, options.on_budget, options.budgets)
        self.shared = self.steering.shared
        self.admission = self.steering.admission
        self.parts = Parts(self.board, self.steering)
        self.lifetime = Lifetime(lambda: self.people.can_be_carried)
        self.models = ModelWaits(lambda step: is_under_way(self.main, step))
        self.journal = Journal(carried.began, resumed.older + resumed.newer)
        self.main.tally.watch = self.traces = Traces(self.journal, carried.trace)
        self.calls = Calls(
            self.board,
            self.steering,
            self.models,
            Positions(carried.positions),
            self.traces,
            options.priority,
            self.lifetime.busy,
        )
        self.unawaited = Unawaited()
        self.display = Display(
            self.main,
            self.board,
            self.calls,
            self.models,
            waits=[
                self.steering.held_because,
                self.models.in_words,
                self.board.parts_wait_for,
                self.people.waits,
            ],
            notes=[
                self.steering.notes,
                lambda: estimated_in_words(self.board.usage()),
                lambda: [f"tags: {', '.join(options.listed_tags)}"] if options.listed_tags else [],
            ],
            paused=self.steering.paused,
            budget=self.steering.budget,
        )
        self.webhook = Webhook(options.webhook)
        self.people.on_asked = self._tell_of_question
        self.steering.on_held = self._tell_of_budget
        self._listing = Listing(self.display.word, self._listed)
        self._keeping_listed: asyncio.Task[None] | None = None
        self._changed: str | None = None
        self._carried = carried
        self._newer_pages = resumed.newer

    @staticmethod
    def current() -> Run:
        """Return the run whose code is executing."""
        run = workflow.instance()
        assert isinstance(run, Run)
        return run

    def cast(self, pools: Sequence[Pool]) -> None:
        """Note which instances the roles have."""
        self.display.instances = {pool.role: len(pool) for pool in pools}

    async def perform(self, program: Coroutine[Any, Any, T]) -> T:
        """Run the program to its end; on the way, where it is time, continue as new.

        Args:
            program: What the run is for.

        Raises:
            ForkRefused: It is a fork, and does not come to where the run was that it forks.
            NotAwaited: It has ended and never awaited something that it began.
            ProgramChanged: It can't go on with what has happened so far, in this run or before it continued as new.
            BudgetExceeded: The budget is spent, and the run is to fail then.
        """
        keep_timers(self.journal)
        self.unawaited.watch_tasks()
        doing = asyncio.create_task(program)
        telling = asyncio.create_task(self.journal.tell(), context=contextvars.Context())
        try:
            await workflow.wait_condition(
                lambda: (
                    doing.done()
                    or self._changed is not None
                    or self.journal.difference is not None
                    or self.steering.must_fail
                    or (self.journal.has_news and self.lifetime.may_continue())
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
            if self.steering.must_fail:
                raise self.steering.budget_exceeded()
            await self._continue_as_new()
        result = doing.result()
        self.unawaited.check()
        return result

    async def wait_for_its_program(self, difference: str) -> NoReturn:
        """Never go on: the run's workflow task fails, and is tried again until its program is the one that it was.

        Args:
            difference: Which step expected what, and found what.
        """
        self._changed = f"{CHANGED}{difference}. {HOW_TO_GO_ON}"
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nothing is to be waited for here")

    def begin_again_with(self, inputs: Sequence[Any]) -> NoReturn:
        """Continue as new with a program that has done nothing yet."""
        positions = self.calls.positions.all()
        carried = CarryOver(
            program=self._carried.program + 1,
            began=workflow.now().timestamp(),
            positions=positions,
            stood=positions,
            accounts=self.board.accounts,
            steering=self.steering.state,
            trace=self.traces.begun,
            pages=PagesKept(workflow_id=self._carried.pages.workflow_id),
        )
        workflow.continue_as_new(args=inputs_to_resume(carried, b"", inputs))

    async def settling_up(self, performing: Coroutine[Any, Any, T]) -> T:
        """Perform, and give back what is left of what was borrowed: also at an error, or where it continues as new."""
        try:
            result = await performing
        except (*STOPPED, workflow.ContinueAsNewError):
            await asyncio.shield(asyncio.ensure_future(self.shared.end()))
            raise
        await self.shared.end()
        return result

    @contextmanager
    def listed(self) -> Iterator[None]:
        """Keep what the server's list says of the run up to date, to its end."""
        self._keeping_listed = asyncio.create_task(self._listing.keep())
        try:
            yield
        except STOPPED as error:
            self.board.ended = "cancelled" if is_cancelled_exception(error) else "failed"
            self.traces.run_ends(self.board.ended)
            self._listing.tell()
            raise
        self.board.ended = "done"
        self.traces.run_ends(self.board.ended)
        self._listing.tell()

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """Tell the run's webhook how it ends, and hand over all that it is told before."""
        try:
            yield
        except workflow.ContinueAsNewError:
            await self.webhook.flush()
            raise
        except STOPPED as error:
            how = "cancelled" if is_cancelled_exception(error) else "failed"
            self.webhook.tell("run_ended", status=how, why=said(error, _WHY))
            await self.webhook.flush()
            raise
        self.webhook.tell("run_ended", status="done")
        await self.webhook.flush()

    def _tell_of_question(self, question: Question) -> None:
        told = {"person": question.person, "method": question.method, "text": question.text}
        self.webhook.tell("question_asked", question=question.id, **told, command=question.command)

    def _tell_of_budget(self, what: str, sentence: str) -> None:
        if what != "paused":
            self.webhook.tell("budget_reached", limit=what, why=sentence)

    @workflow.query(description="What a fork of the run begins with: all that had happened when it began a step.")
    def fork_point(self, step: str) -> ForkPoint:
        """Tell what there was before a step, by its id."""
        happened = self.journal.before(step)
        if happened is None:
            raise ForkRefused(
                f"The run has begun no step '{step}'. 'python -m console show {workflow.info().workflow_id}' lists its "
                "steps; those of a divided scatter are begun together, and have the scatter's number."
            )
        inputs = [json.loads(value.payload.data) for value in self.started_with()]
        return ForkPoint.of(self._carried, inputs, happened)

    async def _continue_as_new(self) -> NoReturn:
        self.lifetime.end()
        self.people.take_no_answers()
        pages, newer = await with_room(self._carried.pages, self._newer_pages + self.journal.page(), self.given)
        changed = {
            "positions": self.calls.positions.all(),
            "accounts": self.board.accounts,
            "pages": pages,
            "people": self.people.state(),
            "steering": self.steering.state,
            "trace": self.traces.begun,
            "forked": False,
        }
        carried = self._carried.model_copy(update=changed)
        workflow.continue_as_new(args=inputs_to_resume(carried, newer, self.given))

    def _on_another_path(self, difference: str) -> Exception:
        """Return the error for a program that does not come to where it was, or where the run was that it forks."""
        if self._carried.forked:
            return ForkRefused(
                f"{difference}. What comes before the step of a fork has to happen as it did: fork at an earlier step, "
                "or with the inputs and the program that the run had."
            )
        return ProgramChanged(f"{CHANGED}{difference}. {HOW_TO_GO_ON}")

    def _listed(self) -> Listed:
        usage = self.board.usage()
        return Listed(
            choreography=workflow.info().workflow_type,
            status=self.display.word(),
            roles=list(self.display.instances),
            cost_usd=usage.cost_usd,
            tokens=tokens_of(usage),
            failed_items=failed_items(self.main, self.board),
            tags=self.options.listed_tags,
        )
