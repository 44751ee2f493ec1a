"""What people do to a run while it goes on: pause it, resume it, give it another budget.

A call passes through `admit` before it starts. There it waits while the run is paused, and while its budget has no
room for it. Calls that run are let end.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contract.text import explain
from activities.contract.usage import Usage
from workflows.errors import BudgetExceeded, InputInvalid
from workflows.steering.budget import Amount, Budget, Limit, Purse

OnBudget = Literal["pause", "fail"]

_UPDATE = "temporal workflow update execute --workflow-id {id} --name {name}"


class Steering(BaseModel):
    """What a run must not forget when it continues as new.

    Attributes:
        begun: Whether the purse has the limits of the run's options.
        paused_at: Since when it is paused; None while it goes on.
        purse: Its budget and what it has spent.
    """

    begun: bool = False
    paused_at: datetime | None = None
    purse: Purse = Purse()


class Steered:
    """What makes a run one that can be steered; a part of every run."""

    def __init__(self) -> None:
        self.steering = Steering(purse=Purse())
        self._on_budget: OnBudget = "pause"
        self._waiting: Counter[str] = Counter()
        """Calls that are not admitted yet, by their methods."""
        self._wanting: dict[str, str] = {}
        """Parts of the run whose share does not do for a call, with its method."""
        self._asks = 0
        """Questions of that kind that this one has asked, where it is a part itself."""
        self._asked = False
        """Whether the last one waits for its answer."""
        self._told: dict[str, str] = {}
        self._messages = _Messages()

    def under(self, budget: Budget, on_budget: OnBudget) -> None:
        """Put the run under a budget, unless it brings its own along from before it continued as new."""
        self._on_budget = on_budget
        if not self.steering.begun:
            self.steering.begun = True
            self.steering.purse.set_limits(budget)

    @workflow.update(description="Make no new calls; those that run may end.")
    def pause(self) -> str:
        """Pause the run."""
        self.hold()
        self._tell_parts("hold")
        return "paused: no new calls are made; those that run may end"

    @pause.validator
    def _refuse_pause(self) -> None:
        if self.steering.paused_at is not None:
            raise InputInvalid(f"the run is paused already, since {_clock(self.steering.paused_at)}.")

    @workflow.update(description="Go on after a pause.")
    def resume(self) -> str:
        """Let the run go on."""
        self.go_on()
        self._tell_parts("go_on")
        return "resumed"

    @resume.validator
    def _refuse_resume(self) -> None:
        if self.steering.paused_at is None:
            held = "; ".join(self.held_because())
            raise InputInvalid(f"the run is not paused{f', but waits: {held}' if held else ''}.")

    @workflow.update(description='Set limits: {"usd": 2, "tokens": …, "calls": …, "hours": …}; null for none.')
    def set_budget(self, limits: Any = None) -> str:
        """Set those limits of the budget that are named; the others stay."""
        purse = self.steering.purse
        told = purse.set_limits(Budget.model_validate(limits))
        for part in purse.parts:
            purse.adjust(part, workflow.now())
            self._tell_share(part)
        self._look()
        return told

    @set_budget.validator
    def _refuse_budget(self, limits: Any = None) -> None:
        try:
            budget = Budget.model_validate(limits)
        except ValidationError as error:
            known = ", ".join(Budget.model_fields)
            raise InputInvalid(f"the budget does not fit: {explain(error)}; its limits are {known}.") from None
        if not budget.model_fields_set:
            raise InputInvalid(f"name a limit: {', '.join(Budget.model_fields)}.")
        if complaint := self.steering.purse.refuse_limits(budget, workflow.now()):
            raise InputInvalid(complaint)

    @workflow.signal(description="What a run that is paused tells its child workflows.")
    def hold(self) -> None:
        """Admit no more calls."""
        self.steering.paused_at = self.steering.paused_at or workflow.now()
        self._look()

    @workflow.signal(description="What a run that is resumed tells its child workflows.")
    def go_on(self) -> None:
        """Admit calls again."""
        self.steering.paused_at = None
        self._look()

    # Parts of the run in child workflows

    def begin_part(self, part: str, share: float) -> Steering:
        """Return how a part of the run begins: with a share of what is left of the budget.

        Args:
            part: Its workflow id after that of the run.
            share: From 0 to 1.
        """
        purse = self.steering.purse.allot(part, share, workflow.now())
        return Steering(begun=True, paused_at=self.steering.paused_at, purse=purse)

    def part_reports(self, part: str, purse: Purse) -> None:
        """Take in what a part that has not ended has spent so far."""
        self._warn(self.steering.purse.report(part, purse, workflow.now()))
        self._look()

    @workflow.signal(description="A part of the run can't make a call with what is left of its share.")
    def part_wants(self, part: str, question: int, method: str, purse: Purse) -> None:
        """Give a part more as soon as there is some."""
        if part in self.steering.purse.parts and self.steering.purse.take_back(part, question, purse):
            self._wanting[part] = method
            self.part_reports(part, purse)

    def end_part(self, part: str) -> None:
        """Take back what a part has not spent."""
        self._wanting.pop(part, None)
        self.steering.purse.end(part, workflow.now())
        self._look()

    @workflow.signal(description="What a run tells a part of itself of its share of the budget.")
    def set_share(self, limits: dict[Limit, Amount], question: int) -> None:
        """Go on with another share, unless it was sent before the run heard what was given back of this one."""
        if question == self._asks and workflow.info().parent is not None:
            self._asked = False
            self.steering.purse.limits = limits
            self._look()

    def _serve_parts(self) -> None:
        purse = self.steering.purse
        for part, method in list(self._wanting.items()):
            if purse.allot_more(part, method, workflow.now()) is not None:  # no limits are a share too
                del self._wanting[part]
                self._tell_share(part)

    def _tell_share(self, part: str) -> None:
        share = self.steering.purse.parts[part]
        self._tell(part, "set_share", dict(share.limits), share.question)

    def _tell_parts(self, signal: str) -> None:
        for part in self.steering.purse.parts:
            self._tell(part, signal)

    def _tell(self, part: str, signal: str, *arguments: Any) -> None:
        handle = workflow.get_external_workflow_handle(f"{workflow.info().workflow_id}/{part}")
        self._messages.send(handle, signal, *arguments)

    # Calls

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start; `settle` it when it has ended."""
        while not self._may_start(method):
            self._waiting[method] += 1
            try:
                self._look()
                await workflow.wait_condition(lambda: self._may_start(method))
            finally:
                self._waiting[method] -= 1
        self.steering.purse.open(method, workflow.now())

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge what a call that was admitted has used, now that it has ended; `well` if it gave a result."""
        purse = self.steering.purse
        self._warn([*purse.settle(method, usage, well=well), *purse.close(method, workflow.now())])
        self._look()

    @property
    def has_to_fail_for_its_budget(self) -> bool:
        """Whether the run was to fail at its limit, has reached it, and none of its calls is under way."""
        if self._on_budget != "fail" or self.steering.paused_at is not None:
            return False
        purse = self.steering.purse
        return not purse.under_way and len(self._wanting) == len(purse.parts) and bool(self._refusals())

    def budget_exceeded(self) -> BudgetExceeded:
        """Return the error that says what was spent and done."""
        return BudgetExceeded(
            f"the budget is spent: {'; '.join(self._refusals().values())}. "
            f"Done: {self.steering.purse.done(workflow.now())}. Start it again with a larger one, or without "
            "on_budget, which lets you raise it while the run waits."
        )

    def held_because(self) -> list[str]:
        """Say why calls are not admitted, a sentence each; nothing while they are."""
        return list(self._held().values())

    @property
    def paused(self) -> str | None:
        """Why the run makes no more calls, in short: nothing more to be said of it where a person has paused it."""
        if self.steering.paused_at is not None:
            return ""
        return next((f"budget: {reason}" for reason in self._refusals().values()), None)

    def worth_knowing(self) -> list[str]:
        """Say what a person should know of the budget before it holds the run."""
        return [] if self._refusals() else self.steering.purse.notes(workflow.now())

    def _may_start(self, method: str) -> bool:
        return self.steering.paused_at is None and self.steering.purse.has_room(method, workflow.now())

    def _held(self) -> dict[str, str]:
        """Return what holds calls, each with a sentence."""
        held = {}
        if self.steering.paused_at is not None:
            held["paused"] = f"paused since {_clock(self.steering.paused_at)}; go on: {_command('resume')}"
        for limit, reason in self._refusals().items():
            raised = self.steering.purse.advice(limit)
            held[limit] = f"budget: {reason}; raise it: {_command('set_budget')} --input '{raised}'"
        return held

    def _refusals(self) -> dict[Limit, str]:
        """Return the limits that hold calls, each with its reason."""
        purse, now = self.steering.purse, workflow.now()
        found: dict[Limit, str] = {}
        waiting = [
            *(method for method, count in self._waiting.items() if count),
            *self._wanting.values(),
        ]
        for method in dict.fromkeys(waiting):
            if limit := purse.refuses(method, now):
                found.setdefault(limit, purse.explain(limit, method, now))
        return found

    def _look(self) -> None:
        """Do what can be done for those that wait, and log what holds the run when it begins to."""
        if self._wanting:
            self._serve_parts()
        held = self._held()
        if held == self._told:
            return
        for what, sentence in held.items():
            if what not in self._told:
                workflow.logger.warning("%s", sentence)
        self._told = held

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            workflow.logger.warning("%s", warning)


class _Messages:
    """Sends signals to other workflows, in order, without anybody's waiting for it."""

    def __init__(self) -> None:
        self._under_way: list[asyncio.Task[None]] = []

    def send(self, handle: workflow.ExternalWorkflowHandle[Any], signal: str, *arguments: Any) -> None:
        """Send a signal; it may come too late for one that has just ended."""

        async def send() -> None:
            with suppress(FailureError):
                await handle.signal(signal, args=arguments)

        self._under_way = [message for message in self._under_way if not message.done()]
        # It is no step of the program, whatever it is sent from.
        self._under_way.append(asyncio.create_task(send(), context=contextvars.Context()))


def _command(name: str) -> str:
    return _UPDATE.format(id=workflow.info().workflow_id, name=name)


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
