"""Where calls wait before they begin: while the run is paused, or its budget has no room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from pydantic import BaseModel, Field
from temporalio import workflow

from activities.contract.usage import Usage
from workflows.steering.budget import Limit, Purse, how_much

NOTHING: Mapping[Limit, float] = {"calls": 0.0}
"""The limits of who has borrowed nothing yet."""


class Standing(BaseModel):
    """How a shared budget stood when its keeper told of it last.

    Attributes:
        limits: Those that are set.
        spent: Of each, since it was renewed.
        renews: When it begins anew; None if it does not.
        refuses: The limit for which the call that was asked for can't start.
        lent: Whether it can't because what is left is lent to other runs.
    """

    limits: dict[Limit, float]
    spent: dict[Limit, float]
    renews: datetime | None = None
    refuses: Limit | None = None
    lent: bool = False

    def in_words(self, limit: Limit) -> str:
        """Say how much of a limit is spent: `50.00 of 50.00 USD spent, renews at 2026-01-02 00:00 UTC`."""
        renews = f", renews at {self.renews:%Y-%m-%d %H:%M} UTC" if self.renews else ""
        return f"{how_much(limit, self.spent[limit], self.limits[limit])}{renews}"


class Shared(BaseModel):
    """What is borrowed of a shared budget by one run, from its begin or from where it was reset.

    Attributes:
        purse: What it may spend of it, and has spent.
        standing: How the whole was, as far as that was told.
    """

    purse: Purse = Field(default_factory=lambda: Purse(limits=dict(NOTHING)))
    standing: Standing | None = None


class SteeringState(BaseModel):
    """What a run must not forget of its steering when it continues as new.

    Attributes:
        begun: Whether the purse has the limits of the run's options.
        paused_at: Since when it is paused; None while it goes on.
        purse: Its budget and what it has spent.
        shared: What it borrows of budgets that it shares with other runs, by their names.
        looked: Whether it knows which of these there are.
    """

    begun: bool = False
    paused_at: datetime | None = None
    purse: Purse = Purse()
    shared: dict[str, Shared] = {}
    looked: bool = False

    @property
    def purses(self) -> list[Purse]:
        """All in which a call needs room."""
        return [self.purse, *(shared.purse for shared in self.shared.values())]


class Admission:
    """Admits calls, and charges what they have used."""

    def __init__(
        self, state: SteeringState, recheck: Callable[[], None], others: Callable[[], Iterable[str]] = tuple
    ) -> None:
        """Begin to admit calls.

        Args:
            state: Whether they are admitted, and what they may cost.
            recheck: Called whenever a call has to wait, or what calls wait for may have changed.
            others: Returns the methods of calls that wait elsewhere for the same budget.
        """
        self.state = state
        self.recheck = recheck
        self._others = others
        self._waiting: Counter[str] = Counter()

    @property
    def waiting(self) -> Iterable[str]:
        """The methods of the calls that are not admitted yet, those that waited first at the beginning."""
        return [method for method, count in self._waiting.items() if count]

    async def admit(self, method: str) -> None:
        """Wait until a call of a method may start; `settle` it when it has ended."""
        while not self._may_start(method):
            self._waiting[method] += 1
            try:
                self.recheck()
                await workflow.wait_condition(lambda: self._may_start(method))
            finally:
                self._waiting[method] -= 1
        for purse in self.state.purses:
            purse.open(method, workflow.now())

    def settle(self, method: str, usage: Usage, *, well: bool) -> list[str]:
        """Charge what a call has used, now that it has ended.

        Args:
            method: Its method.
            usage: What all its attempts have used.
            well: Whether it gave a result.

        Returns:
            What a person is to be warned of.
        """
        own, *shared = self.state.purses
        warnings = [*own.settle(method, usage, well=well), *own.close(method, workflow.now())]
        for purse in shared:  # of which their keepers warn
            purse.settle(method, usage, well=well)
            purse.close(method, workflow.now())
        self.recheck()
        return warnings

    @workflow.signal(description="Make no new calls: as a run is told with its start, and its parts when it is paused.")
    def hold(self) -> None:
        """Admit no more calls."""
        self.state.paused_at = self.state.paused_at or workflow.now()
        self.recheck()

    @workflow.signal(description="Go on after that.")
    def go_on(self) -> None:
        """Admit calls again."""
        self.state.paused_at = None
        self.recheck()

    def left_for(self, method: str) -> dict[Limit, float]:
        """Return what is left for a call that was just admitted, of each limit: in the budget that has least."""
        found = self.state.purse.left_for(method, workflow.now())
        for shared in self.state.shared.values():
            told = shared.standing
            for limit, amount in told.limits.items() if told else ():
                left = max(amount - told.spent[limit], 0.0) if told else 0.0
                found[limit] = min(found.get(limit, left), left)
        return found

    def refusals(self) -> dict[Limit, str]:
        """Return the limits that hold calls, each with its reason."""
        purse, now = self.state.purse, workflow.now()
        found: dict[Limit, str] = {}
        for method in dict.fromkeys([*self.waiting, *self._others()]):
            if limit := purse.refuses(method, now):
                found.setdefault(limit, purse.explain(limit, method, now))
        return found

    def paused(self) -> str | None:
        """Say in short why no calls are made: nothing more to be said where a person has paused the run."""
        if self.state.paused_at is not None:
            return ""
        return next((f"budget: {reason}" for reason in self.refusals().values()), None)

    def _may_start(self, method: str) -> bool:
        now = workflow.now()
        return self.state.paused_at is None and all(purse.has_room(method, now) for purse in self.state.purses)
