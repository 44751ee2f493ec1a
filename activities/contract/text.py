"""Short forms of texts: cut, explained in a line, or as a digest."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from pydantic import ValidationError

from activities.contract.limits import MESSAGE_LIMIT


def digest_of(content: str) -> str:
    """Return some hexadecimal digits that other content does not have."""
    return blake2b(content.encode(), digest_size=8).hexdigest()


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return the text within a number of characters: its head, its tail, and how much is missing between them."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 4
    return f"{text[:head]} … [{len(text) - head - tail} characters cut] … {text[-tail:]}"


def explain(error: ValidationError, *, skip: tuple[str, ...] = ()) -> str:
    """Say in one line what pydantic refused: `'verdict': Input should be 'PASS' or 'NEEDS_FIXES'`.

    Args:
        error: What pydantic raised.
        skip: Leading parts of the locations to leave out, such as the envelope's own fields, in their order.
    """
    try:
        details = error.errors(include_url=False, include_context=False, include_input=False)
    except Exception as odd:  # a validator's error says itself what is wrong, and may fail to
        return f"a validator does not say what is wrong: {type(odd).__name__}"
    return clip("; ".join(_explain_one(detail, skip) for detail in details), 1_000)


def _explain_one(detail: Any, skip: tuple[str, ...]) -> str:
    where = [str(part) for part in detail["loc"]]
    for part in skip:
        where = where[1:] if where[:1] == [part] else where
    place = f"'{'.'.join(where)}': " if where else ""
    return f"{place}{detail['msg'].removeprefix('Value error, ')}"
