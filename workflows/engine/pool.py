"""Pools: the instances of a role, handed out first come, first served.

A claim that can never be granted raises at once. Who can go on is found as in a graph of waits: a scope can go on if
every claim that it waits for has an instance whose holder can go on, and if every scope that it waits for can.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from workflows.errors import ClaimCycle, UnknownInstance
from workflows.tree.scope import CallScope, Claim, PhaseScope, ScatterScope, Scope


@dataclass(eq=False)
class Waiter:
    """A claim that waits for an instance, or for one named instance, of a pool."""

    pool: Pool
    scope: Scope
    only: str | None
    granted: asyncio.Future[str]

    @property
    def role(self) -> str:
        """Whose instances they are."""
        return self.pool.role

    def candidates(self) -> Sequence[str]:
        """Return the instances of which any one would do."""
        return [self.only] if self.only else self.pool.instances

    def holders(self) -> list[Scope]:
        """Return the scopes of which any one must release its instance first."""
        return [self.pool.holders[name] for name in self.candidates()]


class Pool:
    """The instances of a role, each doing one thing at a time."""

    def __init__(self, role: str, instances: Sequence[str], *, named: bool = False) -> None:
        """Make a pool.

        Args:
            role: The parameter of the choreography.
            instances: Their names.
            named: Whether whoever wrote the choreography chose the names; such instances outlive the run.
        """
        self.role = role
        self.instances = tuple(instances)
        self.named = named
        self.holders: dict[str, Scope] = {}
        self.last_on: dict[Hashable, str] = {}
        """Which instance last worked on what, by the keys of scatters."""
        self._free = deque(instances)
        self._waiters: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self.instances)

    @asynccontextmanager
    async def claimed(self, scope: Scope, only: str | None = None, prefer: str | None = None) -> AsyncIterator[str]:
        """Hold an instance: the one that is preferred, if it is free, else the one that has been free longest.

        Args:
            scope: Who claims it.
            only: The one instance that will do.
            prefer: The one that is taken if it is free.

        Raises:
            ClaimCycle: The instance could never be had.
            UnknownInstance: There is none of that name.
        """
        name = await self._claim(scope, only, prefer)
        scope.holds.append(name)
        try:
            yield name
        finally:
            scope.holds.remove(name)
            self._release(name)

    @asynccontextmanager
    async def claimed_several(self, scope: Scope, most: int) -> AsyncIterator[list[str]]:
        """Hold an instance, and as many more as are free at that moment.

        Args:
            scope: Who claims them.
            most: How many will do.

        Raises:
            ClaimCycle: Not even one could ever be had.
        """
        names = [await self._claim(scope, None, None)]
        while self._free and len(names) < most:
            names.append(self._take(self._free[0], scope))
        scope.holds.extend(names)
        try:
            yield names
        finally:
            for name in names:
                scope.holds.remove(name)
                self._release(name)

    async def _claim(self, scope: Scope, only: str | None, prefer: str | None) -> str:
        if only is not None and only not in self.instances:
            raise UnknownInstance(
                f"The role '{self.role}' has no instance '{only}' in this run; it has {', '.join(self.instances)}."
            )
        free = self._free if only is None else [name for name in self._free if name == only]
        if free:
            return self._take(prefer if prefer is not None and prefer in free else free[0], scope)
        return await self._wait(Waiter(self, scope, only, asyncio.get_running_loop().create_future()))

    def _take(self, name: str, scope: Scope) -> str:
        self._free.remove(name)
        self.holders[name] = scope
        return name

    async def _wait(self, waiter: Waiter) -> str:
        self._waiters.append(waiter)
        waiter.scope.waits.append(waiter)
        try:
            if _holds_anything(waiter.scope):
                _refuse_cycle(waiter)
            return await waiter.granted
        except BaseException:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._release(waiter.granted.result())
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        finally:
            waiter.scope.waits.remove(waiter)

    def _release(self, name: str) -> None:
        del self.holders[name]
        for waiter in self._waiters:
            if name in waiter.candidates() and not waiter.granted.done():
                self._waiters.remove(waiter)
                self.holders[name] = waiter.scope
                waiter.granted.set_result(name)
                return
        self._free.append(name)


def _holds_anything(scope: Scope | None) -> bool:
    """Whether a scope, or one that waits for it, has claimed an instance."""
    while scope is not None and not scope.holds:
        scope = scope.parent
    return scope is not None


def _refuse_cycle(waiter: Waiter) -> None:
    able = _able_to_go_on(waiter.scope)
    if waiter.scope in able:
        return
    raise ClaimCycle(
        f"{_who(waiter.scope)} claims {waiter.only or 'an instance of ' + waiter.pool.role}, which can never be free: "
        f"{_cycle(waiter, able)}. Give the pool more instances, or claim in the same order everywhere."
    )


def _able_to_go_on(claimer: Scope) -> set[Scope]:
    """Return those of the scopes that the claimer depends on, itself among them, that can go on."""
    scopes = [claimer]
    seen = {claimer}
    for scope in scopes:
        for other in _depends_on(scope):
            if other not in seen:
                seen.add(other)
                scopes.append(other)
    able: set[Scope] = set()
    found = True
    while found:
        found = False
        for scope in scopes:
            if scope not in able and _can_go_on(scope, able):
                able.add(scope)
                found = True
    return able


def _depends_on(scope: Scope) -> Iterator[Scope]:
    yield from _waited_for(scope)
    for waiter in _waits_of(scope):
        yield from waiter.holders()


def _can_go_on(scope: Scope, able: set[Scope]) -> bool:
    return all(any(holder in able for holder in waiter.holders()) for waiter in _waits_of(scope)) and all(
        inner in able for inner in _waited_for(scope)
    )


def _waited_for(scope: Scope) -> list[Scope]:
    """Return the children without whose end a scope can't go on: an item that has ended is waited for no more."""
    # That a phase was left says nothing about who waits for what goes on in it.
    return [inner for inner in scope.children if not inner.ended or isinstance(inner, PhaseScope)]


def _waits_of(scope: Scope) -> list[Claim]:
    # A claim that was granted or cancelled a moment ago, in the same turn of the loop, is no wait any more.
    return [waiter for waiter in scope.waits if not waiter.granted.done()]


def _cycle(waiter: Waiter, able: set[Scope]) -> str:
    """Tell who holds what is claimed, what they wait for, who holds that, and so on until it comes round."""
    told: list[str] = []
    seen: list[Scope] = []
    current: Claim | None = waiter
    while current is not None:
        name = current.candidates()[0]
        holder = current.holders()[0]
        if holder in seen:
            break
        seen.append(holder)
        told.append(f"{name} is held by {_who(holder)}")
        waits = [wait for scope in holder.everything_below() for wait in _waits_of(scope)]
        current = next((wait for wait in waits if able.isdisjoint(wait.holders())), None)
        if current is not None:
            told[-1] += f", which waits for {'this' if current is waiter else current.only or current.role}"
    return "; ".join(told)


def _who(scope: Scope) -> str:
    known: Scope | None = scope
    while known is not None and (not known.title or isinstance(known, (CallScope, PhaseScope, ScatterScope))):
        known = known.parent
    return f"the work on {known.title} (step {known.path})" if known else "the program"
