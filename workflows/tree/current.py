"""Where in the tree the code is that asks: each task of a program has its scope, and what it begins is below that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from temporalio import workflow

from workflows.tree.scope import PhaseScope, Scope

_current: ContextVar[Scope | None] = ContextVar("scope", default=None)


def in_the_program() -> bool:
    """Whether the code that asks belongs to the choreography, and is not the harness's own business."""
    return _current.get() is not None


def run_time() -> datetime | None:
    """Return the time in the run whose code is executing; None where there is no run, as in a unit test."""
    return workflow.now() if workflow.in_workflow() else None


def current_scope() -> Scope:
    """Return the scope of the code that asks; a new main line where there is none, as in a unit test."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)
    return scope


def numbering_scope() -> Scope:
    """Return the scope of the code that asks, now one in which its task alone numbers steps.

    Else the numbers in tasks that run side by side would tell who came first.
    """
    scope = current_scope()
    task = _current_task()
    place = scope.place
    if place.task is None:
        place.task = task
    if task is not None and place.task is not task:
        _give_own(task, scope)
    return current_scope()


@contextmanager
def inside(scope: Scope | None) -> Iterator[None]:
    """Make a scope the current one; None for what is the harness's own business."""
    if scope is not None and scope.task is None:
        scope.task = _current_task()
    token = _current.set(scope)
    try:
        yield
    finally:
        # A run that a worker has let go of may be closed by the garbage collector, in somebody else's context.
        with suppress(ValueError):
            _current.reset(token)


def enter_phase(name: str) -> PhaseScope:
    """Begin a phase in the current scope, and make it the current one."""
    phase = PhaseScope(title=name, parent=current_scope(), since=run_time())
    phase.task = _current_task()
    phase.begin()
    _current.set(phase)
    return phase


def leave_phase(phase: PhaseScope) -> None:
    """End a phase; the scope around it is the current one again."""
    phase.end()
    if _current.get() is phase:  # else it is left by the garbage collector, in somebody else's context
        _current.set(phase.parent)


def _give_own(task: asyncio.Task[Any], scope: Scope) -> None:
    """Give a task a scope of its own, around the phases that it has entered so far."""
    phase: Scope | None = None
    while isinstance(scope, PhaseScope) and scope.task is task and scope.parent is not None:
        phase, scope = scope, scope.parent
    own = Scope(scope.next_step(), parent=scope)
    own.task = task
    own.begin()
    task.add_done_callback(lambda _: own.end())
    if phase is None:
        _current.set(own)
    else:
        del scope.children[phase]
        own.children[phase] = None
        phase.parent = own


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None
