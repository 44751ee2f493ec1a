"""A run's trace: what its spans are called, on whichever machine they end, and how one is handed on.

The id of a span is made of its place in the run. So whoever comes to the end of a part gives its span the same id,
and what is below it has a parent, whoever began it and whatever has died since.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from temporalio.api.common.v1 import Payload

from activities.contract.text import digest_of

TRACE_HEADER = "_tracer-data"
"""Temporal's header in which a place travels, as `temporalio.contrib.opentelemetry` writes and reads it."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Place(NamedTuple):
    """Where in which trace a span is.

    Attributes:
        trace: The id of the trace, 32 hexadecimal digits.
        span: The id of the span, 16 of them.
        sampled: Whether anybody wants it.
    """

    trace: str
    span: str
    sampled: bool = True

    @classmethod
    def of_run(cls, workflow_id: str, run_id: str) -> Place:
        """Return the place of a run that begins its trace itself.

        Args:
            workflow_id: The run's.
            run_id: The first of its chain.
        """
        about = f"{workflow_id} {run_id}"
        return cls(digest_of(f"trace {about}") + digest_of(f"trace of {about}"), digest_of(f"run {about}"))

    @classmethod
    def read(cls, written: str) -> Place | None:
        """Return the place that a W3C `traceparent` names; None if it is none."""
        match = _TRACEPARENT.fullmatch(written)
        if match is None or not int(match[1], 16) or not int(match[2], 16):
            return None
        return cls(match[1], match[2], bool(int(match[3], 16) & 1))

    @classmethod
    def in_headers(cls, headers: Mapping[str, Payload]) -> Place | None:
        """Return the place that was handed on in Temporal's headers, if one was."""
        if TRACE_HEADER not in headers:
            return None
        try:
            return cls.read(json.loads(headers[TRACE_HEADER].data)["traceparent"])
        except (ValueError, KeyError, TypeError):  # of somebody who writes it in another way
            return None

    def below(self, *key: object) -> Place:
        """Return the place of a part of this, known by a key."""
        return self._replace(span=digest_of(" ".join([self.trace, self.span, *map(str, key)])))

    def write(self) -> str:
        """Write it as a W3C `traceparent`."""
        return f"00-{self.trace}-{self.span}-{int(self.sampled):02x}"

    def onto(self, headers: Mapping[str, Payload]) -> dict[str, Payload]:
        """Hand it on in Temporal's headers."""
        data = json.dumps({"traceparent": self.write()}).encode()
        return {**headers, TRACE_HEADER: Payload(metadata={"encoding": b"json/plain"}, data=data)}


Attribute = str | int | float | bool | Sequence[str]


@dataclass
class Span:
    """Something that has come to its end.

    Attributes:
        name: What it is, of which there are few.
        place: Its own.
        parent: That of what it is a part of; None for the root of a trace.
        began: Since when, as seconds since 1970.
        ended: Until when.
        attributes: What is known of it, by the names of OpenTelemetry's conventions where these have one.
        error: By what it failed, in a word; empty if it did not.
        kind: Whether it asks somebody else.
    """

    name: str
    place: Place
    parent: Place | None
    began: float
    ended: float
    attributes: dict[str, Attribute] = field(default_factory=dict)
    error: str = ""
    kind: Literal["internal", "client"] = "internal"


Tell = Callable[[Span], None]
"""Takes spans that have ended; returns at once, and never fails."""
