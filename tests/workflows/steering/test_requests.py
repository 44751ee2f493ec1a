"""The arithmetic of shared budgets, without a clock and without a server: messages overtake, borrowers die."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.contract.usage import Usage
from tests.workflows.steering.test_budget import NOON
from workflows.steering.budget import Limit, Purse
from workflows.steering.requests import Requests
from workflows.steering.shares import Shares

METHOD = "write"


@dataclass
class Lending:
    """A keeper, its borrowers, and what is on its way between them."""

    limit: float
    keeper: Purse = field(init=False)
    borrowers: dict[str, Requests] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)
    """What those that are at work or have ended have really spent."""
    to_keeper: list[tuple[str, int, Purse, bool, bool]] = field(default_factory=list)
    to_borrowers: list[tuple[str, int, dict[Limit, float]]] = field(default_factory=list)
    wanting: dict[str, None] = field(default_factory=dict)
    ended: dict[str, None] = field(default_factory=dict)
    misjudged: float = 0.0
    renewed: float = 0.0

    def __post_init__(self) -> None:
        self.keeper = Purse(limits={"usd": self.limit})
        self.shares = Shares(self.keeper, spread=2)

    def begin(self) -> None:
        name = f"run-{len(self.known)}"
        self.borrowers[name] = Requests(Purse(limits={"calls": 0}))
        self.known[name] = 0.0

    def call(self, name: str, usd: float) -> None:
        """Make a call, or ask for what it has no room for."""
        requests = self.borrowers[name]
        purse = requests.purse
        if not purse.has_room(METHOD, NOON):
            if not requests.is_open and purse.is_short(METHOD, NOON):
                self.to_keeper.append((name, requests.number + 1, requests.next(NOON), True, False))
            return
        expected = purse.expected(METHOD)["usd"]
        purse.open(METHOD, NOON)
        requests.is_open = False
        purse.settle(METHOD, Usage(models=["m"], model_calls=1, cost_usd=usd))
        purse.close(METHOD, NOON)
        self.misjudged += max(usd - expected, 0.0)
        self.known[name] += usd

    def give_back(self, name: str) -> None:
        requests = self.borrowers[name]
        self.to_keeper.append((name, requests.number + 1, requests.next(NOON, wants=False), False, False))

    def end(self, name: str) -> None:
        """End well: the last word comes after all others."""
        requests = self.borrowers.pop(name)
        mine = [message for message in self.to_keeper if message[0] == name]
        for message in mine:
            self.to_keeper.remove(message)
            self.take(*message)
        self.take(name, requests.number + 1, requests.next(NOON, wants=False), False, True)

    def die(self, name: str) -> None:
        """Be terminated; the keeper looks, and asks what was spent."""
        requests = self.borrowers.pop(name)
        if name in self.keeper.parts:
            self.shares.report(name, Purse(spent=requests.purse.spent), NOON)
            self.settle(name)
        elif any(message[0] == name for message in self.to_keeper):  # what was sent arrives, and then it looks
            self.shares.open(name, name)
            self.shares.report(name, Purse(spent=requests.purse.spent), NOON)
            self.settle(name)
        else:
            self.known[name] = 0.0

    def settle(self, name: str) -> None:
        self.shares.end(name, NOON)
        self.wanting.pop(name, None)
        self.ended[name] = None

    def take(self, name: str, number: int, purse: Purse, wants: bool, ended: bool) -> None:
        """Have a claim arrive at the keeper."""
        if name not in self.ended:
            self.shares.open(name, name)
            if self.shares.take_back(name, number, purse):
                self.wanting |= {name: None} if wants else {}
                if not wants:
                    self.wanting.pop(name, None)
            self.shares.report(name, purse, NOON)
            if ended:
                self.settle(name)
        self.lend()

    def lend(self) -> None:
        for name in list(self.wanting):
            if self.shares.allot_more(name, METHOD, NOON) is not None:
                del self.wanting[name]
                part = self.keeper.parts[name]
                self.to_borrowers.append((name, part.request, self.shares.told(name)))

    def renew(self) -> None:
        self.renewed += self.keeper.spent_in_all()["usd"]
        self.keeper.renew()
        self.lend()

    def out(self) -> float:
        """Return what is spent or lent, as the keeper knows it."""
        return self.limit - self.keeper.left(NOON)["usd"]


STEPS = st.tuples(
    st.sampled_from(["begin", "call", "call", "call", "give_back", "end", "die", "arrive", "answer", "renew"]),
    st.integers(0, 9),
    st.floats(0.01, 1.0),
)


@settings(max_examples=150, deadline=None)
@given(limit=st.floats(0.5, 20), steps=st.lists(STEPS, max_size=120))
def test_no_more_is_out_than_the_limit_and_nothing_is_lost(limit: float, steps: list[tuple[str, int, float]]) -> None:
    world = Lending(limit)
    world.begin()
    for what, which, usd in steps:
        names = list(world.borrowers)
        if what == "begin":
            world.begin()
        elif what == "renew":
            world.renew()
        elif what == "arrive" and world.to_keeper:
            world.take(*world.to_keeper.pop(which % len(world.to_keeper)))
        elif what == "answer" and world.to_borrowers:
            name, request, limits = world.to_borrowers.pop(which % len(world.to_borrowers))
            if name in world.borrowers:
                world.borrowers[name].take(limits, request)
        elif names and what in ("call", "give_back", "end", "die"):
            name = names[which % len(names)]
            getattr(world, what)(name, *([usd] if what == "call" else []))
        assert sum(world.known.values()) - world.renewed <= limit + world.misjudged + _unsettled(world) + 1e-6
    for name in list(world.borrowers):
        world.end(name)
    assert world.keeper.parts == {}
    assert world.renewed + world.keeper.spent["usd"] == pytest.approx(sum(world.known.values()))
    assert world.keeper.left(NOON)["usd"] == pytest.approx(max(limit - world.keeper.spent["usd"], 0.0))


def _unsettled(world: Lending) -> float:
    """Return what was lent before the last renewal: what is spent of it after that is of the new day."""
    return world.limit if world.renewed else 0.0
