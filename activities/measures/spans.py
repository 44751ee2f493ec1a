"""The port through which calls tell of their parts, as spans below the call's own; that is its run's to tell.

Where nobody wants traces, or the run has none, a span is a look into a context variable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from activities.contract.spans import Attribute, Place, Span, Tell

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that puts what is said to models, and what these say, into spans: `true`."""


@dataclass
class CallTrace:
    """What is told of a call.

    Attributes:
        tell: Who is told.
        interrupted: Parts that an error has ended. The next attempt takes them up, and tells of them: if there is none,
            this one does.
    """

    tell: Tell
    interrupted: list[Span] = field(default_factory=list)


@dataclass
class _Open:
    trace: CallTrace
    place: Place
    attributes: dict[str, Attribute] = field(default_factory=dict)


_current: ContextVar[_Open | None] = ContextVar("span", default=None)


@contextmanager
def tracing(tell: Tell, place: Place | None) -> Iterator[None]:
    """Tell of what a call does in a block.

    Args:
        tell: Whom.
        place: The call's; None if its run has no trace.
    """
    token = _current.set(_Open(CallTrace(tell), place) if place is not None and place.sampled else None)
    try:
        yield
    finally:
        _current.reset(token)


def is_traced() -> bool:
    """Whether anybody wants to know of this."""
    return _current.get() is not None


def captures_content() -> bool:
    """Whether spans are to have what was said."""
    return is_traced() and os.environ.get(CAPTURE, "").lower() in ("true", "1", "span_only", "span_and_event")


@contextmanager
def part(name: str, *key: object, **attributes: Attribute) -> Iterator[None]:
    """Tell of a part of the call, which another attempt may come to as well.

    Args:
        name: What it is.
        *key: What tells it from other parts of the same.
        **attributes: What is known of it, with `__` for a dot.
    """
    outer = _current.get()
    if outer is None:
        yield
        return
    with _span(outer, name, outer.place.below(*key), attributes) as span:
        try:
            yield
        except BaseException as error:
            span.error = type(error).__name__
            span.ended = time.time()
            outer.trace.interrupted.append(span)
            raise
    outer.trace.tell(span)


@contextmanager
def request(name: str, **attributes: Attribute) -> Iterator[None]:
    """Tell of a request to somebody else, which is another one each time."""
    outer = _current.get()
    if outer is None:
        yield
        return
    place = outer.place._replace(span=os.urandom(8).hex())
    with _span(outer, name, place, attributes, "client") as span:
        try:
            yield
        except BaseException as error:
            span.error = str(span.attributes.get("error.type") or type(error).__name__)
            span.ended = time.time()
            outer.trace.tell(span)
            raise
    outer.trace.tell(span)


def note(**attributes: Attribute) -> None:
    """Add what is known now of the innermost span."""
    if (current := _current.get()) is not None:
        current.attributes.update(_named(attributes))


def call_is_over(*, well: bool) -> None:
    """Tell of the parts that an error has ended: there is no other attempt.

    Args:
        well: Whether it was none, as where the call waits for a person.
    """
    current = _current.get()
    if current is None:
        return
    interrupted, current.trace.interrupted = current.trace.interrupted, []
    for span in interrupted:
        span.error = "" if well else span.error
        current.trace.tell(span)


@contextmanager
def _span(
    outer: _Open, name: str, place: Place, given: dict[str, Attribute], kind: Literal["internal", "client"] = "internal"
) -> Iterator[Span]:
    attributes = _named(given)
    span = Span(name, place, outer.place, time.time(), 0.0, attributes, kind=kind)
    token = _current.set(_Open(outer.trace, place, attributes))
    try:
        yield span
    finally:
        _current.reset(token)
        span.ended = span.ended or time.time()


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {name.replace("__", "."): value for name, value in attributes.items()}
