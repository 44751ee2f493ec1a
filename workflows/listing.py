"""What the server's list of runs says of a run: its search attributes, kept up to date at a low price.

Each change of them is an event in the run's history. So they are set at the start and at the end, and between these at
most once in a twentieth of the time that the run has lasted: a hundred times in ten hours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import FailureError

from activities.contract import KNOWN_ATTRIBUTES_ACTIVITY, SEARCH_ATTRIBUTES

_KEY: dict[str, Callable[[str], SearchAttributeKey[Any]]] = {
    "Keyword": SearchAttributeKey.for_keyword,
    "KeywordList": SearchAttributeKey.for_keyword_list,
    "Double": SearchAttributeKey.for_float,
    "Int": SearchAttributeKey.for_int,
}

LEAST_REST = timedelta(seconds=10)
"""Time between two changes in a young run."""

TELLS_THE_LIST = "then sets the search attributes"
"""What the UI's timeline shows beside the timer for that."""


@dataclass(frozen=True)
class Listed:
    """What the list is to say."""

    choreography: str
    status: str
    roles: Sequence[str]
    cost_usd: float | None
    tokens: int
    failed_items: int
    tags: Sequence[str]

    def attributes(self) -> dict[str, Any]:
        """Return it by search attribute; a cost that is unknown is none."""
        return {
            "Choreography": self.choreography,
            "RunStatus": self.status,
            "Roles": self.roles,
            "CostUsd": self.cost_usd,
            "Tokens": self.tokens,
            "FailedItems": self.failed_items,
            "Tags": self.tags,
        }


class Listing:
    """Keeps a run's search attributes, those that the server knows."""

    def __init__(self, status: Callable[[], str], listed: Callable[[], Listed]) -> None:
        """Make a listing.

        Args:
            status: The run's status; asked often, so it has to be quick.
            listed: All that the list is to say, with the same status.
        """
        self._status = status
        self._listed = listed
        self._known: list[str] = []
        self._asked = False
        self._told: dict[str, Any] = {}

    async def keep(self) -> None:
        """Set the attributes whenever it is time for it, as long as the run lasts."""
        self._asked = True
        try:
            self._known = await _known()
        finally:
            self._asked = False
        while self._known:
            self.tell()
            now = workflow.now()
            due = now + max(LEAST_REST, (now - workflow.info().start_time) / 20)
            await self._rest(due)

    async def settled(self) -> None:
        """Wait until it is known which attributes the server knows, if that is being asked.

        What a local activity gave can't be noted after the end of a run: the server would refuse both, again and again.
        """
        await workflow.wait_condition(lambda: not self._asked)

    async def _rest(self, due: datetime) -> None:
        """Wait until there may be news and it is time for them: a timer is set only when the status has changed."""
        await workflow.wait_condition(lambda: workflow.now() >= due or self._has_other_status())
        wait = (due - workflow.now()).total_seconds()
        if wait > 0:
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    lambda: workflow.now() >= due, timeout=wait, timeout_summary=TELLS_THE_LIST
                )

    def _has_other_status(self) -> bool:
        return "RunStatus" in self._known and self._status() != self._told.get("RunStatus")

    def tell(self) -> None:
        """Set those attributes that have changed."""
        attributes = self._listed().attributes()
        news = {
            name: attributes[name]
            for name in self._known
            if attributes[name] is not None and attributes[name] != self._told.get(name)
        }
        if news:
            self._told |= news
            workflow.upsert_search_attributes(
                [_KEY[SEARCH_ATTRIBUTES[name]](name).value_set(value) for name, value in news.items()]
            )


async def _known() -> list[str]:
    """Ask the worker; the answer is in the history, so that it is the same whenever the run is replayed."""
    try:
        known: list[str] = await workflow.execute_local_activity(
            KNOWN_ATTRIBUTES_ACTIVITY,
            result_type=list[str],
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=1),
        )
    except FailureError as error:
        workflow.logger.warning("could not find out which search attributes the server knows: %s", error)
        return []
    return known
