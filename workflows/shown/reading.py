"""What a run's tree says to somebody who looks: how far the run is, who works on what since when, what goes on.

Functions of the tree and the board, which leave both as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from workflows.shown.board import Board
from workflows.shown.progress import Account, Progress, RoleProgress, ScatterProgress, Working
from workflows.tree.scope import CallScope, PhaseScope, ScatterScope, Scope

SCATTERS_LISTED = 50
"""Scatters in one answer: those under way first, then those that ended last."""

WORKING_LISTED = 100
"""Instances in one answer."""

_NAMED_AT_ONCE = 3
"""Phases, scatters or methods that are named when several run at the same time."""

_STATUS_LENGTH = 150


def progress(
    main: Scope, board: Board, *, choreography: str, status: str, waits_for: list[str], instances: Mapping[str, int]
) -> Progress:
    """Tell how far a run is.

    Args:
        main: The root of its tree.
        board: What it has counted.
        choreography: Its program.
        status: In words.
        waits_for: What it waits for, each in words.
        instances: The size of each role's pool.
    """
    totals = board.totals()
    total = sum(totals.values(), Account())
    running = board.running(main.tally.calls)
    scatters, working = _scatters(main, board), calls_at_work(main)[:WORKING_LISTED]
    return Progress(
        choreography=choreography,
        status=status,
        phase=what_goes_on(main),
        scatters=scatters,
        scatters_left_out=main.tally.scatters_begun - len(scatters),
        working=[
            Working(instance=call.instance, method=call.method, item=call.title, step=call.path, since=since)
            for call, since in working
        ],
        working_left_out=running.total() - len(working),
        calls_done=total.calls_done,
        calls_running=running.total(),
        calls_failed=total.calls_failed,
        failed_items=failed_items(main, board),
        last_failures=list(main.tally.failures),
        waits_for=waits_for,
        roles=[
            RoleProgress(
                role=role,
                instances=size,
                calls_running=running[role],
                **dict(totals.get(role, Account())),
            )
            for role, size in instances.items()
        ],
        usage=total.usage,
    )


def what_goes_on(main: Scope) -> str:
    """Name the innermost phases, or if there are none the outermost scatters, or the calls."""
    scopes = list(main.everything_below())
    phases = Counter(scope.names() for scope in scopes if isinstance(scope, PhaseScope) and not scope.ended)
    if phases:
        return _named(
            " / ".join(names) + (f" ({times})" if times > 1 else "")
            for names, times in phases.items()
            if not any(other[: len(names)] == names for other in phases if other != names)
        )
    if scatters := list(_under_way(scopes)):
        outermost = min(scatter.path.count(".") for scatter in scatters)
        return _named(scatter.title for scatter in scatters if scatter.path.count(".") == outermost)
    return _named(call.method for call, _ in calls_at_work(main))


def calls_at_work(main: Scope) -> list[tuple[CallScope, datetime]]:
    """Return the calls that somebody may be working on, with since when, the oldest first."""
    found = [
        (scope, scope.since)
        for scope in main.everything_below()
        if isinstance(scope, CallScope) and scope.since is not None
    ]
    return sorted(found, key=lambda call: call[1])


def is_under_way(main: Scope, step: str) -> bool:
    """Whether the call of a step is."""
    return any(call.path == step for call, _ in calls_at_work(main))


def calls_running(main: Scope, board: Board) -> int:
    """Return how many calls are at work; the tree is not walked for it."""
    return board.running(main.tally.calls).total()


def failed_items(main: Scope, board: Board) -> int:
    """Return how many items of scatters failed."""
    return main.tally.failed_items + board.items_elsewhere().failed


def status(board: Board, waits_for: list[str], *, paused: str | None = None, stuck: bool = False) -> str:
    """Say in words how a run is.

    Args:
        board: What it has counted.
        waits_for: All that it waits for.
        paused: Why it makes no more calls; empty if a person has paused it, None if it does.
        stuck: Whether nothing goes on while it waits.
    """
    if board.ended is not None:
        return board.ended
    if paused is not None:
        return _first_sentence(f"waits: {paused}") if paused else "paused"
    if waits_for and stuck:
        return _first_sentence(f"waits: {waits_for[0]}")
    return "running"


def _scatters(main: Scope, board: Board) -> list[ScatterProgress]:
    under_way = list(_under_way(main.everything_below()))[:SCATTERS_LISTED]
    room = SCATTERS_LISTED - len(under_way)
    ended = list(main.tally.scatters_ended)[-room:] if room else []
    return [_scatter(scatter, board) for scatter in (*ended, *under_way)]


def _scatter(scatter: ScatterScope, board: Board) -> ScatterProgress:
    elsewhere = board.items_elsewhere(scatter.path)
    at_work = sum(1 for item in scatter.children if item.since is not None and not item.ended)
    done, failed = scatter.done + elsewhere.done, scatter.failed + elsewhere.failed
    running = at_work + elsewhere.running
    return ScatterProgress(
        step=scatter.path,
        title=scatter.title,
        total=scatter.total,
        done=done,
        running=running,
        waiting=max(0, scatter.total - done - running - failed),
        failed=failed,
        ended=scatter.ended,
    )


def _under_way(scopes: Iterable[Scope]) -> Iterator[ScatterScope]:
    return (scope for scope in scopes if isinstance(scope, ScatterScope) and not scope.ended)


def _named(names: Iterable[str]) -> str:
    different = list(dict.fromkeys(names))
    more = len(different) - _NAMED_AT_ONCE
    return ", ".join([*different[:_NAMED_AT_ONCE], *([f"{more} more"] if more > 0 else [])])


def _first_sentence(text: str) -> str:
    sentence = text.partition(". ")[0]
    return sentence if len(sentence) <= _STATUS_LENGTH else f"{sentence[: _STATUS_LENGTH - 1]}…"
