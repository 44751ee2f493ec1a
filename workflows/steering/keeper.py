"""The keeper of a budget that runs share, a workflow of its own: `budget/tenant/acme`. `shared` has the runs' end.

It lends shares as a run does to its shards, with two differences: it asks back what others need, as its borrowers may
wait for people for days; and it looks from time to time whether they are still there, as they may be terminated, reset
or deleted. It ends when it has no limits.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract.budgets import (
    LOOK_AT_BORROWERS_ACTIVITY,
    TELL_RUNS_ACTIVITY,
    Borrower,
    Ended,
    name_of_keeper,
)
from activities.contract.names import BUDGET
from workflows.errors import InputInvalid
from workflows.steering.admission import Standing, SteeringState
from workflows.steering.budget import DIVIDED, UNITS, Limit, Part, Purse, SharedBudget, how_much
from workflows.steering.messages import Messages
from workflows.steering.shared import Answer, Claim
from workflows.steering.shares import Lender

SPREAD = 2.0
"""Into how many times as many shares as there are borrowers what is free is divided."""

CONTINUE_AT_EVENTS = 10_000
"""Events after which a keeper continues as new."""

FIRST_LOOK_S = 2.0
"""Seconds after which a keeper looks for the first time whether its borrowers are there, if others wait for them."""

_REST_S = 20.0
"""The most seconds between two such looks."""

_AGAIN_AFTER_S = 5.0
"""Seconds after which runs are told of a new budget once more: the server's list is late by a moment."""

_ENDED_KNOWN = 500
"""How many of the borrowers that have ended are remembered, for what they sent may come late."""

_METHODS_KNOWN = 1_000

_FEW = 50
"""Borrowers up to which nobody looks whether they are still there, as long as nobody waits for what they have."""


class KeeperState(BaseModel):
    """What a keeper takes along when it continues as new.

    Attributes:
        purse: The budget, with a part for each borrower.
        wanting: Borrowers that wait, each with a call's method.
        ended: Borrowers that have ended of late.
        renews: When the budget begins anew; None if it does not.
    """

    purse: Purse = Purse()
    wanting: dict[str, str] = {}
    ended: list[str] = []
    renews: datetime | None = None


class BorrowerShown(BaseModel):
    """What one execution of a run, or of a shard, has of a budget.

    Attributes:
        workflow_id: The run.
        run_id: Its execution.
        spent: Since the budget was renewed, as it told last.
        lent: What it may spend beside, without asking.
        waits: Whether it waits for more.
    """

    workflow_id: str
    run_id: str
    spent: dict[Limit, float]
    lent: dict[Limit, float]
    waits: bool


class BudgetShown(BaseModel):
    """How a shared budget is."""

    name: str
    limits: dict[Limit, float]
    spent: dict[Limit, float]
    lent: dict[Limit, float]
    per: str | None
    renews: datetime | None
    borrowers: list[BorrowerShown]
    notes: list[str]


