"""How a run shares its budget with its parts: the shards of large scatters, which are workflows of their own.

A part begins with a share of what is left, and spends it without asking. Each line is a signal:

    part to run   shard_reports   what it has spent so far; now and then
    part to run   part_wants      its request 3: a call has no room; with it goes back what the part does not need
    run to part   set_share       its new limits in answer to request 3, as soon as something is free
    run to part   hold, go_on     what a person has told the run

Signals overtake each other, so that requests are numbered: an answer to an earlier one counts no more.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from activities.contract.usage import Usage
from workflows.steering.admission import Admission, SteeringState
from workflows.steering.budget import DIVIDED, UNITS, Amount, Limit, Part, Purse


class Shares:
    """The shares of a purse: there is no clock in here, and no server."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse

    def allot(self, name: str, share: float, now: datetime) -> Purse:
        """Set aside a share of what is left for a part of the run, and return the part's purse.

        Args:
            name: The part's, as in `report` and `end`.
            share: From 0 to 1. Time is not divided, as parts go on side by side.
            now: The time.
        """
        left = self._purse.left(now)
        limits = {limit: amount if limit == "hours" else amount * share for limit, amount in left.items()}
        self._purse.begin_hours(now)
        self._purse.parts[name] = Part(limits=dict(limits), spent=dict.fromkeys(UNITS, 0.0))
        methods = {method: cost.model_copy() for method, cost in self._purse.methods.items()}
        return Purse(limits=limits, methods=methods)

    def report(self, name: str, purse: Purse, now: datetime) -> list[str]:
        """Take in what a part has spent; return what a person is to be warned of."""
        spent = self._purse.parts[name].spent
        spent.update({limit: max(amount, spent[limit]) for limit, amount in purse.spent.items()})
        self._purse.learn_from(purse)
        return self._purse.warnings(now)

    def take_back(self, name: str, request: int, purse: Purse) -> bool:
        """Take back what a part has given back with its request for more; return whether this is its newest one."""
        part = self._purse.parts[name]
        if request <= part.request:
            return False
        part.request, part.limits = request, dict(purse.limits)
        return True

    def allot_more(self, name: str, method: str, now: datetime) -> dict[Limit, float] | None:
        """Give a part that has no room for a call of a method an equal share of what is free; return its new limits.

        None if too little is free: then other parts have to end first, or a person to raise the budget.
        """
        if self._purse.is_short(method, now):
            return None
        parts, part = self._purse.parts, self._purse.parts[name]
        free, expected = self._purse.left(now), self._purse.expected(method)
        for limit, amount in free.items():
            more = amount if limit == "hours" else max(amount / len(parts), min(expected[limit], amount))
            part.limits[limit] = part.spent[limit] + more + part.unspent(limit)
        return self._only_what_is_limited(part)

    def adjust(self, name: str, now: datetime) -> dict[Limit, float]:
        """Bring a part's limits into line with those of the run, which were set anew; return them."""
        part, left = self._purse.parts[name], self._purse.left(now)
        for limit, amount in left.items():
            if limit == "hours":
                part.limits[limit] = part.spent[limit] + amount
            elif limit not in part.limits:
                part.limits[limit] = part.spent[limit] + amount / len(self._purse.parts)
        return self._only_what_is_limited(part)

    def end(self, name: str, now: datetime) -> None:
        """Take over what a part has spent, by its last report, and what it has not."""
        part = self._purse.parts.pop(name)
        for limit in DIVIDED:
            self._purse.spent[limit] += part.spent[limit]
        self._purse.end_hours(now)

    def _only_what_is_limited(self, part: Part) -> dict[Limit, float]:
        part.limits = {limit: amount for limit, amount in part.limits.items() if limit in self._purse.limits}
        return part.limits


