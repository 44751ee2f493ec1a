"""Where calls wait before they begin: while the run is paused, or its budget has no room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import BaseModel
from temporalio import workflow

from activities.contract.usage import Usage
from workflows.steering.budget import Limit, Purse


class SteeringState(BaseModel):
    """What a run must not forget of its steering when it continues as new.

    Attributes:
        begun: Whether the purse has the limits of the run's options.
        paused_at: Since when it is paused; None while it goes on.
        purse: Its budget and what it has spent.
    """

    begun: bool = False
    paused_at: datetime | None = None
    purse: Purse = Purse()


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
        self.state.purse.open(method, workflow.now())

    def settle(self, method: str, usage: Usage, *, well: bool) -> list[str]:
        """Charge what a call has used, now that it has ended.

        Args:
            method: Its method.
            usage: What all its attempts have used.
            well: Whether it gave a result.

        Returns:
            What a person is to be warned of.
        """
        purse = self.state.purse
        warnings = [*purse.settle(method, usage, well=well), *purse.close(method, workflow.now())]
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
        return self.state.paused_at is None and self.state.purse.has_room(method, workflow.now())
