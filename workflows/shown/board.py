"""The board on which a run keeps what it shows of itself, at a constant price for each thing that happens.

Calls and items of scatters write on it as they begin and end; `progress` reads it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Literal

from pydantic import BaseModel

from activities.contract.text import clip
from activities.contract.usage import Usage
from activities.errors import says_stop
from workflows.errors import tell
from workflows.shown.progress import Account, Items, Progress, RoleProgress, ScatterProgress, Working

Outcome = Literal["done", "failed", "cancelled"]

SCATTERS_LISTED = 50
"""Scatters in one answer: those under way first, then those that ended last."""

WORKING_LISTED = 100
"""Instances in one answer."""

_NAMED_AT_ONCE = 3
"""Phases, scatters or methods that the phase names when several run at the same time."""

_STATUS_LENGTH = 150
_FAILURE_LENGTH = 300
_FAILURES_LISTED = 5


@dataclass(frozen=True)
class Work:
    """A call as the board knows it.

    Attributes:
        step: Its place in the program.
        role: The role that it is made to.
        instance: Who makes it.
        method: `Coder.implement_module`.
        item: What it is about, in a few words.
    """

    step: str
    role: str
    instance: str
    method: str
    item: str


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


class ScatterOnBoard:
    """A scatter as long as it runs: a context manager, with another one for each of its items."""

    def __init__(self, board: Board, step: str, within: str, name: str, total: int) -> None:
        self.step = step
        self.total = total
        self.items = Items()
        self.reports: dict[str, Items] = {}
        self.ended = False
        self._board = board
        self._within = within
        self._name = name
        self._method = ""
        self._round = 0

    def __enter__(self) -> ScatterOnBoard:
        self._board.scatter_begins(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self._board.scatter_ends(self)

    def item(self, index: int, title: str) -> _ItemOnBoard:
        """Return what an item is to be worked on in."""
        return _ItemOnBoard(self._board, self.items, f"{self.step}.{index + 1}", title)

    @property
    def title(self) -> str:
        """What is done to its items, as far as it is known."""
        within = f"{self._within}: " if self._within else ""
        again = f", round {self._round}" if self._round > 1 else ""
        return f"{within}{self._method or self._name}{again}"

    def does(self, method: str) -> None:
        """Learn from its first call what is done to its items."""
        if not self._method:
            self._method = method
            self._round = self._board.next_round(self.step, method)

    def counts(self, outcome: Outcome) -> None:
        """Count an item that was worked on elsewhere."""
        self.items.done += outcome == "done"
        self.items.failed += outcome == "failed"

    def progress(self) -> ScatterProgress:
        """Tell how far it is."""
        items = sum(self.reports.values(), self.items)
        return ScatterProgress(
            step=self.step,
            title=self.title,
            total=self.total,
            **items.model_dump(),
            waiting=max(0, self.total - items.done - items.running - items.failed),
            ended=self.ended,
        )


class _ItemOnBoard:
    """An item of a scatter while somebody works on it."""

    def __init__(self, board: Board, items: Items, path: str, title: str) -> None:
        self._board = board
        self._items = items
        self._path = path
        self._title = title

    def __enter__(self) -> None:
        self._items.running += 1

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if isinstance(error, GeneratorExit):  # the collector closes a run that nobody will ask any more
            return
        self._items.running -= 1
        self._board.item_ends(self._path)
        if error is None:
            self._items.done += 1
        elif not says_stop(error):
            self._items.failed += 1
            self._board.item_fails(f"{self._title}: {clip(tell(error), _FAILURE_LENGTH)}")


class Board:
    """What a run shows of itself.

    Attributes:
        accounts: What the calls of each role came to; what a run that continues as new has to carry on.
        outcome: How the run ended; None until then.
    """

    def __init__(self, accounts: Mapping[str, Account] | None = None) -> None:
        self.accounts: defaultdict[str, Account] = defaultdict(Account, accounts or {})
        self.outcome: Outcome | None = None
        self._calls = 0
        self._working: dict[int, tuple[Work, datetime]] = {}
        self._working_in: Counter[str] = Counter()
        self._scatters: dict[str, ScatterOnBoard] = {}
        self._ended: deque[ScatterProgress] = deque(maxlen=SCATTERS_LISTED)
        self._scatters_begun = 0
        self._rounds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._phases: Counter[tuple[str, ...]] = Counter()
        self._failed_items = 0
        self._last_failures: deque[str] = deque(maxlen=_FAILURES_LISTED)
        self._reports: dict[str, Report] = {}
        self._reports_made = 0

    # Calls

    def call_begins(self, work: Work, now: datetime) -> int:
        """Write down that a call is under way; return the number by which to end it."""
        self._calls += 1
        self._working[self._calls] = (work, now)
        self._working_in[work.role] += 1
        if scatter := self._scatters.get(_scatter_of(work.step)):
            scatter.does(work.method)
        return self._calls

    def call_ends(self, number: int, outcome: Outcome) -> None:
        """Write down how a call ended."""
        work, _ = self._working.pop(number)
        self._working_in[work.role] -= 1
        account = self.accounts[work.role]
        account.calls_done += outcome == "done"
        account.calls_failed += outcome == "failed"

    def used(self, role: str, usage: Usage) -> None:
        """Add what a call used to its role's account."""
        if usage.model_calls:
            self.accounts[role].usage += usage

    def is_under_way(self, step: str) -> bool:
        """Whether the call of a step is."""
        return any(work.step == step for work, _ in self._working.values())

    # Scatters

    def scatter(self, step: str, within: str, name: str, total: int) -> ScatterOnBoard:
        """Return what a scatter is to run in.

        Args:
            step: Its place in the program.
            within: The item that it belongs to, in a few words; empty on the main line.
            name: What to call it until its first call is made.
            total: The number of its items.
        """
        return ScatterOnBoard(self, step, within, name, total)

    def scatter_begins(self, scatter: ScatterOnBoard) -> None:
        """Show a scatter."""
        self._scatters_begun += 1
        self._scatters[scatter.step] = scatter

    def scatter_ends(self, scatter: ScatterOnBoard) -> None:
        """Show a scatter among those that have ended."""
        self._ended.append(self._scatters.pop(scatter.step).progress())

    def next_round(self, step: str, method: str) -> int:
        """Return how many scatters of this method, with this one, there were at this place of the program."""
        here = self._rounds[step.rpartition(".")[0]]
        here[method] += 1
        return here[method]

    def item_ends(self, path: str) -> None:
        """Forget the rounds inside of an item."""
        self._rounds.pop(path, None)

    def item_fails(self, why: str) -> None:
        """Count an item that failed, wherever, and remember why."""
        self._failed_items += 1
        self._last_failures.append(why)

    # Phases

    def phase_begins(self, path: tuple[str, ...]) -> None:
        """Enter a phase, by its name and those of the phases around it, the outermost first."""
        self._phases[path] += 1

    def phase_ends(self, path: tuple[str, ...]) -> None:
        """Leave it."""
        self._phases[path] -= 1
        if not self._phases[path]:
            del self._phases[path]

    # Parts of the run that go on elsewhere

    def report(self, waits_for: list[str], queued: Mapping[str, int]) -> Report:
        """Tell a run, of a scatter of which this one is a part, how far it is.

        Args:
            waits_for: What it waits for.
            queued: How many of its calls are in which task queue.
        """
        self._reports_made += 1
        total = sum(self.accounts.values(), Account())
        items = Items(done=total.calls_done, running=self._working_in.total(), failed=total.calls_failed)
        running = dict(self._working_in)
        return Report(
            number=self._reports_made,
            accounts=self.accounts,
            calls_running=running,
            queued=dict(queued),
            items=items,
            waits_for=waits_for,
        )

    def hears(self, step: str, part: str, report: Report) -> None:
        """Take in what a part of a scatter tells, instead of what it told before.

        Args:
            step: The scatter.
            part: Who tells it.
            report: How far it is.
        """
        known = self._reports.get(part)
        if known is not None and known.number > report.number:
            return
        self._reports[part] = report
        if scatter := self._scatters.get(step):
            scatter.reports[part] = report.items

    def part_ends(self, step: str, part: str) -> None:
        """Take over what the calls of a part came to, by its last report; items are counted one by one."""
        if report := self._reports.pop(part, None):
            for role, account in report.accounts.items():
                self.accounts[role] += account
        if scatter := self._scatters.get(step):
            scatter.reports.pop(part, None)

    def parts_wait_for(self) -> list[str]:
        """Return what the parts of the run wait for."""
        return [wait for report in self._reports.values() for wait in report.waits_for]

    def queued(self, here: Mapping[str, int]) -> Counter[str]:
        """Return how many calls are in which task queue.

        Args:
            here: Those that the run makes itself.
        """
        return sum((Counter(report.queued) for report in self._reports.values()), Counter[str](here))

    # What others read

    @property
    def calls_running(self) -> int:
        """How many calls are under way."""
        return self._working_in.total() + sum(sum(r.calls_running.values()) for r in self._reports.values())

    def _running_in(self, role: str) -> int:
        return self._working_in[role] + sum(r.calls_running.get(role, 0) for r in self._reports.values())

    def totals(self) -> dict[str, Account]:
        """Return the accounts of all roles, those of the run's parts included."""
        totals = dict(self.accounts)
        for report in self._reports.values():
            for role, account in report.accounts.items():
                totals[role] = totals.get(role, Account()) + account
        return totals

    def usage(self) -> Usage:
        """Return what the run has used in all."""
        return sum((account.usage for account in self.totals().values()), Usage())

    @property
    def failed_items(self) -> int:
        """How many items of scatters failed."""
        return self._failed_items + sum(report.items.failed for report in self._reports.values())

    def status(self, waits_for: list[str], *, paused: str | None = None, stuck: bool = False) -> str:
        """Say in words how the run is.

        Args:
            waits_for: All that the run waits for.
            paused: Why it makes no more calls; empty if a person has paused it, None if it does.
            stuck: Whether nothing goes on while it waits.
        """
        if self.outcome is not None:
            return self.outcome
        if paused is not None:
            return _first_sentence(f"waits: {paused}") if paused else "paused"
        if waits_for and stuck:
            return _first_sentence(f"waits: {waits_for[0]}")
        return "running"

    def phase(self) -> str:
        """Say what goes on: the innermost phases that are named, or the outermost scatters, or the calls."""
        if self._phases:
            return _named(
                " / ".join(path) + (f" ({times})" if times > 1 else "")
                for path, times in self._phases.items()
                if not any(other[: len(path)] == path for other in self._phases if other != path)
            )
        if self._scatters:
            depth = min(step.count(".") for step in self._scatters)
            return _named(scatter.title for step, scatter in self._scatters.items() if step.count(".") == depth)
        return _named(work.method for work, _ in self._working.values())

    def progress(self, choreography: str, status: str, waits_for: list[str], instances: Mapping[str, int]) -> Progress:
        """Tell how far the run is.

        Args:
            choreography: The run's program.
            status: In words.
            waits_for: What it waits for, each in words.
            instances: The size of each role's pool.
        """
        totals = self.totals()
        scatters = [scatter.progress() for scatter in list(self._scatters.values())[:SCATTERS_LISTED]]
        room = SCATTERS_LISTED - len(scatters)
        ended = list(self._ended)[-room:] if room else []
        working = [
            Working(instance=work.instance, method=work.method, item=work.item, step=work.step, since=since)
            for work, since in list(self._working.values())[:WORKING_LISTED]
        ]
        return Progress(
            choreography=choreography,
            status=status,
            phase=self.phase(),
            scatters=[*ended, *scatters],
            scatters_left_out=self._scatters_begun - len(ended) - len(scatters),
            working=working,
            working_left_out=self.calls_running - len(working),
            calls_done=sum(account.calls_done for account in totals.values()),
            calls_running=self.calls_running,
            calls_failed=sum(account.calls_failed for account in totals.values()),
            failed_items=self.failed_items,
            last_failures=list(self._last_failures),
            waits_for=waits_for,
            roles=[
                RoleProgress(
                    role=role,
                    instances=size,
                    calls_running=self._running_in(role),
                    **dict(totals.get(role, Account())),
                )
                for role, size in instances.items()
            ],
            usage=self.usage(),
        )


def _scatter_of(step: str) -> str:
    """Return the step of the scatter in an item of which a call was made; any other text where there is none."""
    return step.rsplit(".", 2)[0]


def _named(names: Iterable[str]) -> str:
    different = list(dict.fromkeys(names))
    more = len(different) - _NAMED_AT_ONCE
    return ", ".join([*different[:_NAMED_AT_ONCE], *([f"{more} more"] if more > 0 else [])])


def _first_sentence(text: str) -> str:
    sentence = text.partition(". ")[0]
    return sentence if len(sentence) <= _STATUS_LENGTH else f"{sentence[: _STATUS_LENGTH - 1]}…"
