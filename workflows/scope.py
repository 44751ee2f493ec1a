"""Where in the program something happens: the main line, or one item of a scatter.

A scope numbers what is called in it, so that a call's step id (`2.4.1`: first call in the fourth item of the second
step) is its place in the program, whatever the order in which things end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.pool import Waiter


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
    """

    path: str = ""
    title: str = ""
    parent: Scope | None = None
    children: list[Scope] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    waits: list[Waiter] = field(default_factory=list)
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


def current_scope() -> Scope:
    """Return the scope of the code that asks; a new main line where there is none, as in a unit test."""
    scope = _current.get()
    if scope is None:
        scope = Scope()
        _current.set(scope)
    return scope


@contextmanager
def inside(scope: Scope) -> Iterator[None]:
    """Make a scope the current one."""
    token = _current.set(scope)
    try:
        yield
    finally:
        # A run that a worker has let go of may be closed by the garbage collector, in somebody else's context.
        with suppress(ValueError):
            _current.reset(token)
