"""What people do to a run while it goes on: pause it, resume it, give it another budget.

A call passes through `admit` before it starts. There it waits while the run is paused, and while its budget has no
room for it. Calls that run are let end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from temporalio import workflow

from activities.contract.usage import Usage
from workflows.errors import BudgetExceeded, InputInvalid
from workflows.shown.progress import Limited
from workflows.steering.admission import Admission, SteeringState
from workflows.steering.budget import Budget, Limit, Purse
from workflows.steering.shared import SharedBudgets
from workflows.steering.shares import Lender

OnBudget = Literal["pause", "fail"]

_UPDATE = "temporal workflow update execute --workflow-id {id} --name {name}"


class Steering:
    """What a run has for being steered.

    Attributes:
        state: What outlives the run's continuing as new.
        admission: Where calls wait.
        shares: What it lends its parts of its budget.
    """

    def __init__(self, state: SteeringState, budget: Budget, on_budget: OnBudget, shared: Sequence[str] = ()) -> None:
        """Begin to steer a run.

        Args:
            state: What the run brings along from before it continued as new.
            budget: What the run's options say; it counts for a run that brings no budget along.
            on_budget: What the run does at a limit.
            shared: The budgets that there may be for its tenant and tags.
        """
        if not state.begun:
            state.begun = True
            state.purse.set_limits(budget)
        self.state = state
        self.shares = Lender(state, self._recheck)
        self.admission = Admission(state, self._recheck, lambda: self.shares.wanting.values())
        self.shared = SharedBudgets(state, self.admission, shared, self.shares.tell)
        self._on_budget = on_budget
        self.on_held: Callable[[str, str], None] = lambda what, sentence: None
        """Called when something begins to hold the run: with `paused` or a limit, and a sentence of it."""
        self._logged: dict[str, str] = {}
        """What held the run when it was looked at last."""

    @workflow.update(description="Make no new calls; those that run may end.")
    def pause(self) -> str:
        """Pause the run."""
        self.admission.hold()
        self.shares.tell("hold")
        return "paused: no new calls are made; those that run may end"

    @pause.validator
    def _refuse_pause(self) -> None:
        if self.state.paused_at is not None:
            raise InputInvalid(f"the run is paused already, since {_clock(self.state.paused_at)}.")

    @workflow.update(description="Go on after a pause.")
    def resume(self) -> str:
        """Let the run go on."""
        self.admission.go_on()
        self.shares.tell("go_on")
        return "resumed"

    @resume.validator
    def _refuse_resume(self) -> None:
        if self.state.paused_at is None:
            held = "; ".join(self.held_because())
            raise InputInvalid(f"the run is not paused{f', but waits: {held}' if held else ''}.")

    @workflow.update(description='Set limits: {"usd": 2, "tokens": …, "calls": …, "hours": …}; null for none.')
    def set_budget(self, limits: Any = None) -> str:
        """Set those limits of the budget that are named; the others stay."""
        told = self._purse.set_limits(Budget.model_validate(limits))
        self.shares.adjust()
        self._recheck()
        return told

    @set_budget.validator
    def _refuse_budget(self, limits: Any = None) -> None:
        if complaint := self._purse.refuse_limits(Budget.given(limits), workflow.now()):
            raise InputInvalid(complaint)

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start; `settle` it when it has ended."""
        await self.shared.known()
        await self.admission.admit(method)

    def left_for(self, method: str) -> dict[Limit, float]:
        """Return what is left for a call that was just admitted, by limit."""
        return self.admission.left_for(method)

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge what a call that was admitted has used, now that it has ended; `well` if it gave a result."""
        self.shared.call_ends()
        _warn(self.admission.settle(method, usage, well=well))

    def part_reports(self, part: str, purse: Purse) -> None:
        """Take in what a part that has not ended has spent so far."""
        _warn(self.shares.report(part, purse))

    @workflow.signal(description="A part of the run makes no calls for a budget that others share; or does again.")
    def part_is_held(self, part: str, reason: str) -> None:
        """Note why a part makes no calls; nothing while it does."""
        if part in self.shares.parts and reason:
            self.shares.held[part] = reason
        else:
            self.shares.held.pop(part, None)

    def paused(self) -> str | None:
        """Say in short why no calls are made: nothing more to be said where a person has paused the run."""
        said = self.admission.paused()
        return self.shared.paused() if said is None else said

    @property
    def must_fail(self) -> bool:
        """Whether the run was to fail at its limit, has reached it, and none of its calls is under way."""
        if self._on_budget != "fail" or self.state.paused_at is not None or self._purse.under_way:
            return False
        stuck = {*self.shares.wanting, *self.shares.held}
        return len(stuck) == len(self.shares.parts) and bool(self._refusals())

    def budget_exceeded(self) -> BudgetExceeded:
        """Return the error that says what was spent and done."""
        return BudgetExceeded(
            f"the budget is spent: {'; '.join(self._refusals())}. "
            f"Done: {self._purse.done(workflow.now())}. Start it again with a larger one, or without "
            "on_budget, which lets you raise it while the run waits."
        )

    def held_because(self) -> list[str]:
        """Say why calls are not admitted, a sentence each; nothing while they are."""
        return list(self._held().values())

    def notes(self) -> list[str]:
        """Say what a person should know of the budget before it holds the run."""
        notes = [] if self.admission.refusals() else self._purse.notes(workflow.now())
        return [*notes, *([] if self.shared.refusals() else self.shared.notes())]

    def budget(self) -> dict[str, Limited]:
        """Return how far the run is to each of its limits."""
        return self._purse.standing(workflow.now())

    @property
    def _purse(self) -> Purse:
        return self.state.purse

    def _refusals(self) -> list[str]:
        """Return what is spent and holds calls, of the run or of a part of it."""
        shared = {*self.shared.refusals().values(), *self.shares.held.values()}
        return [*self.admission.refusals().values(), *sorted(shared)]

    def _held(self) -> dict[str, str]:
        """Return what holds calls, each with a sentence."""
        held = {}
        if self.state.paused_at is not None:
            held["paused"] = f"paused since {_clock(self.state.paused_at)}; go on: {_command('resume')}"
        for limit, reason in self.admission.refusals().items():
            raised = self._purse.advice(limit)
            held[limit] = f"budget: {reason}; raise it: {_command('set_budget')} --input '{raised}'"
        return held | self.shared.held()

    def _recheck(self) -> None:
        """Do what can be done for those that wait, and log what holds the run when it begins to."""
        self.shares.lend_more()
        self.shared.ask_for_more()
        held = self._held()
        for what, sentence in held.items():
            if what not in self._logged:
                workflow.logger.warning("%s", sentence)
                self.on_held(what, sentence)
        self._logged = held


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        workflow.logger.warning("%s", warning)


def _command(name: str) -> str:
    return _UPDATE.format(id=workflow.info().workflow_id, name=name)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
