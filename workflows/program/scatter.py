"""`scatter` and `fan_out`: one body over many items, by as many instances as the pool has.

reviews = await scatter(modules, reviewer, lambda r, m: r.review_module(m.module_path, m.test_path))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeVar, get_args, overload

from temporalio import workflow

from activities.border.author import Line
from activities.contract.text import clip
from activities.errors import says_stop
from workflows.engine.run import Run
from workflows.engine.sdk import STOPPED
from workflows.engine.together import together
from workflows.errors import BodyInvalid, ItemFailed, tell
from workflows.program.items import listed
from workflows.program.label import label
from workflows.program.role import Role, held_instance, pool_of
from workflows.program.sharding import Sharding
from workflows.tree.current import inside, numbering_scope, run_time
from workflows.tree.scope import ScatterScope, Scope

A = TypeVar("A")
K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

OnError = Literal["raise", "collect"]
Body = Callable[[A, T], Awaitable[R]]
Group = tuple[Iterable[Any], Any, Callable[[Any, Any], Awaitable[R]]]


@overload
def scatter(
    items: Iterable[T],
    pool: A,
    body: Body[A, T, R],
    *,
    key: Callable[[T], Hashable] | None = ...,
    on_error: Literal["raise"] = ...,
) -> Coroutine[Any, Any, list[R]]: ...
@overload
def scatter(
    items: Iterable[T],
    pool: A,
    body: Body[A, T, R],
    *,
    key: Callable[[T], Hashable] | None = ...,
    on_error: Literal["collect"],
) -> Coroutine[Any, Any, list[R | ItemFailed]]: ...
def scatter(
    items: Iterable[T],
    pool: A,
    body: Body[A, T, R],
    *,
    key: Callable[[T], Hashable] | None = None,
    on_error: OnError = "raise",
) -> Coroutine[Any, Any, Any]:
    """Do the same for every item: claim an instance, run the body with it, release it.

    Args:
        items: Any iterable of at most a million items but a set, whose order is another one in every process; it is
            read to its end first.
        pool: A role of the choreography. As many items are worked on at a time as its pool has instances. In a unit
            test any object with the right methods, which then works on one item at a time.
        body: Gets an instance and an item; returns something to await: a bare call, or a coroutine that may call its
            instance several times and other roles as well.
        key: What an item is about. It goes to the instance that last worked on the same key, if that is free: a fix
            goes back to its author, who remembers.
        on_error: `raise` cancels what is still running at the first error, waits for it, and raises. `collect` goes on
            and returns the error in the item's place.

    Returns:
        The bodies' results, in the order of the items.

    Raises:
        ItemFailed: A body failed; names item and instance, the error is its cause.
        ItemsRefused: The items are a set, or too many.
        ClaimCycle: A claim could never be granted.
    """
    given = listed(items)

    async def work() -> list[Any]:
        return await _Scatter(given, pool, body, on_error, key).run()

    return _to_be_awaited(work, "the scatter")


# A dict is an iterable of its keys too: one whose keys are groups is taken for a dict of groups.
@overload
def fan_out(  # type: ignore[overload-overlap]
    groups: Mapping[K, Group[R]], *, on_error: Literal["raise"] = ...
) -> Coroutine[Any, Any, dict[K, list[R]]]: ...
@overload
def fan_out(  # type: ignore[overload-overlap]
    groups: Mapping[K, Group[R]], *, on_error: Literal["collect"]
) -> Coroutine[Any, Any, dict[K, list[R | ItemFailed]]]: ...
@overload
def fan_out(groups: Iterable[Group[R]], *, on_error: Literal["raise"] = ...) -> Coroutine[Any, Any, list[list[R]]]: ...
@overload
def fan_out(
    groups: Iterable[Group[R]], *, on_error: Literal["collect"]
) -> Coroutine[Any, Any, list[list[R | ItemFailed]]]: ...
def fan_out(
    groups: Mapping[Any, Group[Any]] | Iterable[Group[Any]], *, on_error: OnError = "raise"
) -> Coroutine[Any, Any, dict[Any, list[Any]] | list[list[Any]]]:
    """Run several scatters at the same time.

    Args:
        groups: Of items, pool and body each, as `scatter` takes them: a list of them, or a dict by names of your own.
        on_error: As in `scatter`; an error that is raised cancels the other groups as well.

    Returns:
        A list of results for each group: a list of these in the order of the groups, or a dict by the same names.
    """
    names = listed(groups, "fan_out") if isinstance(groups, Mapping) else None
    each = groups.values() if isinstance(groups, Mapping) else listed(groups, "fan_out")
    given = [(listed(items, "fan_out"), pool, body) for items, pool, body in each]

    async def work() -> dict[Any, list[Any]] | list[list[Any]]:
        scatters = [_Scatter(items, pool, body, on_error) for items, pool, body in given]
        results = await together([group.run() for group in scatters])
        return results if names is None else dict(zip(names, results, strict=True))

    return _to_be_awaited(work, "the fan_out")


def _to_be_awaited(work: Callable[[], Coroutine[Any, Any, R]], what: str) -> Coroutine[Any, Any, R]:
    """Begin work that must not be forgotten, as a call must not be."""
    if not workflow.in_workflow():
        return work()
    unawaited = Run.current().unawaited

    async def awaited() -> R:
        unawaited.is_awaited(coroutine)
        return await work()

    coroutine = awaited()
    unawaited.work(coroutine, what)
    return coroutine


class _Scatter:
    """One scatter while it runs: as many lines as the pool has instances draw from one list of items."""

    def __init__(
        self,
        items: Sequence[Any],
        pool: Any,
        body: Callable[[Any, Any], Awaitable[Any]],
        on_error: OnError,
        key: Callable[[Any], Hashable] | None = None,
    ) -> None:
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error={on_error!r} is none of {', '.join(get_args(OnError))}")
        self.items = items
        self.pool = pool
        self.body = body
        self.on_error = on_error
        self.key = key
        self.results: list[Any] = [None] * len(items)
        around = numbering_scope()
        self.scope = ScatterScope(around.next_step(), _name_of(pool), around, run_time(), total=len(items))

    async def run(self) -> list[Any]:
        todo: Sequence[int] = range(len(self.items))
        with self.scope:
            if isinstance(self.pool, Role) and self.key is None:
                sharding = Sharding(self.pool, self.items, self.body, self.scope)
                if sharding.is_possible():
                    todo = await sharding.run(self._failed, stop_at_error=self.on_error == "raise")
                    self.results = sharding.results
            width = len(pool_of(self.pool)) if isinstance(self.pool, Role) else 1
            drawing = iter(todo)
            await together([self._line(drawing) for _ in range(min(width, len(todo)))])
        return self.results

    async def _line(self, todo: Iterator[int]) -> None:
        for index in todo:
            item = self.items[index]
            about = self.key(item) if self.key else None
            with self.scope.child(f"{self.scope.path}.{index + 1}", label(item)) as scope, inside(scope):
                async with _claimed(self.pool, scope, about) as (worker, name):
                    scope.since = run_time()
                    self.results[index] = await self._one(worker, name, index, scope)

    async def _one(self, worker: Any, name: str, index: int, scope: Scope) -> Any:
        try:
            result = await self._begun(worker, index)
        except (Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:  # two would end the worker
            if says_stop(error):
                raise
            if workflow.in_workflow():
                Run.current().unawaited.fails_below(scope.path)
            self.scope.item_fails(scope.title, tell(error))
            return self._failed(index, name, error)
        self.scope.done += 1
        return result

    def _begun(self, worker: Any, index: int) -> Awaitable[Any]:
        made: Any = self.body(worker, self.items[index])
        if not isinstance(made, Awaitable):
            written = Line.of(self.body) or repr(self.body)
            raise BodyInvalid(
                f"the body of the scatter ({written}) returned {clip(repr(made), 100)}, "
                "which can't be awaited: return the call, or write 'async def' and await it there."
            )
        return made

    def _failed(self, index: int, name: str, error: BaseException) -> ItemFailed:
        """Return what stands in the place of an item's result, or raise it."""
        failed = ItemFailed(index, label(self.items[index]), name, error)
        if self.on_error == "raise":
            raise failed from error
        failed.__cause__ = error
        return failed


@asynccontextmanager
async def _claimed_instance(role: Role, scope: Scope, about: Hashable) -> Any:
    pool = pool_of(role)
    async with pool.claimed(scope, prefer=pool.last_on.get(about)) as name:
        if about is not None:
            pool.last_on[about] = name
        worker, held = held_instance(role, name)
        try:
            yield worker, name
        except STOPPED:
            await held.end()
            raise
        await held.end()


@asynccontextmanager
async def _the_object_itself(worker: Any) -> Any:
    yield worker, _name_of(worker)


def _claimed(pool: Any, scope: Scope, about: Hashable) -> AbstractAsyncContextManager[tuple[Any, str]]:
    return _claimed_instance(pool, scope, about) if isinstance(pool, Role) else _the_object_itself(pool)


def _name_of(worker: Any) -> str:
    return str(getattr(worker, "name", type(worker).__name__))
