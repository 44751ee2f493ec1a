"""Where in the program something happens: the main line, or one item of a scatter.

A scope numbers what is called in it, so that a call's step id (`2.4.1`: first call in the fourth item of the second
step) is its place in the program, whatever the order in which things end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol


class Claim(Protocol):
    """A wait for an instance of a pool.

    Attributes:
        only: The one instance that will do; None if any will.
        granted: The instance, as soon as it is had.
    """

    only: str | None
    granted: asyncio.Future[str]

    @property
    def role(self) -> str:
        """Whose instances they are."""

    def candidates(self) -> Sequence[str]:
        """Return the instances of which any one would do."""

    def holders(self) -> list[Scope]:
        """Return the scopes that hold them, in the same order."""


@dataclass(eq=False)
class Scope:
    """A part of the program that runs in sequence.

    Attributes:
        path: Its step id; empty for the main line.
        title: What it works on, for people.
        parent: The scope that waits for this one.
        children: The scopes that this one waits for.
        holds: Names of the instances that it has claimed.
        waits: The claims that it waits for.
        task: The task whose steps it numbers.
    """

    path: str = ""
    title: str = ""
    parent: Scope | None = None
    children: list[Scope] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    waits: list[Claim] = field(default_factory=list)
    task: asyncio.Task[Any] | None = None
    _steps: int = 0

    def next_step(self) -> str:
        """Return the id of the next step in this scope."""
        self._steps += 1
        return f"{self.path}.{self._steps}" if self.path else str(self._steps)

    @contextmanager
    def child(self, path: str, title: str = "") -> Iterator[Scope]:
        """Open a scope that this one waits for."""
        inner = Scope(path, title, parent=self)
        self.children.append(inner)
        try:
            yield inner
        finally:
            self.children.remove(inner)

    def holds_anything(self) -> bool:
        """Whether this scope, or one that waits for it, has claimed an instance."""
        scope: Scope | None = self
        while scope is not None:
            if scope.holds:
                return True
            scope = scope.parent
        return False

    def everything_below(self) -> Iterator[Scope]:
        """Walk this scope and all that it waits for."""
        yield self
        for inner in self.children:
            yield from inner.everything_below()


_current: ContextVar[Scope | None] = ContextVar("scope", default=None)


def in_the_program() -> bool:
    """Whether the code that asks belongs to the choreography, and is not the harness's own business."""
    return _current.get() is not None


def current_scope() -> Scope:
    """Return the scope of the code that asks; a new main line where there is none, as in a unit test."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)
    return scope


def numbering_scope() -> Scope:
    """Return the scope in which the code that asks numbers its steps: one of its own for each task.

    Else the numbers in tasks that run side by side would tell who came first.
    """
    scope = current_scope()
    task = _current_task()
    if scope.task is None:
        scope.task = task
    if task is None or scope.task is task:
        return scope
    own = Scope(scope.next_step(), parent=scope, task=task)
    scope.children.append(own)
    task.add_done_callback(lambda _: scope.children.remove(own))
    _current.set(own)
    return own


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


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop is running
        return None
