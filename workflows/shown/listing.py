"""What the server's list of runs says of a run: its search attributes, kept up to date at a low price.

Each change of them is an event in the run's history. So they are set at the start and at the end, when the run begins
or ceases to wait, and between these, when something happens, at most once in a twentieth of the time that it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from temporalio import workflow
from temporalio.common import SearchAttributeKey

from activities.border.secrets import without_secrets
from activities.contract.names import SEARCH_ATTRIBUTES
from activities.housekeeping.attributes import known_by

Word = Literal["running", "waits", "paused", "done", "failed", "cancelled"]
"""How a run is, in a word: it `waits` where nothing goes on until somebody answers a question or raises its budget."""

_KEY: dict[str, Callable[[str], SearchAttributeKey[Any]]] = {
    "Keyword": SearchAttributeKey.for_keyword,
    "KeywordList": SearchAttributeKey.for_keyword_list,
    "Double": SearchAttributeKey.for_float,
    "Int": SearchAttributeKey.for_int,
}

LEAST_REST = timedelta(minutes=1)
"""Time between two changes in a young run, if it does not begin to wait or go on."""


@dataclass(frozen=True)
class Listed:
    """What the list is to say."""

    choreography: str
    status: Word
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
            "Tags": [without_secrets(tag) for tag in self.tags],
        }


class Listing:
    """Keeps a run's search attributes, those that the server knows."""

    def __init__(self, status: Callable[[], Word], listed: Callable[[], Listed]) -> None:
        """Make a listing.

        Args:
            status: The run's status; asked often, so it has to be quick.
            listed: All that the list is to say, with the same status.
        """
        self._status = status
        self._listed = listed
        self._listed_as: dict[str, Any] = {}

    async def keep(self) -> None:
        """Set the attributes whenever it is time for it, as long as the run lasts.

        No timer wakes the run for it: as long as nothing happens there is nothing new to say.
        """
        while True:
            self.tell()
            now = workflow.now()
            await self._time_for_news(now + max(LEAST_REST, (now - workflow.info().start_time) / 20))

    async def _time_for_news(self, due: datetime) -> None:
        await workflow.wait_condition(lambda: workflow.now() >= due or self._has_other_status())

    def _has_other_status(self) -> bool:
        return "RunStatus" in self._listed_as and self._status() != self._listed_as["RunStatus"]

    def tell(self) -> None:
        """Set those attributes that have changed."""
        attributes = self._listed().attributes()
        news = {
            name: attributes[name]
            for name in known_by(workflow.info().get_current_build_id())
            if attributes[name] is not None and attributes[name] != self._listed_as.get(name)
        }
        if news:
            self._listed_as |= news
            workflow.upsert_search_attributes(
                [_KEY[SEARCH_ATTRIBUTES[name]](name).value_set(value) for name, value in news.items()]
            )
