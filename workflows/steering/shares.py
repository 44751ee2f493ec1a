"""How a budget is shared: by a run with its shards, and by the keeper of a tenant's or tag's budget with its runs.

A part spends its share without asking. Each line is a signal:

    part to run   shard_reports   what it has spent so far; now and then
    part to run   part_wants      its request 3: a call has no room; with it goes back what the part does not need
    run to part   set_share       its new limits in answer to request 3, as soon as something is free
    run to part   hold, go_on     what a person has told the run

Signals overtake each other, so that requests are numbered: an answer to an earlier one counts no more. A shard begins
with a share. What runs and keepers say to each other instead is in `shared`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from temporalio import workflow

from activities.contract.usage import Usage
from workflows.steering.admission import Admission, Shared, SteeringState
from workflows.steering.budget import DIVIDED, UNITS, Amount, Limit, MethodCost, Part, Purse
from workflows.steering.messages import Messages
from workflows.steering.requests import Requests
from workflows.steering.shared import SharedBudgets


class Shares:
    """The shares of a purse: there is no clock in here, and no server."""

    def __init__(self, purse: Purse, spread: float = 1.0) -> None:
        """Share a purse.

        Args:
            purse: What is shared.
            spread: Into how many times as many shares as there are parts what is free is divided: those that come
                later then find something.
        """
        self._purse = purse
        self._spread = spread

    def open(self, name: str, workflow_id: str) -> None:
        """Note a part that begins with nothing, unless it is known."""
        nothing = dict.fromkeys(UNITS, 0.0)
        self._purse.parts.setdefault(name, Part(limits={}, spent=nothing, workflow_id=workflow_id))

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
        part = self._purse.parts[name]
        for limit, amount in purse.spent.items():
            part.spent[limit] = max(amount - part.before.get(limit, 0.0), part.spent[limit])
        self._purse.learn_from(purse)
        return self._purse.warnings(now)

    def take_back(self, name: str, request: int, purse: Purse) -> bool:
        """Take back what a part has given back with its request for more; return whether this is its newest one."""
        part = self._purse.parts[name]
        if request <= part.request:
            return False
        part.request = request
        part.limits = {limit: amount - part.before.get(limit, 0.0) for limit, amount in purse.limits.items()}
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
            share = amount / (len(parts) * self._spread)
            more = amount if limit == "hours" else max(share, min(expected[limit], amount))
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

    def told(self, name: str) -> dict[Limit, float]:
        """Return a part's limits as the part counts, which knows of no renewal."""
        part = self._purse.parts[name]
        return {limit: amount + part.before.get(limit, 0.0) for limit, amount in part.limits.items()}

    def _only_what_is_limited(self, part: Part) -> dict[Limit, float]:
        part.limits = {limit: amount for limit, amount in part.limits.items() if limit in self._purse.limits}
        return part.limits


