"""Heartbeats of this process's calls, from a thread of their own: a method that holds the event loop harms no other.

The same thread watches over the loop, and names in the log the method that holds it. Code in C that does not let go of
Python's lock for seconds, as a regular expression may, stops this thread too: the log says so afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import Any

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext

from activities.border.context import CallContext, answering
from activities.border.sdk import heartbeat_sender
from activities.contract.limits import HEARTBEAT_TIMEOUT_S
from activities.errors import place_in

logger = logging.getLogger(__name__)

BETWEEN_BEATS = 0.6
"""Part of the heartbeat timeout that passes between two beats without news; the rest is for a process that starves."""

RECORDED_S = 0.05
"""Seconds until news is sent: that of a call which ends sooner need not be, as its result tells it."""

HELD_S = 1.0
"""Seconds for which something may hold the event loop before the log names it."""

_STARVED_S = 0.5
"""Seconds by which this thread may come too late before it is taken to starve; then it beats more often for a while."""

_STARVES_FOR_S = 10.0
_OFTENER = 0.6
"""Part of the time between two beats that is left out then."""

_TICK_S = 0.05
_PULSE_S = 0.25
_LAST_WORDS_S = 10.0
_LARGE = 100_000  # bytes of details from which on they are prepared outside of the thread that beats


class Heartbeats:
    """The heartbeats of one call: with news as soon as there is some, and often enough without."""

    def __init__(self, details: Callable[[], Any]) -> None:
        """Prepare to beat for the activity whose code is executing.

        Args:
            details: Returns what to send as long as there is no news; called in another thread.
        """
        info = activity.info()
        timeout = info.heartbeat_timeout or timedelta(seconds=HEARTBEAT_TIMEOUT_S)
        self.interval = timeout.total_seconds() * BETWEEN_BEATS
        # The server counts from when it handed the call out, which is some time ago where the process starves.
        since_handed_out = min(max(time.time() - info.started_time.timestamp(), 0.0), self.interval)
        self.due = time.monotonic() + self.interval - since_handed_out
        self.sending = False
        self.call: CallContext | None = None
        self.loop, self.loop_thread, self.task = _where_it_runs()
        self._send = heartbeat_sender()
        self.client, self._info = activity.client(), info
        self._news: Callable[[], Any] | None = details
        self._details: Sequence[Payload] = ()
        self._one_at_a_time = asyncio.Lock()
        self._lock = threading.Lock()
        self._ended = False

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat for as long as the block lasts, and tell the last news if it fails."""
        heart = _heart()
        heart.calls.add(self)
        heart.lately.append(self)
        try:
            yield
        except BaseException:
            await heart.last_words(self)
            raise
        finally:
            heart.calls.discard(self)
            with self._lock:  # one that is being sent is sent before the call's end
                self._ended = True

    def tell(self, details: Callable[[], Any]) -> None:
        """Send news promptly.

        Args:
            details: Returns them; called in another thread.
        """
        waits_already = self._news is not None and self.due <= time.monotonic() + RECORDED_S
        self._news = details
        if not waits_already:
            self.due = time.monotonic() + RECORDED_S

    def mention(self, details: Callable[[], Any]) -> None:
        """Have the next beat, whenever it is due, tell this.

        Args:
            details: Returns it; called in another thread.
        """
        self._news = details

    async def beat(self) -> None:
        """Send one heartbeat; if its news can't be written down, send what was told before."""
        async with self._one_at_a_time:
            self.due = time.monotonic() + self.interval
            news, self._news = self._news, None
            try:
                if news is not None:
                    self._details = await self._encoded_beating(news)
            except Exception:
                logger.exception("could not write down how far a call is: %s", self.call)
            self._send_details()
        self.sending = False

    def _send_details(self) -> None:
        try:
            with self._lock:
                if not self._ended:
                    self._send(self._details)
        except Exception:  # the worker is ending
            logger.debug("could not send a heartbeat: %s", self.call, exc_info=True)

    async def _encoded_beating(self, news: Callable[[], Any]) -> Sequence[Payload]:
        """Prepare news; as long as that takes, beat with what was told before."""
        preparing = asyncio.ensure_future(self._encoded(news))
        try:
            while not (await asyncio.wait([preparing], timeout=self.interval))[0]:
                self._send_details()
        finally:
            preparing.cancel()
        return preparing.result()

    async def _encoded(self, news: Callable[[], Any]) -> Sequence[Payload]:
        large = sum(len(payload.data) for payload in self._details) > _LARGE
        details = await asyncio.to_thread(news) if large else news()
        payloads: Sequence[Payload] = await self._in_its_context.encode([details])
        return payloads

    @functools.cached_property
    def _in_its_context(self) -> Any:
        info = self._info
        return self.client.data_converter.with_context(
            ActivitySerializationContext(
                namespace=info.namespace,
                workflow_id=info.workflow_id,
                workflow_type=info.workflow_type,
                activity_type=info.activity_type,
                activity_id=info.activity_id,
                activity_task_queue=info.task_queue,
                is_local=info.is_local,
            )
        )


