"""What a run tells a webhook, and the workflow that delivers it: in order, until it is taken.

The run hands each event over and goes on; it waits for nobody who receives them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from activities.contract.names import DELIVER_ACTIVITY, TELL_ACTIVITY, WEBHOOK
from activities.contract.webhooks import HookEvent, Kind

GIVEN_UP_AFTER = timedelta(days=3)
"""After which an event is dropped that nobody has taken."""

LONGEST_DELAY_S = 60.0
"""Seconds between two tries; doubled from the first to the longest."""

LINGERS_S = 30.0
"""Seconds after the last event for which the ids of what was sent are remembered: an event may be handed over twice."""

MOST_SENT = 300
"""Events after which the workflow that delivers them continues as new."""


class Webhook:
    """A run's end: it hands over what happens, in order, without the run's waiting for it."""

    def __init__(self, url: str | None) -> None:
        """Begin to tell.

        Args:
            url: Whom; nobody if there is none.
        """
        self._url = url
        self._told = 0
        self._waiting: list[HookEvent] = []
        self._sending: asyncio.Task[None] | None = None

    def tell(self, event: Kind, **about: Any) -> None:
        """Tell that something has happened.

        Args:
            event: What.
            **about: What is to be known of it.
        """
        if self._url is None:
            return
        info = workflow.info()
        self._told += 1
        self._waiting.append(
            HookEvent(
                id=f"{info.run_id}/{self._told}",
                event=event,
                run=info.workflow_id,
                choreography=info.workflow_type,
                at=workflow.now().isoformat(),
                about=about,
            )
        )
        if self._sending is None or self._sending.done():
            # It is no step of the program, whatever it is told from.
            self._sending = asyncio.create_task(self._hand_over(), context=contextvars.Context())

    async def flush(self) -> None:
        """Wait until all is handed over."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _hand_over(self) -> None:
        while self._waiting:
            event = self._waiting.pop(0)
            with suppress(FailureError):  # the server refuses it again and again
                await workflow.execute_local_activity(
                    TELL_ACTIVITY,
                    args=[self._url, event],
                    start_to_close_timeout=timedelta(seconds=10),
                    retry_policy=RetryPolicy(maximum_attempts=10),
                    summary=f"tell of {event.event}",
                )


@workflow.defn(name=WEBHOOK, sandboxed=False)
class Deliveries:
    """Delivers the events of a run, one after the other."""

    @workflow.init
    def __init__(self, url: str, events: Sequence[HookEvent]) -> None:
        self._events = list(events)
        self._known = {event.id: None for event in events}
        self._sent = 0

    @workflow.run
    async def run(self, url: str, events: Sequence[HookEvent]) -> str:
        """Deliver until there is nothing more to deliver.

        Args:
            url: Where to.
            events: Those that came before it continued as new.
        """
        while await self._comes():
            if self._sent >= MOST_SENT and workflow.all_handlers_finished():
                workflow.continue_as_new(args=[url, self._events])
            if not await self._deliver(url, self._events[0]):
                return "the receiver wants no more"
            self._events.pop(0)
            self._sent += 1
        return f"{self._sent} events were delivered"

    @workflow.signal(description="Deliver an event; once, however often it is told.")
    def tell(self, event: HookEvent) -> None:
        """Take an event that is to be delivered."""
        if event.id not in self._known:
            self._known[event.id] = None
            self._events.append(event)

    async def _comes(self) -> bool:
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: bool(self._events), timeout=LINGERS_S)
        return bool(self._events)

    async def _deliver(self, url: str, event: HookEvent) -> bool:
        """Send an event until it is taken, or dropped; return whether the receiver wants more."""
        ends, delay = workflow.now() + GIVEN_UP_AFTER, 1.0
        while True:
            try:
                await workflow.execute_local_activity(
                    DELIVER_ACTIVITY,
                    args=[url, event],
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    summary=f"{event.event} of {event.run}",
                )
            except FailureError as error:
                if is_cancelled_exception(error):
                    raise
                why = error.cause if isinstance(error, ActivityError) else error  # a local one comes as it is
                if isinstance(why, ApplicationError) and why.non_retryable:
                    return False
                if workflow.now() >= ends:
                    workflow.logger.warning("dropped %s of %s: %s", event.event, event.run, why)
                    return True
                await workflow.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_S)
            else:
                return True
