"""What a program began and never awaited: nothing of it happens, which is never what was meant."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from activities.border.author import Line
from workflows.engine.sdk import watch_tasks
from workflows.errors import NotAwaited


class Made(Protocol):
    """A call that was made."""

    step: str

    @property
    def name(self) -> str:
        """What was called."""


_MOST_NAMED = 5


class Unawaited:
    """The calls and scatters of a run that were made and that nobody has awaited yet."""

    def __init__(self) -> None:
        self._begun: dict[int, _Begun] = {}
        self._apart: list[_Begun] | None = None

    def call(self, call: Made) -> None:
        """Note a call that was made."""
        begun = _Begun(call, f"the call of {call.name}", call.step)
        if self._apart is None:
            self._begun[id(call)] = begun
        else:
            self._apart.append(begun)

    def work(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Note a scatter that was begun."""
        self._begun[id(work)] = _Begun(work, what)

    def is_awaited(self, begun: object) -> None:
        """Note that something is awaited, or was given to a task, which may be cancelled before it comes to that."""
        self._begun.pop(id(begun), None)

    def fails_below(self, path: str) -> None:
        """Forget what was begun in an item that failed: its body did not come to where it would have awaited it."""
        below = [key for key, begun in self._begun.items() if begun.step.startswith(f"{path}.")]
        for key in below:
            del self._begun[key]

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Be where calls are made that are not to be noted."""
        before, self._apart = self._apart, []
        try:
            yield
        finally:
            self._apart = before

    @contextmanager
    def all_but_one(self) -> Iterator[list[Made]]:
        """Be where calls are made, of which one is awaited elsewhere if it is put into the list."""
        awaited: list[Made] = []
        before, self._apart = self._apart, []
        try:
            yield awaited
        finally:
            made, self._apart = self._apart, before
        if awaited:
            self._begun.update((id(one.begun), one) for one in made if one.begun is not awaited[0])

    def watch_tasks(self) -> None:
        """Take notice of what is given to tasks of the run."""
        watch_tasks(self._is_given)

    def _is_given(self, work: Any) -> None:
        if self._begun:
            self.is_awaited(work)
            frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
            for given in frame.f_locals.values() if frame is not None else ():
                self.is_awaited(given)

    def check(self) -> None:
        """Complain of what was never awaited, now that the program has come to its end.

        Raises:
            NotAwaited: Names each with its line.
        """
        forgotten = [begun for begun in self._begun.values() if begun.was_to_be_awaited]
        for begun in self._begun.values():
            if asyncio.iscoroutine(begun.begun):
                begun.begun.close()  # else Python says it as well, in words of its own
        if forgotten:
            named = "; ".join(map(str, forgotten[:_MOST_NAMED]))
            more = len(forgotten) - _MOST_NAMED
            raise NotAwaited(
                f"{named}{f'; and {more} more' if more > 0 else ''}: never awaited, so nothing of it has happened. "
                "Write 'await' before it, also where it is returned or put into a list."
            )


class _Begun:
    """Something that was begun."""

    def __init__(self, begun: object, what: str, step: str = "") -> None:
        self.begun = begun  # held, so that nothing else gets its identity
        self._what = what
        self.step = step
        self._line = Line.here()
        self._task = asyncio.current_task()

    def __str__(self) -> str:
        return f"{self._what}{f' (step {self.step})' if self.step else ''} at {self._line}"

    @property
    def was_to_be_awaited(self) -> bool:
        """Whether the code that began it went on to its end: it is no fault of code that was stopped before."""
        task = self._task
        return task is None or not task.done() or (not task.cancelled() and task.exception() is None)
