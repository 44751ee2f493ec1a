"""Figures: what was measured, in which unit, and between which bounds it must be."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Only what does not depend on the machine has a bound: ratios, counts and sizes, and times only that are promised.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str | None:
        """The bound in words."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.10g}"
        return None if self.at_least is None else f"≥ {self.at_least:,.10g}"

    @property
    def ok(self) -> bool | None:
        """Whether the value keeps its bound; None if it has none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "value": self.value, "unit": self.unit, "bound": self.bound, "ok": self.ok}


def ratio(name: str, upper: Sequence[float], lower: Sequence[float], *, at_most: float) -> Figure:
    """Compare two sides that were measured in turn: the median of the ratios within each round."""
    pairs = zip(upper, lower, strict=True)
    return Figure(name, statistics.median(one / other for one, other in pairs), "ratio", at_most=at_most)


def table(figures: Iterable[Figure]) -> str:
    """Write figures down as lines for people."""
    return "\n".join(
        f"{figure.name:66} {_short(figure.value):>10} {figure.unit:10} {figure.bound or '':10} "
        f"{'' if figure.ok is None else 'ok' if figure.ok else 'BROKEN'}".rstrip()
        for figure in figures
    )


def save(figures: Iterable[Figure], path: Path) -> None:
    """Write figures into a JSON file."""
    path.write_text(json.dumps([figure.as_json() for figure in figures], indent=1, ensure_ascii=False) + "\n")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
