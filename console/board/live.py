"""What goes on, to whoever looks: one look at a run for all who watch it, and the newest of it to each.

A slow reader holds nothing up: it misses what was in between. When nobody watches, nobody looks.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

EVERY_S = 1.0
"""Seconds between two looks."""

GLANCE_EVERY_S = 0.2
"""Seconds between two glances in between."""

PING_S = 15.0
"""Seconds after which something is sent in any case, so that a connection that is gone is noticed."""

S = TypeVar("S")

Parts = Mapping[str, str]
"""Parts of a page, by their names."""


class Look(Generic[S]):
    """A look at something that many want to see at about the same time: one for all of them."""

    def __init__(self, look: Callable[[], Awaitable[S]]) -> None:
        """Be ready to look.

        Args:
            look: Returns what there is to be seen.
        """
        self._look = look
        self._began = -math.inf
        self._looking: asyncio.Future[S] | None = None

    async def now(self) -> S:
        """Return what is seen, or was seen less than a second ago."""
        now = asyncio.get_running_loop().time()
        if self._looking is None or now - self._began > 0.9 * EVERY_S:
            self._began, self._looking = now, asyncio.ensure_future(self._look())
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._looking)

    def is_old(self) -> None:
        """Have the next look be a new one."""
        self._began = -math.inf

    def found(self, seen: S, began: float) -> None:
        """Take in what somebody has seen who looked for themselves.

        Args:
            seen: It.
            began: When they began to look, by the loop's clock.
        """
        if began > self._began:
            self._began, self._looking = began, asyncio.get_running_loop().create_future()
            self._looking.set_result(seen)


@dataclass(eq=False)
class _Reader:
    """Somebody who watches: what it has not been sent yet.

    Attributes:
        news: That.
        there: Whether there is any.
        is_new: Whether nothing was seen for it yet: what was seen before it came may be older than what it has.
        is_over: Whether there will be no more.
    """

    news: dict[str, str] = field(default_factory=dict)
    there: asyncio.Event = field(default_factory=asyncio.Event)
    is_new: bool = True
    is_over: bool = False

    def tell(self, parts: Parts) -> None:
        self.news.update(parts)
        self.there.set()


class Watched:
    """A page that changes, and those who watch it."""

    def __init__(
        self,
        look: Callable[[], Awaitable[tuple[Parts, bool]]],
        glance: Callable[[], Awaitable[Parts | None]] | None = None,
    ) -> None:
        """Be watched.

        Args:
            look: Returns the parts of the page as they are now, and whether they will change no more.
            glance: Returns those that change often, to be asked between two looks; None if it is time for a look.
        """
        self._look = look
        self._glance = glance
        self._readers: set[_Reader] = set()
        self._shown: dict[str, str] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anybody looks."""
        return bool(self._readers)

    async def parts(self) -> AsyncIterator[Parts]:
        """Yield what is new: all parts first, then those that have changed; nothing now and then, as a sign of life."""
        reader = _Reader()
        self._readers.add(reader)
        if self._looking is None or self._looking.done():  # it is when it has failed
            self._looking = asyncio.create_task(self._keep_looking())
            self._looking.add_done_callback(self._wake)
        try:
            while True:
                if not reader.news:
                    if reader.is_over:
                        return
                    reader.there.clear()
                    try:
                        async with asyncio.timeout(PING_S):
                            await reader.there.wait()
                    except TimeoutError:
                        pass
                    if not reader.news and self._looking is not None and self._looking.done() and not reader.is_over:
                        self._looking.result()  # it has failed
                news, reader.news = reader.news, {}
                yield news
        finally:
            self._readers.discard(reader)
            if not self._readers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _keep_looking(self) -> None:
        while self._readers:
            new = self._new()
            parts, is_over = await self._look()
            self._tell(parts, is_over=is_over)
            for reader in new:
                reader.is_new = False
                reader.tell(self._shown)
            if is_over:
                return
            await self._until_the_next()

    async def _until_the_next(self) -> None:
        time = asyncio.get_running_loop().time
        due = time() + EVERY_S
        while self._readers and not self._new() and (left := due - time()) > 0:
            await asyncio.sleep(min(left, GLANCE_EVERY_S))
            if self._glance is not None:
                if (parts := await self._glance()) is None:
                    return
                self._tell(parts)

    def _wake(self, _: asyncio.Task[None]) -> None:
        for reader in self._readers:
            reader.there.set()

    def _new(self) -> list[_Reader]:
        return [reader for reader in self._readers if reader.is_new]

    def _tell(self, parts: Parts, *, is_over: bool = False) -> None:
        news = {name: part for name, part in parts.items() if self._shown.get(name) != part}
        self._shown.update(news)
        for reader in self._readers:
            reader.is_over = is_over
            if news or is_over:
                reader.tell(news)
