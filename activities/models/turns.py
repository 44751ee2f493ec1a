"""Whose turn it is in this process, and whether there is room for it: fair between runs, evenly over time.

Times are seconds of any clock; whoever uses this brings it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_FULL_AFTER_S = 2.0
"""How long a bucket fills: what was not used before that can't be used later."""


@dataclass
class Bucket:
    """Fills at a rate. Where there is anything, more may be taken than there is: it fills up again before the next.

    Attributes:
        rate: What it gets in a second; None if there is no end to it.
        least: What it holds at least, however slowly it fills.
    """

    least: float
    rate: float | None = 0.0
    level: float = field(init=False)
    _at: float | None = None

    def __post_init__(self) -> None:
        self.level = self.least

    @property
    def size(self) -> float:
        """What it holds."""
        return max(self.least, (self.rate or 0.0) * _FULL_AFTER_S)

    def fill(self, now: float, rate: float | None) -> None:
        """Fill it up to now as before, and go on at a rate."""
        if self._at is not None and self.rate is not None:
            self.level = min(self.level + self.rate * max(now - self._at, 0.0), max(self.size, self.level))
        self._at, self.rate = now, rate

    def seconds_until_some(self) -> float:
        """Return how long it takes until there is the least again; 0 where there is."""
        if self.rate is None:
            return 0.0
        missing = self.least - self.level
        if missing <= 1e-9:
            return 0.0
        return missing / self.rate if self.rate > 0 else math.inf

    def take(self, amount: float) -> None:
        """Take an amount out, or put it back where it is negative."""
        if self.rate is not None:
            self.level = min(self.level - amount, self.size)

    def begin(self) -> None:
        """Begin anew, with the least."""
        self.level, self._at = self.least, None

    def empty(self) -> None:
        """Know that there is nothing left."""
        self.level = min(self.level, 0.0)


class Turns(Generic[T]):
    """A line for each run. The next is of the run that has had least in proportion to its share."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[int, T]] = {}
        self._had: dict[str, float] = {}
        self._now = 0.0
        self._numbers = 0
        self._weights: Mapping[str, float] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def waiting(self) -> dict[str, list[T]]:
        """Return who waits, by run."""
        return {run: list(line.values()) for run, line in self._lines.items()}

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Set the runs' shares; those without one have as much as the others have on average."""
        self._weights = {run: weight for run, weight in weights.items() if weight > 0}

    def join(self, run: str, who: T) -> int:
        """Stand in a run's line; return the number by which to leave."""
        if run not in self._lines:
            self._lines[run] = OrderedDict()
            self._had[run] = max(self._had.get(run, 0.0), self._now)  # what it did not want before is gone
        self._numbers += 1
        self._lines[run][self._numbers] = who
        return self._numbers

    def leave(self, run: str, number: int) -> None:
        """Leave the line, from wherever in it."""
        line = self._lines.get(run, OrderedDict())
        line.pop(number, None)
        if not line:
            self._lines.pop(run, None)
            self._forget()

    def next(self) -> tuple[str, int, T] | None:
        """Return whose turn it is: run, number, and who; None if nobody waits."""
        if not self._lines:
            return None
        run = min(self._lines, key=lambda run: self._had[run])
        number, who = next(iter(self._lines[run].items()))
        return run, number, who

    def has(self, run: str, amount: float) -> None:
        """Count what a run has had."""
        self._now = max(self._now, self._had.get(run, 0.0))
        weights = self._weights
        weight = weights.get(run) or (sum(weights.values()) / len(weights) if weights else 1.0)
        self._had[run] = max(self._had.get(run, 0.0), self._now) + amount / weight

    def _forget(self) -> None:
        """Forget runs that wait no more, and have no more than those that come new."""
        self._had = {run: had for run, had in self._had.items() if run in self._lines or had > self._now}
