"""A picture of the figures: how near each comes to its bound, and how a scatter grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.figures import Figure

GOOD, BAD = "#2a7f62", "#b3382c"


def plot(figures: Sequence[Figure], path: Path) -> None:
    """Write a PNG."""
    mpl.use("agg")
    bounded = [figure for figure in figures if figure.ok is not None and figure.at_most != 0]
    picture, (left, right) = plt.subplots(1, 2, figsize=(15, 2 + 0.24 * len(bounded)), width_ratios=(2, 3))
    _bounds(left, bounded)
    _growth(right, figures)
    picture.tight_layout()
    picture.savefig(path, dpi=110)


def _bounds(axes: Axes, figures: Sequence[Figure]) -> None:
    shares = [_share(figure) for figure in figures]
    axes.barh([figure.name for figure in figures], shares, color=[GOOD if share <= 1 else BAD for share in shares])
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title("parts of the bound; 1 is the most")


def _share(figure: Figure) -> float:
    if figure.at_most is not None:
        return figure.value / figure.at_most
    assert figure.at_least is not None
    return figure.at_least / max(figure.value, 1e-9)


def _growth(axes: Axes, figures: Sequence[Figure]) -> None:
    for what, unit in (
        ("per item", "ms"),
        ("events per item", "events"),
        ("memory of the choreography's worker", "MB"),
    ):
        points = sorted(
            (int(found[1].replace(",", "")), figure.value)
            for figure in figures
            if (found := re.fullmatch(rf"scatter of ([\d,]+): {what}", figure.name))
        )
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{what} ({unit})")
            axes.legend()
    axes.set(xscale="log", yscale="log", xlabel="items", title="one scatter")
    axes.grid(visible=True, alpha=0.3)
