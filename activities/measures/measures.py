"""The port through which everything measures: what is measured counts for the call that is being answered here.

Where nobody wants metrics there is no meter, and to measure is to look into a context variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from activities.measures import spans
from activities.measures.catalogue import FIRST_TOKEN_SECONDS, Metric


class Meter(Protocol):
    """What takes measures."""

    def count(self, metric: Metric, by: int, labels: Mapping[str, str]) -> None:
        """Count on."""

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Put a value into a histogram."""


_current: ContextVar[tuple[Meter, Mapping[str, str]] | None] = ContextVar("meter", default=None)


@contextmanager
def measuring(meter: Meter | None, **labels: str) -> Iterator[None]:
    """Have a meter take what is measured in a block.

    Args:
        meter: None where nobody wants metrics.
        **labels: For what it counts: role and method.
    """
    token = _current.set(None if meter is None else (meter, labels))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def measuring_also(**labels: str) -> Iterator[None]:
    """Have more labels in a block: the model that is asked there."""
    current = _current.get()
    if current is None:
        yield
        return
    with measuring(current[0], **{**current[1], **labels}):
        yield


def count(metric: Metric, by: int = 1, **labels: str) -> None:
    """Count something.

    Args:
        metric: Which of the catalogue.
        by: How often it was; also never, so that the metric is there.
        **labels: Those of the metric that the call alone does not tell.
    """
    if (current := _current.get()) is not None:
        current[0].count(metric, by, _of(metric, {**current[1], **labels}))


def observe(metric: Metric, value: float, **labels: str) -> None:
    """Put a value into a histogram; else as `count`."""
    if (current := _current.get()) is not None:
        current[0].observe(metric, value, _of(metric, {**current[1], **labels}))


def observe_first_token(seconds: float) -> None:
    """Tell how long the first token took of the answer that a model is giving here."""
    observe(FIRST_TOKEN_SECONDS, seconds)
    spans.note(**{"gen_ai.response.time_to_first_chunk": seconds})


def _of(metric: Metric, labels: Mapping[str, str]) -> dict[str, str]:
    return {label: labels.get(label, "") for label in metric.labels}