class Lender:
    """The run's end: it lends shares, gives more where a part has too little, and takes back what is left.

    Attributes:
        wanting: Parts whose share does not do for a call, each with the call's method.
    """

    def __init__(self, state: SteeringState, recheck: Callable[[], None]) -> None:
        """Begin to lend.

        Args:
            state: Of the run's steering.
            recheck: Called whenever there may be more for those that wait.
        """
        self.wanting: dict[str, str] = {}
        self._state = state
        self._shares = Shares(state.purse)
        self._recheck = recheck
        self._messages = Messages()

    @property
    def parts(self) -> dict[str, Part]:
        """Those that have not ended, by their workflow ids after that of the run."""
        return self._state.purse.parts

    def lend(self, part: str, share: float) -> SteeringState:
        """Return how a part of the run begins: with a share of what is left of the budget.

        Args:
            part: Its workflow id after that of the run.
            share: From 0 to 1.
        """
        purse = self._shares.allot(part, share, workflow.now())
        return SteeringState(begun=True, paused_at=self._state.paused_at, purse=purse)

    def report(self, part: str, purse: Purse) -> list[str]:
        """Take in what a part has spent so far; return what a person is to be warned of."""
        warnings = self._shares.report(part, purse, workflow.now())
        self._recheck()
        return warnings

    def request(self, part: str, number: int, method: str, purse: Purse) -> bool:
        """Note that a part wants more; return whether that is news."""
        if part not in self.parts or not self._shares.take_back(part, number, purse):
            return False
        self.wanting[part] = method
        return True

    def end(self, part: str) -> None:
        """Take back what a part has not spent."""
        self.wanting.pop(part, None)
        self._shares.end(part, workflow.now())
        self._recheck()

    def adjust(self) -> None:
        """Tell all parts what follows from limits that were set anew."""
        for part in self.parts:
            self._shares.adjust(part, workflow.now())
            self._tell_share(part)

    def lend_more(self) -> None:
        """Give those that want more what is free."""
        for part, method in list(self.wanting.items()):
            if self._shares.allot_more(part, method, workflow.now()) is not None:  # no limits are a share too
                del self.wanting[part]
                self._tell_share(part)

    def tell(self, signal: str) -> None:
        """Tell all parts that the run is paused, or goes on."""
        for part in self.parts:
            self._send(part, signal)

    def _tell_share(self, part: str) -> None:
        share = self.parts[part]
        self._send(part, "set_share", dict(share.limits), share.request)

    def _send(self, part: str, signal: str, *arguments: Any) -> None:
        handle = workflow.get_external_workflow_handle(f"{workflow.info().workflow_id}/{part}")
        self._messages.send(handle, signal, *arguments)


class Borrower:
    """A part's end: it admits calls while its share has room for them, and else asks its run for more.

    Attributes:
        admission: Where calls wait.
    """

    def __init__(self, part: str, state: SteeringState, report: Callable[[Purse], None], messages: Messages) -> None:
        """Begin with a share.

        Args:
            part: The part's workflow id after that of the run.
            state: Its share, and whether the run is paused.
            report: Sends the run what was used, so that it can show the usage that it says is spent.
            messages: In which order both are sent.
        """
        self._part = part
        self._report = report
        self._messages = messages
        self.admission = Admission(state, self._ask_for_more)
        self._requests = 0
        self._is_asking = False

    @property
    def purse(self) -> Purse:
        """What it may spend and has spent."""
        return self.admission.state.purse

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start; `settle` it when it has ended."""
        await self.admission.admit(method)

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge a call that has ended; if others wait, the run is to hear of what this one has left."""
        self._is_asking = False
        self.admission.settle(method, usage, well=well)  # it is the run that warns

    @workflow.signal(description="What a run tells a part of itself of its share of the budget.")
    def set_share(self, limits: dict[Limit, Amount], request: int) -> None:
        """Go on with another share, unless it was sent before the run heard what was given back of this one."""
        if request == self._requests:
            self._is_asking = False
            self.purse.limits = limits
            self.admission.recheck()

    def _ask_for_more(self) -> None:
        state, now = self.admission.state, workflow.now()
        short = [method for method in self.admission.waiting if state.purse.is_short(method, now)]
        if not short or self._is_asking or state.paused_at is not None:
            return
        self._is_asking = True
        self._requests += 1
        state.purse.give_back(now)
        held = state.purse.model_copy(deep=True)
        self._report(held)
        self._messages.send(run_of_this_part(), "part_wants", self._part, self._requests, short[0], held)


class Messages:
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


def run_of_this_part() -> workflow.ExternalWorkflowHandle[Any]:
    """Return the run of which the workflow whose code is executing is a part."""
    parent = workflow.info().parent
    assert parent is not None
    # Not by its run id: a run that is reset goes on under another one, with the parts that it has.
    return workflow.get_external_workflow_handle(parent.workflow_id)
