"""Dividing what there is: fairly between runs, and each run's share to where its calls wait.

>>> fair_shares(10, {"small": 2, "large": 50, "other": 50})
{'small': 2, 'large': 4.0, 'other': 4.0}
"""

from __future__ import annotations

from collections.abc import Mapping

Wants = Mapping[str, Mapping[str, float]]
"""What is wanted: by process, and there by run."""


def fair_shares(total: float, wants: Mapping[str, float]) -> dict[str, float]:
    """Divide a total: none gets more than it wants, and what one leaves goes in equal parts to those that want more."""
    shares = {}
    left = total
    for taken, (name, want) in enumerate(sorted(wants.items(), key=lambda item: (item[1], item[0]))):
        shares[name] = min(want, max(left, 0) / (len(wants) - taken))
        left -= shares[name]
    return shares


def divide(total: float, wants: Wants) -> dict[str, dict[str, float]]:
    """Divide a total between runs, and what each gets between processes as they want it for the run."""
    of_runs = wanted_by_runs(wants)
    shares = fair_shares(total, of_runs)
    return {
        process: {run: shares[run] * (want / of_runs[run]) if of_runs[run] else 0.0 for run, want in runs.items()}
        for process, runs in wants.items()
    }


def wanted_by_runs(wants: Wants) -> dict[str, float]:
    """Return what each run wants in all processes together."""
    of_runs: dict[str, float] = {}
    for runs in wants.values():
        for run, want in runs.items():
            of_runs[run] = of_runs.get(run, 0.0) + want
    return of_runs
