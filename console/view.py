"""How watched runs look: a page for a terminal, or a line for anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from temporalio.client import WorkflowExecutionStatus

from workflows.shown.progress import Progress, ScatterProgress

_ENDED_SHOWN = 4
"""Scatters that have ended and are still shown."""

_SCATTERS_SHOWN = 12
_WORKING_SHOWN = 12
_BAR_WIDTH = 30


@dataclass
class Sight:
    """What is known of a run that is watched.

    Attributes:
        workflow_id: The run.
        progress: What it told last; None if it never did.
        troubles: What is in its way, or why there is nothing newer.
        began: When it was started.
        ended: When it ended.
        status: What the server says of it; None as long as it is not known there.
        failure: Why it failed, if it did.
    """

    workflow_id: str
    progress: Progress | None = None
    troubles: list[str] = field(default_factory=list)
    began: datetime | None = None
    ended: datetime | None = None
    status: WorkflowExecutionStatus | None = None
    failure: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to see."""
        return self.ended is not None

    @property
    def is_known(self) -> bool:
        """Whether there is anything to say of it."""
        return self.status is not None or bool(self.troubles)

    @property
    def headline(self) -> str:
        """How it is, in words: as the run says, or as the server does where the run can't."""
        if self.status is None or self.progress is None:
            return as_word(self.status) if self.status else "not seen yet"
        runs_on = self.status == WorkflowExecutionStatus.RUNNING
        if runs_on or self.progress.status in ("done", "failed", "cancelled"):
            return self.progress.headline()
        return as_word(self.status)

    def seconds(self, now: datetime) -> float:
        """How long it has lasted."""
        return ((self.ended or now) - self.began).total_seconds() if self.began else 0.0


def page(sights: Sequence[Sight], now: datetime) -> RenderableType:
    """Draw runs one below the other."""
    return Group(*(part for sight in sights for part in _run(sight, now)))


def line(sight: Sight) -> str:
    """Say in one line how a run is; it stays the same as long as nothing has changed."""
    parts = [sight.headline]
    if progress := sight.progress:
        parts += [f"{s.title}: {s.in_words()}" for s in _worth_showing(progress) if not s.ended or sight.has_ended]
        parts.append(progress.calls_in_words())
        parts += [f"waits: {wait}" for wait in progress.waits_for]
    parts += filter(None, [sight.failure, *sight.troubles])
    return " ".join(f"{sight.workflow_id}: {'; '.join(parts)}".split())


def _run(sight: Sight, now: datetime) -> Iterator[RenderableType]:
    color = "red" if sight.failure else "green" if sight.has_ended else "cyan"
    head = Text.assemble((sight.workflow_id, "bold"), "  ", (sight.headline, color))
    if sight.began:
        head.append(f"  {duration(sight.seconds(now))}", "dim")
    yield head
    if progress := sight.progress:
        yield _indented(_scatters(progress))
        yield _indented(_working(progress, now))
        for wait in progress.waits_for:
            yield Text(f"  waits: {wait}", "yellow")
        for why in progress.last_failures[-3:]:
            yield Text(f"  failed: {why}", "red")
        yield Text(f"  {progress.calls_in_words()}", "dim")
    for trouble in filter(None, [sight.failure, *sight.troubles]):
        yield Text(f"  {trouble}", "red" if sight.failure else "yellow")
    yield Text()


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _scatters(progress: Progress) -> Table:
    grid = Table.grid(padding=(0, 2))
    for scatter in _worth_showing(progress):
        bar = ProgressBar(total=max(1, scatter.total), completed=scatter.done + scatter.failed, width=_BAR_WIDTH)
        grid.add_row(Text(scatter.title, "dim" if scatter.ended else ""), bar, Text(scatter.in_words()))
    return grid


def _working(progress: Progress, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2))
    for work in progress.working[:_WORKING_SHOWN]:
        since = duration(max(0.0, (now - work.since).total_seconds()))
        grid.add_row(Text(work.instance, "bold"), work.method, Text(work.item), Text(since, "dim"))
    more = progress.working_left_out + max(0, len(progress.working) - _WORKING_SHOWN)
    if more:
        grid.add_row(Text(f"… {more} more", "dim"))
    return grid


def _worth_showing(progress: Progress) -> list[ScatterProgress]:
    """Return the scatters that run, and the last ones that have ended."""
    ended = [scatter for scatter in progress.scatters if scatter.ended][-_ENDED_SHOWN:]
    running = [scatter for scatter in progress.scatters if not scatter.ended][:_SCATTERS_SHOWN]
    return [*ended, *running]


def duration(seconds: float) -> str:
    """Write a time in a few letters: `1 h 02 min`, `3 min 07 s`, `12 s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def from_here(path: Path) -> Path:
    """Return a path as it is written in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def as_word(status: WorkflowExecutionStatus) -> str:
    """Return what the server says of a run as the word that runs themselves use."""
    words = {WorkflowExecutionStatus.COMPLETED: "done", WorkflowExecutionStatus.CANCELED: "cancelled"}
    return words.get(status, status.name.lower().replace("_", " "))
