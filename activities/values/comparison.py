"""Whether what would arrive is what was sent: the first difference between two values, in types and contents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel

from activities.values.declared import SECRETS
from activities.values.mends import SEQUENCES, SETS, is_record, mend, named, place


class Difference(NamedTuple):
    """Where what would arrive differs from what was sent."""

    path: tuple[str, ...]
    sent: Any
    arrived: Any
    mend: str = ""

    def within(self, part: Any) -> Difference:
        """Return the same difference, in a part of something."""
        return self._replace(path=(str(part), *self.path))

    def in_words(self) -> str:
        """Say what would become of what, and the mend."""
        return (
            f"{place(self.path)}{named(self.sent)} would arrive as {named(self.arrived)}; "
            f"{self.mend or mend(self.sent, self.arrived)}"
        )


class Leeway(NamedTuple):
    """What may differ between what is sent and what arrives.

    Attributes:
        abstract: The kind of a container, as the declared type leaves it open, as `Sequence` does.
        json: Anything that is JSON where it arrives, as whoever reads it has only that.
    """

    abstract: bool = False
    json: bool = False


_JSON = frozenset({str, int, float, bool, list, dict})


def _is_lost(sent: Any, arrived: Any) -> bool:
    return isinstance(sent, SECRETS) or (is_record(sent) and type(arrived) is not dict)


_PLAIN = frozenset({str, int, bool, type(None), bytes})


def difference(sent: Any, arrived: Any, leeway: Leeway) -> Difference | None:
    """Return the first difference in types or contents.

    Args:
        sent: What is sent.
        arrived: What would arrive.
        leeway: What may differ.
    """
    kind = type(sent)
    if kind is int and type(arrived) is float:  # declared as a number with a fraction, and given without one
        return None if sent == arrived else Difference((), sent, arrived)
    if kind is not type(arrived):
        if leeway.json and type(arrived) in _JSON and not _is_lost(sent, arrived):
            return None
        if not (leeway.abstract and _are_alike(sent, arrived)):
            return Difference((), sent, arrived)
    if kind in _PLAIN:
        return None if sent == arrived else Difference((), sent, arrived)
    if kind is float:
        same = sent == arrived or (math.isnan(sent) and math.isnan(arrived))
        return None if same else Difference((), sent, arrived)
    # By their attributes, as isinstance is slow in a workflow's sandbox.
    if hasattr(kind, "__pydantic_fields__"):
        return _in_model(sent, arrived, leeway)
    if hasattr(kind, "__dataclass_fields__"):
        return _in_attributes(sent, arrived, kind.__dataclass_fields__, leeway)
    if kind is list or isinstance(sent, SEQUENCES):
        return _in_sequence(sent, arrived, leeway)
    if kind is dict or isinstance(sent, Mapping):
        return _in_mapping(sent, arrived, leeway)
    if isinstance(sent, SETS):
        same = {(type(one), one) for one in sent} == {(type(one), one) for one in arrived}
        return None if same else Difference((), sent, arrived)
    return _in_others(sent, arrived, leeway)


def _are_alike(sent: Any, arrived: Any) -> bool:
    return any(isinstance(sent, kinds) and isinstance(arrived, kinds) for kinds in (SEQUENCES, SETS, (Mapping,)))


def _in_model(sent: BaseModel, arrived: BaseModel, leeway: Leeway) -> Difference | None:
    found = _in_attributes(sent, arrived, type(sent).model_fields, leeway)
    if found is None and sent.__pydantic_extra__:
        found = _in_mapping(sent.__pydantic_extra__, arrived.__pydantic_extra__ or {}, leeway)
    if found is None and sent.__pydantic_private__:
        found = _in_private(sent.__pydantic_private__, arrived.__pydantic_private__ or {})
    return found


def _in_private(sent: Mapping[str, Any], arrived: Mapping[str, Any]) -> Difference | None:
    for name, value in sent.items():
        other = arrived.get(name)
        if _has_no_equals(type(value)):  # a lock, a client: nothing that could be sent
            continue
        if difference(value, other, Leeway()) is not None:
            return Difference((name,), value, other, "a private attribute is not sent: make it a field")
    return None


def _in_attributes(sent: Any, arrived: Any, names: Any, leeway: Leeway) -> Difference | None:
    for name in names:
        found = difference(getattr(sent, name, None), getattr(arrived, name, None), leeway)
        if found is not None:
            return found.within(name)
    return None


def _in_mapping(sent: Mapping[Any, Any], arrived: Mapping[Any, Any], leeway: Leeway) -> Difference | None:
    kinds = {key: type(key) for key in arrived}
    for key, value in sent.items():
        if kinds.get(key) is not type(key):
            if leeway.json and str(key) in kinds:
                continue
            return Difference(
                (), sent, arrived, f"the key {key!r} is not kept: declare the type of the keys, or use text"
            )
        found = difference(value, arrived[key], leeway)
        if found is not None:
            return found.within(key)
    return None if len(sent) == len(arrived) else Difference((), sent, arrived)


def _in_sequence(sent: Any, arrived: Any, leeway: Leeway) -> Difference | None:
    if len(sent) != len(arrived):
        return Difference((), sent, arrived)
    for number, (one, other) in enumerate(zip(sent, arrived, strict=True)):
        found = difference(one, other, leeway)
        if found is not None:
            return found.within(number)
    return None


def _in_others(sent: Any, arrived: Any, leeway: Leeway) -> Difference | None:
    """Compare what has neither fields nor items that are known here."""
    kind = type(sent)
    if _has_no_equals(kind) and not isinstance(sent, Enum):
        if hasattr(sent, "__dict__"):
            return _in_mapping(vars(sent), vars(arrived), leeway)
        return None  # there is nothing of it to be seen
    try:
        same = bool(sent == arrived)
    except Exception:
        same = False
    if isinstance(sent, (datetime, time)):
        same = same and sent.utcoffset() == arrived.utcoffset()
    if isinstance(sent, Decimal):
        same = same and str(sent) == str(arrived)
    return None if same else Difference((), sent, arrived)


def _has_no_equals(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__