def _where_it_runs() -> tuple[asyncio.AbstractEventLoop, int, asyncio.Task[Any] | None]:
    return asyncio.get_running_loop(), threading.get_ident(), asyncio.current_task()


@dataclass
class _Pulse:
    """Whether an event loop goes on."""

    loop: asyncio.AbstractEventLoop
    thread: int
    asked: float = field(default_factory=time.monotonic)
    answered: bool = True
    told: bool = False

    def ask(self, now: float) -> None:
        self.asked, self.answered, self.told = now, False, False
        self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self.answered = True


class _Heart(threading.Thread):
    """The thread that beats for all calls of the process."""

    def __init__(self) -> None:
        super().__init__(name="heartbeats", daemon=True)
        self.calls: set[Heartbeats] = set()
        self.lately: list[Heartbeats] = []
        """Those that were there since the last tick, also if they have ended meanwhile."""
        self._loop = asyncio.new_event_loop()
        self._pulses: dict[asyncio.AbstractEventLoop, _Pulse] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._starves_until = 0.0

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._tick_for_ever())

    async def last_words(self, call: Heartbeats) -> None:
        """Send what a call that fails has to tell, before the server hears of its end."""
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call.beat(), self._loop))

    async def _tick_for_ever(self) -> None:
        before, worked = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(_TICK_S)
            now, work = time.monotonic(), time.process_time()
            calls = list(self.calls)
            if now - before > _STARVED_S + _TICK_S:
                self._starves_until = now + _STARVES_FOR_S
            self._beat(calls, now)
            if now - before > HELD_S + _TICK_S:
                _tell_standstill(self.lately, now - before, work - worked)
            self._watch(calls, now)
            before, worked, self.lately = now, work, calls

    def _beat(self, calls: Sequence[Heartbeats], now: float) -> None:
        starves = now < self._starves_until
        for call in calls:
            if call.due - (call.interval * _OFTENER if starves else 0) <= now and not call.sending:
                call.sending = True
                beat = self._loop.create_task(call.beat())
                self._under_way.add(beat)
                beat.add_done_callback(self._under_way.discard)

    def _watch(self, calls: Sequence[Heartbeats], now: float) -> None:
        """Feel the pulse of the loops that have calls, and tell once of each time that one is held."""
        for call in calls:
            if call.loop not in self._pulses:
                self._pulses[call.loop] = _Pulse(call.loop, call.loop_thread)
        for pulse in list(self._pulses.values()):
            if pulse.answered and now - pulse.asked > _PULSE_S:
                self._ask(pulse, now, used=any(call.loop is pulse.loop for call in calls))
            elif not pulse.answered and not pulse.told and now - pulse.asked > HELD_S:
                pulse.told = True
                _tell_held(calls, pulse, now - pulse.asked)

    def _ask(self, pulse: _Pulse, now: float, *, used: bool) -> None:
        try:
            if not used:
                raise RuntimeError
            pulse.ask(now)
        except RuntimeError:  # nobody needs it any more, or it is closed
            del self._pulses[pulse.loop]


@functools.cache
def _heart() -> _Heart:
    heart = _Heart()
    heart.start()
    return heart


def _tell_held(calls: Sequence[Heartbeats], pulse: _Pulse, seconds: float) -> None:
    frame = sys._current_frames().get(pulse.thread)
    call = _call_in(calls, pulse.loop, frame)
    with answering(call) if call else contextlib.nullcontext():
        logger.warning(
            "holds this worker's event loop for %.1f s so far%s: all other calls of the worker stand still. Write a "
            "method that computes or waits as a plain 'def', which runs in a thread, or use asyncio.to_thread.",
            seconds,
            f", at {place_in(frame)}" if frame else "",
        )


def _tell_standstill(calls: Sequence[Heartbeats], seconds: float, worked: float) -> None:
    """Tell that not even this thread went on: calls may have been taken for dead."""
    if not calls:
        return
    if worked < seconds / 2:
        logger.warning(
            "this worker stood still for %.1f s, %.1f s of which it was at work: the machine is overloaded. "
            "Serve fewer calls at a time (--concurrency), or on more machines.",
            seconds,
            worked,
        )
        return
    frame = sys._current_frames().get(calls[0].loop_thread)
    logger.warning(
        "this worker stood still for %.1f s: something computed without letting go of Python's lock, as a regular "
        "expression does; the event loop is at %s. Do such work in a process of its own.",
        seconds,
        place_in(frame) if frame else "its end",
    )


def _call_in(
    calls: Sequence[Heartbeats], loop: asyncio.AbstractEventLoop, frame: FrameType | None
) -> CallContext | None:
    """Return the call that a loop is running, by its task, or else by the only one of the method that is running."""
    task = asyncio.current_task(loop)
    if found := next((call.call for call in calls if call.task is task), None):
        return found
    running = set()
    while frame is not None:
        running.add(frame.f_code.co_qualname.partition(".<locals>")[0])
        frame = frame.f_back
    possible = [call.call for call in calls if call.call is not None and call.call.method in running]
    return possible[0] if len(possible) == 1 else None
