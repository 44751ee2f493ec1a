"""What is sent while it happens, as server-sent events: the parts of a page that change, and what agents say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from starlette.responses import StreamingResponse
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError

from activities.errors import AgentError
from console.board.access import Visitor
from console.board.live import PING_S, Look, Parts, Watched
from console.board.pages import Pages
from console.board.reading import RunShown, run_now
from console.words import EVERY_S, Overhearing, Reader


class Streams:
    """Sends what happens to all who watch; for those who watch the same run, it is looked for once."""

    def __init__(self, client: Client, pages: Pages, why: Callable[[Exception], str]) -> None:
        """Prepare to send.

        Args:
            client: Temporal's client.
            pages: What makes the parts of pages.
            why: Says in words why something can't be had.
        """
        self._client = client
        self._pages = pages
        self._why = why
        self._looks: WeakValueDictionary[str, Look[RunShown]] = WeakValueDictionary()
        self._watched: WeakValueDictionary[str, Watched] = WeakValueDictionary()
        self._heard: WeakValueDictionary[str, Overhearing] = WeakValueDictionary()

    async def run(self, id: str) -> RunShown:
        """Return a run as it is now, with what its calls say."""
        hearing = self._hearing(id)
        await hearing.listen()
        began = asyncio.get_running_loop().time()
        run = await run_now(self._client, id, hearing.ends())
        if (look := self._looks.get(id)) is not None:  # who has the page watches from there on
            look.found(run, began)
        return run

    def page(self, id: str, visitor: Visitor) -> StreamingResponse:
        """Send the parts of a run's page that change, to its end."""
        look = self._looks.setdefault(id, Look(lambda: run_now(self._client, id)))
        seen = _Seen(look, self._hearing(id), lambda run: self._pages.parts(run, visitor), self._trouble)
        # What a visitor may do is on the page: who may do the same sees the same, and all see the same run.
        key = f"{visitor.right} {sorted(visitor.persons)} {id}"
        return _response(_parts(self._watched.setdefault(key, Watched(seen.look, seen.glance))))

    async def words(self, id: str, instance: str, last: str) -> StreamingResponse:
        """Send what the agents of a run say, from now on or from where a reader was, to its end.

        Args:
            id: The run.
            instance: Whom alone to hear; everybody if it is empty.
            last: The id of the last event that was read.

        Raises:
            RPCError: There is no such run, or the server does not answer.
        """
        await self._client.get_workflow_handle(id).describe()
        return _response(self._news(id, Reader.at(last, instance)))

    async def _news(self, id: str, reader: Reader) -> AsyncIterator[str]:
        hearing = self._hearing(id)
        try:
            async for events in _news(hearing, reader):
                yield events
        finally:  # it is kept for a reader that comes back, also where the run has ended meanwhile
            asyncio.get_running_loop().call_later(_KEPT_S, _WAS_KEPT, hearing)

    def _hearing(self, id: str) -> Overhearing:
        return self._heard.setdefault(id, Overhearing(self._client, id))

    def _trouble(self, error: Exception) -> Parts:
        return {"trouble": self._pages.text("_trouble.html", troubles=[self._why(error)])}


class _Seen:
    """A run's page, as some see it."""

    def __init__(
        self,
        look: Look[RunShown],
        hearing: Overhearing,
        parts: Callable[[RunShown], Parts],
        trouble: Callable[[Exception], Parts],
    ) -> None:
        self._look = look
        self._hearing = hearing
        self._parts = parts
        self._trouble = trouble
        self._shown: set[str] = set()

    async def look(self) -> tuple[Parts, bool]:
        """Return all parts, and whether they are the last ones."""
        try:
            run = await self._look.now()
        except (RPCError, WorkflowQueryFailedError, AgentError) as error:  # it may pass
            return _as_json(self._trouble(error)), False
        self._shown = {work.step for work in run.progress.working} if run.progress else set()
        return _as_json(self._parts(run)), run.ended is not None

    async def glance(self) -> Parts | None:
        """Return what is being said; None if the page does not show yet who says it."""
        await self._hearing.listen()
        ends = self._hearing.ends()
        begun = ends.keys() - self._shown
        if not begun:
            return {"saying": json.dumps(ends)}
        self._look.is_old()
        return None


async def _parts(watched: Watched) -> AsyncIterator[str]:
    async for parts in watched.parts():
        yield "".join(_event(name, part) for name, part in parts.items()) or _SIGN_OF_LIFE
    yield _OVER


async def _news(hearing: Overhearing, reader: Reader) -> AsyncIterator[str]:
    sent, was_over = time.monotonic(), False
    while True:
        await hearing.listen()
        news = reader.news(hearing.calls)
        if news:
            events = [_event(one.event, one.model_dump_json(exclude={"event"}, exclude_none=True)) for one in news]
            yield "".join([*events[:-1], f"id: {reader.position}\n{events[-1]}"])
        elif time.monotonic() - sent > PING_S:
            yield _SIGN_OF_LIFE
        else:
            if was_over:
                break
            was_over = hearing.is_over  # what was said last may be heard a moment later
            await asyncio.sleep(EVERY_S)
            continue
        sent = time.monotonic()
    yield _OVER


_KEPT_S = 10.0
_WAS_KEPT = bool

_SIGN_OF_LIFE = ": \n\n"
_OVER = "event: over\ndata: \n\n"


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


def _as_json(parts: Parts) -> Parts:
    return {name: json.dumps(part) for name, part in parts.items()}


def _response(events: AsyncIterator[str]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
