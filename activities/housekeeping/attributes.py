"""What a run may count on at its worker: which search attributes the server knows, and whether there is a store.

A run must not set an attribute that the server doesn't know: its workflow task would fail, and be repeated for ever.
Nor must it send more than its worker has room for. Both may change while a run lasts, and yet it must do the same
whenever it is replayed. So a worker writes this into its build id, which the server keeps with each workflow task, and
a run reads it from there.
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
_STORES = "stores"

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


def build_id(known: Sequence[str], *, stores: bool = False) -> str:
    """Return the build id of a worker whose server knows these attributes, and that has a store or none."""
    return " ".join([f"{_LISTS}{' '.join(known) or 'nothing'}", *([_STORES] if stores else [])])


def known_by(build_id: str) -> list[str]:
    """Return the attributes that a worker with this build id knew its server to know."""
    if not build_id.startswith(_LISTS):
        return []
    return [name for name in build_id.removeprefix(_LISTS).split() if name in SEARCH_ATTRIBUTES]


def stored_by(build_id: str) -> bool:
    """Return whether a worker with this build id had a store for what is large."""
    return build_id.startswith(_LISTS) and _STORES in build_id.split()
