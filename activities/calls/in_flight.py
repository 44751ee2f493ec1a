"""The calls that this process makes, for whoever asks what they say: nobody has to be told, and nothing is kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from activities.calls.received import Received
from activities.contract.words import Asked, Saying, SoFar

LINGERS_S = 10.0
"""Seconds after a call's end for which it can still be asked for its last words."""

_MOST = 200_000
"""Characters that are told at once, more or less: what is larger would go to the store, where there is one."""

_calls: dict[str, dict[str, Received]] = {}
"""By run and call."""

_ended: deque[tuple[float, str, Received]] = deque()


@contextmanager
def in_flight(run: str, call: Received) -> Iterator[None]:
    """Have a call asked for what it says, for as long as the block lasts and a little longer.

    Args:
        run: Its run, by the workflow id.
        call: What it has said.
    """
    _calls.setdefault(run, {})[call.call] = call
    try:
        yield
    finally:
        call.end()
        if call.has_said:
            _ended.append((time.monotonic(), run, call))
        else:
            _forget(run, call)
        _forget_old()


def said_here(asked: Asked) -> list[Saying]:
    """Return what calls of a run have said in this process since they were asked last."""
    _forget_old()
    told: list[Saying] = []
    size = 0
    for name, call in list(_calls.get(asked.run, {}).items()):
        saying = call.saying(asked.so_far.get(name, SoFar())) if call.has_said else None
        if saying is not None:
            told.append(saying)
            size += len(saying.model_dump_json())
        if size > _MOST:
            break
    return told


def _forget_old() -> None:
    while _ended and _ended[0][0] < time.monotonic() - LINGERS_S:
        _, run, call = _ended.popleft()
        _forget(run, call)


def _forget(run: str, call: Received) -> None:
    calls = _calls.get(run, {})
    if calls.get(call.call) is call:  # not another attempt
        del calls[call.call]
        if not calls:
            _calls.pop(run, None)