class Lender:
    """The run's end: it lends shares, gives more where a part has too little, and takes back what is left.

    Attributes:
        wanting: Parts whose share does not do for a call, each with the call's method.
        held: Parts that make no calls because a budget is spent that others share too, each with why.
    """

    def __init__(self, state: SteeringState, recheck: Callable[[], None], spread: float = 1.0) -> None:
        """Begin to lend.

        Args:
            state: Of the run's steering.
            recheck: Called whenever there may be more for those that wait.
            spread: As for `Shares`.
        """
        self.wanting: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self._state = state
        self._shares = Shares(state.purse, spread)
        self._recheck = recheck
        self._messages = Messages()

    @property
    def parts(self) -> dict[str, Part]:
        """Those that have not ended, by their workflow ids after that of the run."""
        return self._state.purse.parts

    def open(self, part: str, workflow_id: str) -> None:
        """Note a part that begins with nothing, unless it is known."""
        self._shares.open(part, workflow_id)

    def limits_of(self, part: str) -> dict[Limit, float]:
        """Return a part's limits as it counts."""
        return self._shares.told(part)

    def costs(self) -> dict[str, MethodCost]:
        """Return what calls cost, as far as any part has found it out."""
        return {method: cost.model_copy() for method, cost in self._state.purse.methods.items()}

    def lend(self, part: str, share: float) -> SteeringState:
        """Return how a part of the run begins: with a share of what is left of the budget.

        Args:
            part: Its workflow id after that of the run.
            share: From 0 to 1.
        """
        purse = self._shares.allot(part, share, workflow.now())
        shared = {name: Shared() for name in self._state.shared}
        return SteeringState(begun=True, paused_at=self._state.paused_at, purse=purse, shared=shared, looked=True)

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
        self.held.pop(part, None)
        self._shares.end(part, workflow.now())
        self._recheck()

    def adjust(self) -> None:
        """Tell all parts what follows from limits that were set anew."""
        for part in self.parts:
            self._shares.adjust(part, workflow.now())
            self.tell_share(part)

    def lend_more(self) -> None:
        """Give those that want more what is free."""
        for part, method in list(self.wanting.items()):
            if self._shares.allot_more(part, method, workflow.now()) is not None:  # no limits are a share too
                del self.wanting[part]
                self.tell_share(part)

    def tell(self, signal: str, *arguments: Any) -> None:
        """Tell all parts what the run was told."""
        for part in self.parts:
            self._send(part, signal, *arguments)

    def tell_share(self, part: str) -> None:
        """Tell a part how far it may go."""
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
        self.admission = Admission(state, self._recheck)
        self.shared = SharedBudgets(state, self.admission)
        self._requests = Requests(state.purse)
        self._held = ""

    @property
    def purse(self) -> Purse:
        """What it may spend and has spent."""
        return self.admission.state.purse

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start; `settle` it when it has ended."""
        await self.admission.admit(method)

    def left_for(self, method: str) -> dict[Limit, float]:
        """Return what is left for a call that was just admitted, by limit: of this part's share."""
        return self.admission.left_for(method)

    def settle(self, method: str, usage: Usage, *, well: bool) -> None:
        """Charge a call that has ended; if others wait, the run is to hear of what this one has left."""
        self._requests.is_open = False
        self.shared.call_ends()
        self.admission.settle(method, usage, well=well)  # it is the run that warns

    def paused(self) -> str | None:
        """Say in short why no calls are made."""
        said = self.admission.paused()
        return self.shared.paused() if said is None else said

    @workflow.signal(description="What a run tells a part of itself of its share of the budget.")
    def set_share(self, limits: dict[Limit, Amount], request: int) -> None:
        """Go on with another share, unless it was sent before the run heard what was given back of this one."""
        if self._requests.take(limits, request):
            self.admission.recheck()

    def _recheck(self) -> None:
        self._ask_for_more()
        self.shared.ask_for_more()
        self._tell_what_holds()

    def _ask_for_more(self) -> None:
        state, now = self.admission.state, workflow.now()
        short = [method for method in self.admission.waiting if state.purse.is_short(method, now)]
        if not short or self._requests.is_open or state.paused_at is not None:
            return
        held = self._requests.next(now)
        self._report(held)
        self._messages.send(run_of_this_part(), "part_wants", self._part, self._requests.number, short[0], held)

    def _tell_what_holds(self) -> None:
        """Tell the run when a shared budget begins or ceases to hold all that this part has to do."""
        refusals = [] if self.purse.under_way else list(self.shared.refusals().values())
        held = refusals[0] if refusals else ""
        if held != self._held:
            self._held = held
            self._report(self.purse.model_copy(deep=True))
            self._messages.send(run_of_this_part(), "part_is_held", self._part, held)


def run_of_this_part() -> workflow.ExternalWorkflowHandle[Any]:
    """Return the run of which the workflow whose code is executing is a part."""
    parent = workflow.info().parent
    assert parent is not None
    # Not by its run id: a run that is reset goes on under another one, with the parts that it has.
    return workflow.get_external_workflow_handle(parent.workflow_id)
