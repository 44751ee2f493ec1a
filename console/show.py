"""`python -m console show textkit`: who was asked what in a run, in which order, for how long and for how much."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from temporalio.service import RPCError, RPCStatusCode

from activities.border.context import workspaces_folder
from activities.contract.usage import Usage
from activities.workspace.site import Site
from console.history import CallSeen, RunSeen, read_run
from console.mermaid import sequence_diagram
from console.view import duration, from_here
from workflows.errors import SettingsInvalid
from workflows.serving.client import connect
from workflows.shown.progress import counted, money, tokens_of, used_in_words

_WIDTH_OF_A_FILE = 160
_WIDEST_COLUMN = 40
_FAILURES_TOLD = 20
_DECISIONS_TOLD = 20


def show(workflow_id: str, *, as_mermaid: bool) -> int:
    """Print a run's calls; return the exit code.

    Args:
        workflow_id: The run.
        as_mermaid: Whether to write a sequence diagram instead of a table.
    """
    try:
        run = asyncio.run(_read(workflow_id))
    except SettingsInvalid as error:
        print(f"show: {error}", file=sys.stderr)
        return 2
    except RPCError as error:
        print(f"show: {_trouble(error, workflow_id)}", file=sys.stderr)
        return 2
    if as_mermaid:
        print(sequence_diagram(run))
    else:
        print_table(run, Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE))
    return 0


def print_table(run: RunSeen, console: Console) -> None:
    """Print a table of a run's calls, and what they come to."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("at", "step", "who", "was asked to", "about", "how it ended"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_WIDEST_COLUMN)
    for name in ("took", "tokens", "USD"):
        table.add_column(name, no_wrap=True, justify="right")
    for call in run.calls:
        table.add_row(*_row(call, run))
    console.print(table)
    for text in [*_decisions(run), *_failures(run), *_summary(run)]:
        console.print(Text(text))


def _row(call: CallSeen, run: RunSeen) -> Iterable[Text]:
    used = bool(call.usage.model_calls)
    cost = "?" if call.usage.cost_usd is None else money(call.usage.cost_usd)
    cells = [
        duration((call.scheduled - run.began).total_seconds()),
        call.step,
        call.instance,
        call.method.partition(".")[2],
        call.item,
        _end(call),
        f"{call.seconds:.1f} s" if call.ended else "",
        f"{tokens_of(call.usage):,}" if used else "",
        cost if used else "",
    ]
    color = "red" if call.error else "" if call.ended else "cyan"
    return [Text(" ".join(cell.split()), color) for cell in cells]


def _end(call: CallSeen) -> str:
    if call.paused:
        return "waits for approval"
    if call.ended is None:
        return "runs"
    end = "done" if call.error is None else "cancelled" if call.error == "cancelled" else "failed"
    return f"{end} at attempt {call.attempts}" if call.attempts > 1 else end


def _decisions(run: RunSeen) -> Iterable[str]:
    decided = [(call, words) for call in run.calls for words in call.decided]
    for call, words in decided[:_DECISIONS_TOLD]:
        yield f"decided: step {call.step}, {' '.join(words.split())}"
    if len(decided) > _DECISIONS_TOLD:
        yield f"decided: {counted(len(decided) - _DECISIONS_TOLD, 'more tool')}"


def _failures(run: RunSeen) -> Iterable[str]:
    failed = [call for call in run.calls if call.error not in (None, "cancelled")]
    for call in failed[:_FAILURES_TOLD]:
        yield f"failed: step {call.step}, {call.method} ({call.summary}): {' '.join((call.error or '').split())}"
    if len(failed) > _FAILURES_TOLD:
        yield f"failed: {counted(len(failed) - _FAILURES_TOLD, 'more call')}"


def _summary(run: RunSeen) -> Iterable[str]:
    usage = sum((call.usage for call in run.calls), Usage())
    ended = f" after {duration((run.ended - run.began).total_seconds())}" if run.ended else ""
    words = [f"{run.outcome}{ended}", counted(len(run.calls), "call"), *used_in_words(usage)]
    yield f"{run.workflow_id} ({run.choreography}): {', '.join(words)}"
    if run.failure:
        yield f"failed: {' '.join(run.failure.split())}"
    yield from run.troubles
    yield from _repository(run)
    if run.beginning_lost:
        yield "The server does not keep all of this run's history any more: earlier calls are missing."


def _repository(run: RunSeen) -> Iterable[str]:
    if not run.has_repository:
        return
    site = Site.of_run(workspaces_folder(), run.workflow_id, run.first_run_id)
    if site.exists:
        yield f"Repository: {from_here(site.git.folder)}"
    else:
        under = "the folder that WORKSPACES names for the workers; it is not here"
        yield f"Repository: {site.folder.name}/{site.git.folder.name} in {under}"


async def _read(workflow_id: str) -> RunSeen:
    return await read_run(await connect(), workflow_id)


def _trouble(error: RPCError, workflow_id: str) -> str:
    if error.status == RPCStatusCode.NOT_FOUND:
        return f"there is no run '{workflow_id}' (any more). 'temporal workflow list' shows what there is."
    return f"the server can't tell of '{workflow_id}': {error.message}"