@workflow.defn(name=BUDGET, sandboxed=False)
class BudgetKeeper:
    """Keeps a budget, and lends shares of it."""

    @workflow.init
    def __init__(self, budget: Any = None, carried: Any = None) -> None:
        # Read here: where a person gives one input of two, the SDK reads neither by its type.
        limits = SharedBudget.model_validate(budget or {})
        self._state = KeeperState.model_validate(carried or {})
        self._per = limits.per
        if carried is None:
            self._state.purse.set_limits(limits)
            self._state.renews = _next_day() if limits.per else None
        self._name = name_of_keeper(workflow.info().workflow_id) or ""
        self._messages = Messages()
        self._suspects = False
        self._seen = _FEW
        """How many borrowers there were when they were looked at last."""
        self._told: dict[str, int] = {}
        """Of each borrower the request that was answered with why it gets nothing."""
        self._asked_back: dict[str, int] = {}
        """Who is not to be asked for now to give back what it does not need, since which request."""
        self._lender = _ToRuns(self)
        self._lender.wanting = self._state.wanting

    @workflow.run
    async def run(self, budget: Any = None, carried: Any = None) -> str:
        """Keep a budget until it has no limits.

        Args:
            budget: `{"usd": 50, "per": "day"}`.
            carried: What it brings along from before it continued as new.
        """
        if not self._name:
            raise InputInvalid("a budget is kept by a workflow with an id as budget/tenant/acme or budget/tag/nightly.")
        beside = [asyncio.create_task(self._renew_day_by_day()), asyncio.create_task(self._look_now_and_then())]
        if carried is None:
            beside.append(asyncio.create_task(self._tell_runs()))
        self._recheck()
        await workflow.wait_condition(lambda: not self._purse.limits or _is_long())
        for task in beside:
            task.cancel()
        # What is not sent by now would be lost, and with it what it lends.
        await workflow.wait_condition(lambda: workflow.all_handlers_finished() and self._messages.have_arrived)
        if self._purse.limits:
            left = self._state.model_copy(update={"wanting": self._lender.wanting})
            workflow.continue_as_new(args=[SharedBudget(per=self._per), left])
        return "no limits"

    @workflow.signal(description="What a run tells of what it borrows: a request, what it has spent, its end.")
    def claim(self, claim: Claim) -> None:
        """Take in what a borrower has spent and given back, and give it more if it wants that."""
        borrower, parts = claim.run_id, self._lender.parts
        if borrower in self._state.ended:
            return
        if borrower not in parts:
            # Of one workflow one execution goes on at a time.
            self._suspects = self._suspects or any(part.workflow_id == claim.workflow_id for part in parts.values())
            self._lender.open(borrower, claim.workflow_id)
            self._suspects = self._suspects or len(parts) >= 2 * self._seen
        wants = self._lender.request(borrower, claim.number, claim.wants or "", claim.purse)
        if wants and claim.wants is None:
            self._lender.wanting.pop(borrower, None)
        _warn(self._name, self._lender.report(borrower, claim.purse))
        if claim.ended:
            self._end(borrower)
        elif not self._purse.limits:  # this ends, and the run was not told that
            self._lender.tell_share(borrower)

    @workflow.update(description='Set limits: {"usd": 50, "tokens": …, "calls": …, "per": "day"}; null for none.')
    def set_budget(self, limits: Any = None) -> str:
        """Set those limits that are named; the others stay. Without any limit there is no budget any more."""
        budget = SharedBudget.model_validate(limits)
        if "per" in budget.model_fields_set:
            self._per = budget.per
            self._state.renews = _next_day() if budget.per else None
        told = self._purse.set_limits(budget)
        self._told.clear()
        self._asked_back.clear()
        self._lender.adjust()
        if self._purse.limits:
            self._ask_back()  # it may be less than before
        self._recheck()
        return f"{told} per {self._per}" if self._per and self._purse.limits else told

    @set_budget.validator
    def _refuse_budget(self, limits: Any = None) -> None:
        SharedBudget.given(limits)

    @workflow.query(description="How the budget is: limits, what is spent and lent, and who borrows.")
    def budget(self) -> BudgetShown:
        """Tell how the budget is."""
        now, parts = workflow.now(), self._lender.parts
        return BudgetShown(
            name=self._name,
            limits=self._purse.limits,
            spent=self._spent(),
            lent={limit: sum(part.unspent(limit) for part in parts.values()) for limit in self._purse.limits},
            per=self._per,
            renews=self._state.renews,
            borrowers=[
                BorrowerShown(
                    workflow_id=part.workflow_id,
                    run_id=run_id,
                    spent={limit: part.spent[limit] for limit in DIVIDED},
                    lent={limit: part.unspent(limit) for limit in self._purse.limits},
                    waits=run_id in self._lender.wanting,
                )
                for run_id, part in parts.items()
            ],
            notes=self._purse.notes(now),
        )

    @property
    def purse(self) -> Purse:
        """The budget."""
        return self._state.purse

    @property
    def _purse(self) -> Purse:
        return self._state.purse

    def _spent(self) -> dict[Limit, float]:
        spent = self._purse.spent_in_all()
        return {limit: spent[limit] for limit in self._purse.limits}

    def recheck(self) -> None:
        """Do what can be done for those that wait."""
        self._recheck()

    def _recheck(self) -> None:
        self._lender.lend_more()
        for borrower, method in self._lender.wanting.items():
            if (limit := self._purse.refuses(method, workflow.now())) is not None:
                self._say_why_not(borrower, limit)
        if self._waits_for_others():
            self._ask_back()
        self._purse.forget_methods(_METHODS_KNOWN)
        workflow.set_current_details(self._in_words())

    def _in_words(self) -> str:
        spent = self._spent()
        told = [how_much(limit, spent[limit], amount) for limit, amount in self._purse.limits.items()]
        renews = [f"Renews at {self._state.renews:%Y-%m-%d %H:%M} UTC."] if self._state.renews else []
        waiting = [f"{self._lender.parts[one].workflow_id} waits." for one in list(self._lender.wanting)[:20]]
        return "\n\n".join([f"**{self._name}**: {', '.join(told) or 'no limits'}.", *renews, *waiting])

    def tell(self, borrower: str, answer: Answer) -> None:
        """Tell a borrower something."""
        part = self._lender.parts[borrower]
        # By its run id: who goes on under the workflow id after a reset was lent nothing.
        handle = workflow.get_external_workflow_handle(part.workflow_id, run_id=borrower)
        self._messages.send(handle, "shared_budget", self._name, answer, lost=self._suspect, after_others_to=borrower)

    def answer(self, borrower: str, *, refuses: Limit | None = None, lent: bool = False) -> Answer:
        """Return an answer that gives nothing and takes nothing."""
        standing = Standing(
            limits=self._purse.limits, spent=self._spent(), renews=self._state.renews, refuses=refuses, lent=lent
        )
        return Answer(request=self._lender.parts[borrower].request, standing=standing)

    def _say_why_not(self, borrower: str, limit: Limit | None) -> None:
        """Tell a borrower once that there is nothing left, or nothing for now."""
        request = self._lender.parts[borrower].request
        if self._told.get(borrower) != request:
            self._told[borrower] = request
            self.tell(borrower, self.answer(borrower, refuses=limit, lent=limit is None))

    def _ask_back(self) -> None:
        """Ask those that have something left to give back what they do not need; each once between two looks."""
        for borrower, part in self._lender.parts.items():
            gave = borrower in self._asked_back or borrower in self._lender.wanting
            if not gave and self._has_left(part):
                self._asked_back[borrower] = part.request
                self.tell(borrower, self.answer(borrower).model_copy(update={"give_back": True}))

    def lends(self, borrower: str) -> None:
        """Note that a borrower has got something: while others wait it gets the time to make use of it."""
        self._asked_back.pop(borrower, None)
        self._told.pop(borrower, None)
        if self._lender.wanting:
            self._asked_back[borrower] = self._lender.parts[borrower].request

    def _has_left(self, part: Part) -> bool:
        return any(part.unspent(limit) > 0 for limit in self._purse.limits)

    def _suspect(self) -> None:
        self._suspects = True

    def _end(self, borrower: str) -> None:
        self._state.ended = [*self._state.ended, borrower][-_ENDED_KNOWN:]
        self._asked_back.pop(borrower, None)
        self._told.pop(borrower, None)
        self._lender.end(borrower)

    async def _renew_day_by_day(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self._state.renews is not None)
            assert self._state.renews is not None
            await workflow.sleep(max(self._state.renews - workflow.now(), timedelta(seconds=1)))
            if self._state.renews is not None and self._state.renews <= workflow.now():
                self._renew()

    def _renew(self) -> None:
        self._purse.renew()
        self._state.renews = _next_day()
        self._suspects = bool(self._lender.parts)
        self._told.clear()
        self._recheck()

    async def _look_now_and_then(self) -> None:
        """Look whether borrowers are still there while others wait for what they have."""
        pause = FIRST_LOOK_S
        while True:
            await workflow.wait_condition(self._must_look)
            if not self._suspects:
                await workflow.sleep(pause)
            pause = min(pause * 1.5, _REST_S) if self._lender.wanting else FIRST_LOOK_S
            if self._must_look():
                await self._look()

    def _must_look(self) -> bool:
        if self._suspects:
            return True
        return self._waits_for_others() and any(self._has_left(part) for part in self._lender.parts.values())

    def _waits_for_others(self) -> bool:
        """Whether anybody waits for what was lent to others, and not for the budget's being raised or renewed."""
        now = workflow.now()
        return any(self._purse.refuses(method, now) is None for method in self._lender.wanting.values())

    async def _look(self) -> None:
        self._suspects = False
        asked = [Borrower(workflow_id=part.workflow_id, run_id=run) for run, part in self._lender.parts.items()]
        for ended in await _locally(LOOK_AT_BORROWERS_ACTIVITY, list[Ended], self._name, asked):
            if ended.run_id in self._lender.parts:
                if ended.spent is not None:
                    last = Purse(spent={**dict.fromkeys(UNITS, 0.0), **ended.spent})
                    _warn(self._name, self._lender.report(ended.run_id, last))
                self._end(ended.run_id)
        self._seen = max(len(self._lender.parts), _FEW)
        self._asked_back.clear()
        if self._waits_for_others():
            self._ask_back()
        for borrower, method in self._lender.wanting.items():
            self._say_why_not(borrower, self._purse.refuses(method, workflow.now()))

    async def _tell_runs(self) -> None:
        await _locally(TELL_RUNS_ACTIVITY, int, self._name)
        await workflow.sleep(_AGAIN_AFTER_S)
        await _locally(TELL_RUNS_ACTIVITY, int, self._name)


class _ToRuns(Lender):
    """Lends to runs, which are no parts of the keeper, and learn beside how the whole budget is."""

    def __init__(self, keeper: BudgetKeeper) -> None:
        super().__init__(SteeringState(purse=keeper.purse), keeper.recheck, SPREAD)
        self._keeper = keeper

    def tell_share(self, part: str) -> None:
        answer = self._keeper.answer(part)
        self._keeper.lends(part)
        self._keeper.tell(part, answer.model_copy(update={"limits": self.limits_of(part), "methods": self.costs()}))


async def _locally(activity: str, result: type[Any], *arguments: Any) -> Any:
    return await workflow.execute_local_activity(
        activity,
        args=arguments,
        result_type=result,
        start_to_close_timeout=timedelta(seconds=60),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
    )


def _next_day() -> datetime:
    return datetime.combine(workflow.now().astimezone(UTC).date() + timedelta(days=1), datetime.min.time(), UTC)


def _is_long() -> bool:
    return workflow.info().get_current_history_length() >= CONTINUE_AT_EVENTS


def _warn(name: str, warnings: list[str]) -> None:
    for warning in warnings:
        workflow.logger.warning("%s", warning.replace("budget", f"budget {name}", 1))
