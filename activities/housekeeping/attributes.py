"""The search attributes of a run that a server knows.

A run must not set one that the server doesn't know: its workflow task would fail, and be repeated for ever. What is
known may change while a run lasts, and yet it must do the same whenever it is replayed. So a worker writes what it
knows into its build id, which the server keeps with each workflow task, and a run reads it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from activities.contract.names import SEARCH_ATTRIBUTES

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "KeywordList": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    "Double": IndexedValueType.INDEXED_VALUE_TYPE_DOUBLE,
    "Int": IndexedValueType.INDEXED_VALUE_TYPE_INT,
}

_LISTS = "lists "

_logger = logging.getLogger(__name__)


async def known_attributes(client: Client) -> list[str]:
    """Return the search attributes of a run that the server knows, with their types."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        listed = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except RPCError as error:
        _logger.warning("The server doesn't tell its search attributes, so runs set none: %s", error.message)
        return []
    return [name for name, kind in SEARCH_ATTRIBUTES.items() if listed.get(name) == _TYPES[kind]]


def build_id(known: Sequence[str]) -> str:
    """Return the build id of a worker whose server knows these attributes."""
    return f"{_LISTS}{' '.join(known) or 'nothing'}"


def known_by(build_id: str) -> list[str]:
    """Return the attributes that a worker with this build id knew its server to know."""
    if not build_id.startswith(_LISTS):
        return []
    return [name for name in build_id.removeprefix(_LISTS).split() if name in SEARCH_ATTRIBUTES]
