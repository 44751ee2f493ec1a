"""The board of a run: what its calls came to, by role, and what those parts of it tell that run in other workflows.

What goes on in the run itself is in its tree; `reading` puts both together when somebody looks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

from activities.contract.usage import Usage
from workflows.shown.progress import Account, Items

CloseStatus = Literal["done", "failed", "cancelled"]
"""How a call or a run ended."""


class Report(BaseModel):
    """What a part of a run that goes on elsewhere tells of itself, all since its beginning.

    Attributes:
        number: Counts its reports: they may overtake each other on their way.
        accounts: What the calls of each role came to.
        calls_running: By role.
        queued: Of those, how many are in which task queue.
        items: Of the scatter.
        waits_for: What it waits for.
    """

    number: int = 0
    accounts: dict[str, Account] = {}
    calls_running: dict[str, int] = {}
    queued: dict[str, int] = {}
    items: Items = Items()
    waits_for: list[str] = []


class Board:
    """What is counted in a run, at a constant price for each call.

    Attributes:
        accounts: What the calls of each role came to; what a run that continues as new has to carry on.
        ended: How the run ended; None until then.
    """

    def __init__(self, accounts: Mapping[str, Account] | None = None) -> None:
        self.accounts: defaultdict[str, Account] = defaultdict(Account, accounts or {})
        self.ended: CloseStatus | None = None
        self._parts: dict[str, tuple[str, Report]] = {}
        """The last report of each, with the step of its scatter."""
        self._reports_made = 0

    def call_ends(self, role: str, status: CloseStatus, usage: Usage) -> None:
        """Count how a call to a role ended, and what it used."""
        account = self.accounts[role]
        account.calls_done += status == "done"
        account.calls_failed += status == "failed"
        if usage.model_calls:
            account.usage += usage

    # Parts of the run that go on elsewhere

    def report(self, running: Counter[str], queued: Mapping[str, int], waits_for: list[str]) -> Report:
        """Tell a run, of a scatter of which this one is a part, how far it is.

        Args:
            running: How many of its calls are at work, by role.
            queued: How many of them are in which task queue.
            waits_for: What it waits for.
        """
        self._reports_made += 1
        total = sum(self.accounts.values(), Account())
        return Report(
            number=self._reports_made,
            accounts=self.accounts,
            calls_running=dict(running),
            queued=dict(queued),
            items=Items(done=total.calls_done, running=running.total(), failed=total.calls_failed),
            waits_for=waits_for,
        )

    def part_reports(self, step: str, part: str, report: Report) -> None:
        """Take what a part of a scatter reports, instead of what it reported before.

        Args:
            step: The scatter.
            part: Who reports it.
            report: How far it is.
        """
        _, known = self._parts.get(part, (step, report))
        if known.number <= report.number:
            self._parts[part] = (step, report)

    def part_ends(self, part: str) -> None:
        """Take over what the calls of a part came to, by its last report; items are counted one by one."""
        if part in self._parts:
            _, report = self._parts.pop(part)
            for role, account in report.accounts.items():
                self.accounts[role] += account

    def parts_wait_for(self) -> list[str]:
        """Return what the parts of the run wait for."""
        return [wait for _, report in self._parts.values() for wait in report.waits_for]

    # Sums over the run and its parts

    def queued(self, here: Mapping[str, int]) -> Counter[str]:
        """Return how many calls are in which task queue.

        Args:
            here: Those that the run makes itself.
        """
        return sum((Counter(report.queued) for _, report in self._parts.values()), Counter[str](here))

    def items_elsewhere(self, step: str | None = None) -> Items:
        """Return how many items are where in the parts of one scatter, or of all."""
        return sum((report.items for of, report in self._parts.values() if step in (None, of)), Items())

    def running(self, here: Mapping[str, int]) -> Counter[str]:
        """Return how many calls are at work, by role.

        Args:
            here: Those of the run itself.
        """
        return sum((Counter(report.calls_running) for _, report in self._parts.values()), Counter[str](here))

    def totals(self) -> dict[str, Account]:
        """Return the accounts of all roles."""
        totals = dict(self.accounts)
        for _, report in self._parts.values():
            for role, account in report.accounts.items():
                totals[role] = totals.get(role, Account()) + account
        return totals

    def usage(self) -> Usage:
        """Return what the run has used in all."""
        return sum((account.usage for account in self.totals().values()), Usage())
