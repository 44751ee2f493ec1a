"""Finds out when a run's calls wait in a task queue that nobody serves, and says so."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from activities.contract import UNSERVED_ACTIVITY

QUIET_S = 20.0
"""Seconds without any result from a queue after which the run asks whether somebody serves it."""

WATCHING = "then asks whether all queues are served"
"""What the UI's timeline shows beside the timer for that."""

_TRUST_S = 60.0
"""Seconds for which a queue that was seen to be served is not asked about again; doubled each time."""

_MOST_TRUST_S = 1800.0

_ASK_AGAIN_S = 30.0
"""Seconds after which an unserved queue is asked about again."""


class _Queue:
    """What a run knows of a task queue that it uses."""

    def __init__(self) -> None:
        self.pending: dict[int, datetime] = {}
        self.trust = _TRUST_S
        self.trusted_until: datetime | None = None
        self.unserved = False

    def due(self) -> datetime:
        """When to ask whether somebody serves it; there are calls in it."""
        longest_pending = next(iter(self.pending.values()))
        quiet = longest_pending + timedelta(seconds=QUIET_S)
        return max(quiet, self.trusted_until or quiet)

    def found(self, now: datetime, *, unserved: bool) -> None:
        self.unserved = unserved
        self.trusted_until = now + timedelta(seconds=_ASK_AGAIN_S if unserved else self.trust)


class QueueWatch:
    """Knows which calls wait in which queues.

    Attributes:
        asks: Whether it is asking just now.
    """

    def __init__(self) -> None:
        self.asks = False
        self._queues: defaultdict[str, _Queue] = defaultdict(_Queue)
        self._watching: asyncio.Task[None] | None = None

    def begins(self, queue: str, number: int, now: datetime) -> None:
        """Note that a call is put into a queue."""
        self._queues[queue].pending[number] = now
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), context=contextvars.Context())

    def ends(self, queue: str, number: int, now: datetime, *, answered: bool) -> None:
        """Note that it has ended.

        Args:
            queue: Its queue.
            number: By which it began.
            now: The time.
            answered: Whether a worker did it.
        """
        del self._queues[queue].pending[number]
        if answered:
            self._queues[queue].found(now, unserved=False)

    @property
    def moves(self) -> bool:
        """Whether there are calls that somebody may be working on."""
        return any(queue.pending and not queue.unserved for queue in self._queues.values())

    def waits(self) -> list[str]:
        """Say for each queue that nobody serves what to do."""
        return [_advice(name, queue) for name, queue in self._queues.items() if queue.unserved and queue.pending]

    async def _watch(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self._next_due() is not None)
            due = self._next_due()
            assert due is not None
            wait = (due - workflow.now()).total_seconds()
            if wait <= 0:
                await self._ask_about([n for n, q in self._queues.items() if q.pending and q.due() <= workflow.now()])
                continue
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    functools.partial(self._is_due_before, due), timeout=wait, timeout_summary=WATCHING
                )

    def _next_due(self) -> datetime | None:
        return min((queue.due() for queue in self._queues.values() if queue.pending), default=None)

    def _is_due_before(self, moment: datetime) -> bool:
        due = self._next_due()
        return due is not None and due < moment

    async def _ask_about(self, names: list[str]) -> None:
        self.asks = True
        try:
            unserved: list[str] = await workflow.execute_local_activity(
                UNSERVED_ACTIVITY,
                names,
                result_type=list[str],
                start_to_close_timeout=timedelta(seconds=10),
                retry_policy=RetryPolicy(maximum_attempts=1),
            )
        except FailureError as error:
            workflow.logger.warning("could not find out who serves %s: %s", ", ".join(names), error)
            unserved = []
        self.asks = False
        for name in names:
            queue = self._queues[name]
            queue.found(workflow.now(), unserved=name in unserved)
            if queue.unserved:
                workflow.logger.warning("%s", _advice(name, queue))
            else:
                queue.trust = min(queue.trust * 2, _MOST_TRUST_S)


def _advice(name: str, queue: _Queue) -> str:
    return (
        f"nobody serves the task queue {name}: {len(queue.pending)} calls wait in it. "
        f"Start a worker for it: python worker.py --serve {name}"
    )
