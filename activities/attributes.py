"""The search attributes of a run, and the local activity by which it asks which of them the server knows.

A run must not set one that the server doesn't know: its workflow task would fail, and be repeated for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.contract import KNOWN_ATTRIBUTES_ACTIVITY, SEARCH_ATTRIBUTES

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Int": IndexedValueType.INDEXED_VALUE_TYPE_INT,
}

_ASK_AGAIN_S = 60.0
"""Seconds for which a worker trusts what the server said: a new attribute is used by runs that start a minute later."""

_logger = logging.getLogger(__name__)


def known_attributes(client: Client) -> Callable[[], Awaitable[list[str]]]:
    """Return the local activity that tells which search attributes of a run the server knows, with their types."""
    known: list[str] = []
    asked_at = float("-inf")

    @activity.defn(name=KNOWN_ATTRIBUTES_ACTIVITY)
    async def tell() -> list[str]:
        nonlocal known, asked_at
        if time.monotonic() - asked_at > _ASK_AGAIN_S:
            known = await _ask(client)
            asked_at = time.monotonic()
        return known

    return tell


async def _ask(client: Client) -> list[str]:
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        listed = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except RPCError as error:
        _logger.warning("The server doesn't tell its search attributes, so runs set none: %s", error.message)
        return []
    return [name for name, kind in SEARCH_ATTRIBUTES.items() if listed.get(name) == _TYPES[kind]]
