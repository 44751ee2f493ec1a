"""The items of a scatter: what may be one, and how many."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, KeysView, Sequence, Set
from itertools import islice
from typing import Any, TypeVar

from activities.border.author import Line
from workflows.errors import ItemsRefused

T = TypeVar("T")

MOST_ITEMS = 1_000_000
"""Items of one scatter: a run has to hold all of them, and their results."""

_SET_ITERATOR: type = type(iter(set[Any]()))


def listed(items: Iterable[T], what: str = "scatter") -> list[T]:
    """Read items to their end.

    Raises:
        ItemsRefused: They have no order that is the same in every process, or are too many.
    """
    if _has_no_order(items):
        raise ItemsRefused(
            f"{what} at {Line.here()} was given a {type(items).__name__}, whose order is another one in every process: "
            "results would belong to other items after a restart: give sorted(…)."
        )
    if _length(items) > MOST_ITEMS:
        raise _too_many(what)
    read = list(islice(items, MOST_ITEMS + 1))
    if len(read) > MOST_ITEMS:
        raise _too_many(what)
    return read


def _has_no_order(items: Any) -> bool:
    if isinstance(items, (KeysView, ItemsView, Sequence)):  # those of dicts are in the order of the dict
        return False
    return isinstance(items, (Set, _SET_ITERATOR))


def _length(items: Any) -> int:
    try:
        return len(items)
    except OverflowError:  # of a range
        return MOST_ITEMS + 1
    except TypeError:
        return 0


def _too_many(what: str) -> ItemsRefused:
    return ItemsRefused(
        f"{what} at {Line.here()} was given more than {MOST_ITEMS:,} items, which is the most. Give it parts of them, "
        "one after the other, and use continue_with for work without end."
    )
