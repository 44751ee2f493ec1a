"""The tree of what goes on in a run: its main line, and below it scatters, their items, phases and calls.

A scope numbers what is called in it, so that a call's step id (`2.4.1`: first call in the fourth item of the second
step) is its place in the program, whatever the order in which things end. It is in the tree from its beginning until it
has ended and nothing below it goes on. To begin and to end has the same price however large the tree is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, Self

from activities.contract.text import clip

SCATTERS_REMEMBERED = 50
"""Scatters that have ended and are remembered, the last ones."""

_FAILURES_REMEMBERED = 5
_FAILURE_LENGTH = 300


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


class Watch(Protocol):
    """Whoever is told of the phases and scatters of a tree."""

    def begins(self, scope: Scope) -> None:
        """Hear that one begins."""

    def ends(self, scope: Scope) -> None:
        """Hear that one has ended."""


@dataclass
class Tally:
    """What is counted in a tree, and remembered of what is in it no more.

    Attributes:
        calls: How many are at work, by role.
        scatters_begun: How many there were.
        scatters_ended: The last of those that have.
        failed_items: How many items of scatters failed.
        failures: The last of these, each in words.
        watch: Whoever is told of its phases and scatters.
    """

    calls: Counter[str] = field(default_factory=Counter)
    scatters_begun: int = 0
    scatters_ended: deque[ScatterScope] = field(default_factory=lambda: deque(maxlen=SCATTERS_REMEMBERED))
    failed_items: int = 0
    failures: deque[str] = field(default_factory=lambda: deque(maxlen=_FAILURES_REMEMBERED))
    watch: Watch | None = None


@dataclass(eq=False)
class Scope:
    """A part of the program that runs in sequence: the main line, an item of a scatter, or a task of the program's own.

    A context manager: it goes on as long as the block does.

    Attributes:
        path: Its step id; empty for the main line.
        title: What it works on, for people.
        parent: The scope that waits for this one.
        since: Since when it is at work, in the run's time; None as long as it waits for its turn or an instance.
        children: What goes on in it, in the order in which it began.
        ended: Whether it has.
        holds: Names of the instances that it has claimed.
        waits: The claims that it waits for.
        task: The task whose steps it numbers.
        rounds: How many scatters of each method there were in it.
        tally: What is counted in its tree.
    """

    path: str = ""
    title: str = ""
    parent: Scope | None = None
    since: datetime | None = None
    children: dict[Scope, None] = field(default_factory=dict, init=False, repr=False)
    ended: bool = field(default=False, init=False)
    holds: list[str] = field(default_factory=list, init=False)
    waits: list[Claim] = field(default_factory=list, init=False)
    task: asyncio.Task[Any] | None = field(default=None, init=False)
    rounds: dict[str, int] = field(default_factory=dict, init=False)
    tally: Tally = field(init=False, repr=False)
    _steps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tally = self.parent.tally if self.parent is not None else Tally()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Put it into the tree."""
        scope: Scope = self
        while scope.parent is not None and scope not in scope.parent.children:
            scope.parent.children[scope] = None
            scope = scope.parent  # which may have ended, and been taken out

    def end(self) -> None:
        """Take it out of the tree, as soon as nothing below it goes on."""
        self.ended = True
        scope: Scope = self
        while scope.parent is not None and scope.ended and not scope.children:
            scope.parent.children.pop(scope, None)
            scope = scope.parent

    def child(self, path: str, title: str = "") -> Scope:
        """Return a scope that this one waits for, once it has begun."""
        return Scope(path, title, parent=self)

    @property
    def place(self) -> Scope:
        """The scope that numbers the steps in this one: itself, but for a phase."""
        return self

    def next_step(self) -> str:
        """Return the id of the next step in this scope."""
        place = self.place
        place._steps += 1
        return f"{place.path}.{place._steps}" if place.path else str(place._steps)

    def everything_below(self) -> Iterator[Scope]:
        """Walk this scope and all below it, the outer ones first."""
        found = deque([self])
        while found:
            scope = found.popleft()
            found.extend(scope.children)
            yield scope


@dataclass(eq=False)
class PhaseScope(Scope):
    """A part of the program that its author has named. It numbers no steps: they are the same with and without it."""

    def begin(self) -> None:
        """Put it into the tree."""
        super().begin()
        if self.tally.watch is not None:
            self.tally.watch.begins(self)

    def end(self) -> None:
        """Take it out of the tree."""
        super().end()
        if self.tally.watch is not None:
            self.tally.watch.ends(self)

    @property
    def place(self) -> Scope:
        """The scope that numbers the steps in it."""
        return self.parent.place if self.parent is not None else self

    def names(self) -> tuple[str, ...]:
        """Return its name and those of the phases around it, the outermost first."""
        around = self.parent
        while around is not None and not isinstance(around, PhaseScope):
            around = around.parent
        return (self.title,) if around is None else (*around.names(), self.title)


@dataclass(eq=False)
class ScatterScope(Scope):
    """A scatter, entitled by its pool until its first call; its children are the items that have begun and not ended.

    Attributes:
        total: The number of its items.
        done: How many of them have ended well.
        failed: How many have not.
        method: What is done to them, as soon as it is known.
        round: How many scatters of this method, with this one, there were at this place of the program.
    """

    total: int = 0
    done: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)
    method: str = field(default="", init=False)
    round: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._entitle(self.title)

    def begin(self) -> None:
        """Put it into the tree, and count it."""
        super().begin()
        self.tally.scatters_begun += 1
        if self.tally.watch is not None:
            self.tally.watch.begins(self)

    def end(self) -> None:
        """Take it out of the tree, and remember it."""
        super().end()
        self.tally.scatters_ended.append(self)
        if self.tally.watch is not None:
            self.tally.watch.ends(self)

    def does(self, method: str) -> None:
        """Learn from its first call what is done to its items."""
        if self.method or self.parent is None:
            return
        rounds = self.parent.place.rounds
        self.method, self.round = method, rounds.get(method, 0) + 1
        rounds[method] = self.round
        self._entitle(f"{method}, round {self.round}" if self.round > 1 else method)

    def item_fails(self, title: str, why: str) -> None:
        """Count an item that failed, wherever it was worked on, and remember why."""
        self.failed += 1
        self.tally.failed_items += 1
        self.tally.failures.append(f"{title}: {clip(why, _FAILURE_LENGTH)}")

    def _entitle(self, name: str) -> None:
        within = self.parent.place.title if self.parent is not None else ""
        self.title = f"{within}: {name}" if within else name


@dataclass(eq=False)
class CallScope(Scope):
    """A call of an agent method; it is at work from when it is sent until the program is told how it ended.

    Attributes:
        role: The role that it is made to.
        method: `Coder.implement_module`.
        instance: Who makes it, as soon as that is known.
    """

    role: str = ""
    method: str = ""
    instance: str = ""

    def send(self, now: datetime) -> None:
        """Be at work; a scatter learns from its first call what is done to its items."""
        self.since = now
        self.tally.calls[self.role] += 1
        item = self.parent.place if self.parent is not None else None
        if item is not None and isinstance(item.parent, ScatterScope):
            item.parent.does(self.method)

    def pause(self) -> None:
        """Be at work no more, unless it is sent again."""
        if self.since is not None:
            self.since = None
            self.tally.calls[self.role] -= 1

    def end(self) -> None:
        """Take it out of the tree."""
        self.pause()
        super().end()
