"""Budgets that runs share: all those of a tenant, or with a tag. Here is a run's end, or a shard's; see `keeper`.

A run begins with nothing, and asks when a call has no room. What it is given it spends without asking:

    run to keeper   claim           its request 3: a call has no room; what it has spent; what it gives back; its end
    keeper to run   shared_budget   its new limits in answer to request 3; or why not; or that others want some back
    worker to run   stands_under    there is a budget now that was not there when the run asked

What it has spent is counted by the execution: a run that continues as new settles up and begins again, and one that is
reset begins again where it was reset. What was spent before may be counted once more then, but is never lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract.budgets import BUDGETS_OF_ACTIVITY, keeper_id
from workflows.steering.admission import NOTHING, Admission, Shared, Standing, SteeringState
from workflows.steering.budget import WARN_AT, Amount, Limit, MethodCost, Purse
from workflows.steering.messages import Messages
from workflows.steering.requests import Requests


class Claim(BaseModel):
    """What a borrower tells a keeper.

    Attributes:
        workflow_id: The borrower.
        run_id: Its execution, by which it is known.
        number: Of the request.
        purse: What it keeps, and what it has spent since the execution began.
        wants: The method of a call that has no room; None if it wants nothing.
        ended: Whether it will spend no more.
    """

    workflow_id: str
    run_id: str
    number: int
    purse: Purse
    wants: str | None = None
    ended: bool = False


class Answer(BaseModel):
    """What a keeper tells a borrower.

    Attributes:
        request: The last that it knows of.
        limits: How far it may go from now on; None where that stays.
        methods: What calls cost others.
        standing: How the whole budget is.
        give_back: Whether others need what it does not.
    """

    request: int
    limits: dict[Limit, Amount] | None = None
    methods: dict[str, MethodCost] = {}
    standing: Standing
    give_back: bool = False


class SharedBudgets:
    """The shared budgets that a workflow's calls stand under."""

    def __init__(
        self,
        state: SteeringState,
        admission: Admission,
        names: Sequence[str] = (),
        tell_parts: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        """Begin without a share of any.

        Args:
            state: What is borrowed.
            admission: Where calls wait.
            names: Those that there may be.
            tell_parts: Sends a signal to all parts of the run.
        """
        self._state = state
        self._admission = admission
        self._names = names
        self._tell_parts = tell_parts
        self._messages = Messages()
        self._wanted_back: dict[str, bool] = {}
        self._looking: asyncio.Task[None] | None = None
        for shared in state.shared.values():  # an earlier execution has settled up
            limits = dict(NOTHING) if shared.purse.limits else {}
            shared.purse = Purse(limits=limits, methods=shared.purse.methods)
        self._requests = {name: Requests(shared.purse) for name, shared in state.shared.items()}
        self._was_reset = False
        self._began_again_at: datetime | None = None
        self._watching: asyncio.Task[None] | None = None
        if state.shared:
            self._watch_for_resets()

    async def known(self) -> None:
        """Wait until it is known which budgets there are."""
        if self._state.looked or not self._names:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), context=contextvars.Context())
        await workflow.wait_condition(lambda: self._state.looked)

    def call_ends(self) -> None:
        """Note that a call has ended: if others wait, their keepers are to hear of what this one has left."""
        for requests in self._requests.values():
            requests.is_open = False

    def ask_for_more(self) -> None:
        """Ask the keepers for what the calls that wait are short of, and give back what others want."""
        self._leave_out_what_was_spent_before()
        if self._state.paused_at is not None or self._was_reset:
            return
        for name, requests in self._requests.items():
            wanted = self._wanted(name)
            if wanted and not requests.is_open:
                self._claim(name, wanted[0])
            elif not wanted and self._wanted_back.get(name) and self._has_idle(name):
                self._claim(name)

    @workflow.signal(description="What the keeper of a shared budget tells who borrows of it.")
    def shared_budget(self, name: str, answer: Answer) -> None:
        """Go on with another share, or note why there is none."""
        if name not in self._requests or not self._requests[name].purse.limits:
            return
        shared, requests = self._state.shared[name], self._requests[name]
        shared.standing = answer.standing
        if answer.give_back:
            self._wanted_back[name] = True
            if not self._was_reset:
                self._claim(name, next(iter(self._wanted(name)), None))
        elif answer.limits is None:
            self._admission.recheck()
        elif requests.take(answer.limits, answer.request):
            shared.purse.learn_from(Purse(methods=answer.methods))
            self._wanted_back[name] = False
            self._admission.recheck()

    @workflow.signal(description="There is a budget now for the runs of a tenant, or with a tag: tenant=acme.")
    def stands_under(self, name: str) -> None:
        """Make no more calls without room in a shared budget."""
        if self._names and name not in self._names:
            return
        self._watch_for_resets()
        if name not in self._state.shared:
            shared = self._state.shared[name] = Shared()
            shared.purse.under_way = Counter(self._state.purse.under_way)
            self._requests[name] = Requests(shared.purse)
        elif not self._requests[name].purse.limits:
            self._requests[name].purse.limits = dict(NOTHING)
            self._requests[name].is_open = False
        self._tell_parts("stands_under", name)
        self._admission.recheck()

    @workflow.query(description="What has been spent of a shared budget since this execution began.")
    def spent_of(self, name: str) -> dict[Limit, float]:
        """Tell what was spent."""
        return self._state.shared[name].purse.spent if name in self._state.shared else {}

    async def end(self) -> None:
        """Tell the keepers what was spent in the end, and give back the rest."""
        borrowed = [name for name, requests in self._requests.items() if requests.number and requests.purse.limits]
        if borrowed:
            await workflow.wait_condition(lambda: not self._was_reset)
            await self._messages.arrived()  # what is on its way could arrive after the last word
            for name in borrowed:
                self._claim(name, ended=True)
            await self._messages.arrived()

    # What is said of them

    def refusals(self) -> dict[str, str]:
        """Return the budgets that are spent and hold calls, each with how they stand."""
        return {
            name: f"budget {name}: {standing.in_words(standing.refuses)}"
            for name, standing in self._holding()
            if standing.refuses
        }

    def paused(self) -> str | None:
        """Say in short why no calls are made."""
        return next(iter(self.refusals().values()), None)

    def held(self) -> dict[str, str]:
        """Return the budgets that hold calls, each with a sentence."""
        held = {
            name: f"{reason}; raise it: {_raising(self._state.shared[name].standing, name)}"
            for name, reason in self.refusals().items()
        }
        return held | {
            name: f"budget {name}: what is left is lent to other runs, for calls that are under way"
            for name, standing in self._holding()
            if standing.lent
        }

    def notes(self) -> list[str]:
        """Say of which budgets little is left."""
        return [
            f"budget {name}: {shared.standing.in_words(limit)}"
            for name, shared in self._state.shared.items()
            if shared.standing is not None and shared.purse.limits
            for limit, amount in shared.standing.limits.items()
            if shared.standing.spent[limit] >= WARN_AT * amount
        ]

    def _holding(self) -> list[tuple[str, Standing]]:
        return [
            (name, shared.standing)
            for name, shared in self._state.shared.items()
            if shared.standing is not None and self._short(name)
        ]

    # What is asked

    def _short(self, name: str) -> list[str]:
        """Return the methods of calls that wait and have no room in a budget."""
        purse, now = self._requests[name].purse, workflow.now()
        return [method for method in self._admission.waiting if purse.is_short(method, now)]

    def _wanted(self, name: str) -> list[str]:
        """Return those of them for which it is this budget's turn to be asked."""
        return [method for method in self._short(name) if self._is_turn_of(name, method)]

    def _has_idle(self, name: str) -> bool:
        purse, now = self._requests[name].purse, workflow.now()
        kept = purse.model_copy(deep=True)
        kept.give_back(now, keep_for=self._about_to_start(name))
        return any(purse.limits[limit] - amount > _ROUNDING for limit, amount in kept.limits.items())

    def _claim(self, name: str, wants: str | None = None, *, ended: bool = False) -> None:
        info, requests = workflow.info(), self._requests[name]
        keep_for = None if wants or ended else self._about_to_start(name)
        purse = requests.next(workflow.now(), wants=wants is not None, keep_for=keep_for)
        claim = Claim(
            workflow_id=info.workflow_id,
            run_id=info.run_id,
            number=requests.number,
            purse=purse,
            wants=wants,
            ended=ended,
        )
        keeper = workflow.get_external_workflow_handle(keeper_id(name))
        self._messages.send(keeper, "claim", claim, lost=functools.partial(self._lapse, name), after_others_to=name)

    def _about_to_start(self, name: str) -> str | None:
        """Return the method of a call for which something of a budget is to be kept while another one is asked."""
        waiting = self._admission.waiting if self._state.paused_at is None else ()
        return next((method for method in waiting if self._is_turn_of(name, method)), None)

    def _is_turn_of(self, name: str, method: str) -> bool:
        """Whether a call may have something of a budget, as it will start when it has that of later ones.

        A call needs room in all, and nothing is kept for one that can't start: budgets are asked in their order, the
        same for all runs, so that no two keep what the other waits for; and none while another one is spent.
        """
        now = workflow.now()
        if not self._state.purse.has_room(method, now):
            return False
        others = [one for one in self._requests if one != name and self._requests[one].purse.is_short(method, now)]
        return not any(one < name or self._is_spent(one) for one in others)

    def _is_spent(self, name: str) -> bool:
        standing = self._state.shared[name].standing
        return standing is not None and standing.refuses is not None

    def _lapse(self, name: str) -> None:
        """Note that there is no such budget any more."""
        self._requests[name].purse.limits = {}
        self._state.shared[name].standing = None
        self._admission.recheck()

    async def _begin_again_after_resets(self) -> None:
        """Go on where the run was reset: what it holds was lent to the execution that it replaces."""
        while True:
            # All that the replaced execution was told has been taken in then, and nothing sent: it would count as spent
            # by this one what was spent by that.
            await workflow.wait_condition(lambda: self._was_reset)
            self._was_reset = False
            self._began_again_at = workflow.now()
            for requests in self._requests.values():
                requests.is_open = False
            self._admission.recheck()

    def _leave_out_what_was_spent_before(self) -> None:
        """Count nothing that the replaced execution has counted.

        In the workflow task with which a reset run goes on, calls may end that had ended before: they do so at the same
        moment, some of them after it was noticed.
        """
        if self._began_again_at == workflow.now():
            for requests in self._requests.values():
                if requests.purse.limits:
                    requests.purse.begin_again()

    def _note_reset(self, _: int) -> None:
        self._was_reset = True

    def _watch_for_resets(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._begin_again_after_resets(), context=contextvars.Context())
            workflow.register_random_seed_callback(self._note_reset)  # which is new where a run was reset

    async def _look(self) -> None:
        found: list[str] = await workflow.execute_local_activity(
            BUDGETS_OF_ACTIVITY,
            list(self._names),
            result_type=list[str],
            start_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
        )
        for name in found:
            self.stands_under(name)
        self._state.looked = True


_ROUNDING = 1e-9


def _raising(standing: Standing | None, name: str) -> str:
    """Return the command that would raise the limit that is spent."""
    assert standing is not None
    assert standing.refuses is not None
    raised = 2 * max(standing.limits[standing.refuses], standing.spent[standing.refuses])
    return f"python -m console budget set {name} {standing.refuses}={raised:g}"
