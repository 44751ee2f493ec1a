"""Sends spans to a collector, by OpenTelemetry's own exporter.

Ids are given to a span as it ends, so it is no span of OpenTelemetry's SDK until it is sent.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from activities.border.washing import fit_to_leave, words_of
from activities.contract.spans import Attribute, Place, Span
from activities.contract.text import clip
from activities.errors import SettingInvalid

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

logger = logging.getLogger(__name__)

SENT_EVERY_MS = 200
"""Milliseconds until a span is sent: what a kill can lose."""

LAST_WORDS_S = 5.0
"""Seconds for what is left when a worker ends."""

_UNNAMED = "unknown_service"
_QUEUE = 20_000
_REMEMBERED = 50_000
_ATTRIBUTE_LENGTH = 50_000
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def traces_wanted(endpoint: str) -> bool:
    """Whether an option, or else OpenTelemetry's own variables, name a collector."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return bool(endpoint or any(os.environ.get(name) for name in _ENDPOINTS))


class Traces:
    """Sends spans to a collector, each once."""

    def __init__(self, endpoint: str = "") -> None:
        """Prepare to send; nothing is connected before the first span.

        Args:
            endpoint: `http://localhost:4318`; where it is empty, OpenTelemetry's own variables name it.

        Raises:
            SettingInvalid: It is no address, or the packages are missing.
        """
        if find_spec("opentelemetry.sdk") is None or find_spec("opentelemetry.exporter") is None:
            raise SettingInvalid(
                "Traces are wanted (--traces, or OTEL_EXPORTER_OTLP_ENDPOINT), and the packages for them are missing. "
                "Install the extra 'otel': pip install 'choreography[otel]'. OTEL_SDK_DISABLED=true wants none."
            )
        # Here, because most processes send none.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        told = Resource.create()
        own = {"service.name": "choreography", "service.instance.id": f"{socket.gethostname()}-{os.getpid()}"}
        if not str(told.attributes.get("service.name", _UNNAMED)).startswith(_UNNAMED):
            own["service.name"] = str(told.attributes["service.name"])
        self._resource = Resource({**told.attributes, **own})
        self._sending = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=_address(endpoint)),
            max_queue_size=_QUEUE,
            schedule_delay_millis=SENT_EVERY_MS,
        )
        self._sent: dict[tuple[str, str], None] = {}
        self._lock = Lock()

    def __call__(self, span: Span) -> None:
        """Send a span soon, unless it was; a part of a run may come to its end again where its worker has failed."""
        with self._lock:
            known = (span.place.trace, span.place.span)
            if known in self._sent:
                return
            self._sent[known] = None
            if len(self._sent) > _REMEMBERED:
                del self._sent[next(iter(self._sent))]
        try:
            self._sending.on_end(_readable(span, self._resource))
        except Exception as error:  # a workflow task would fail of it
            logger.warning("the span %s could not be sent: %s", span.name, words_of(error))

    def close(self) -> None:
        """Send what is left, if somebody takes it soon; OpenTelemetry's own way waits half a minute for nobody."""
        ending = Thread(target=self._sending.shutdown, daemon=True)
        ending.start()
        ending.join(LAST_WORDS_S)
        if ending.is_alive():
            self._sending.span_exporter.shutdown()  # it would try again and again
            ending.join(LAST_WORDS_S)


def _address(endpoint: str) -> str | None:
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingInvalid(f"--traces {endpoint}: give the address of a collector, as in http://localhost:4318.")
    return endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"


def _readable(span: Span, resource: Any) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind, Status, StatusCode

    attributes = {name: _washed(value) for name, value in span.attributes.items()}
    if span.error:
        attributes["error.type"] = _washed(span.error)
    return ReadableSpan(
        name=fit_to_leave(span.name),
        context=_context(span.place),
        parent=_context(span.parent) if span.parent is not None else None,
        resource=resource,
        attributes=attributes,
        kind=SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR) if span.error else Status(StatusCode.UNSET),
        start_time=int(span.began * 1e9),
        end_time=int(max(span.ended, span.began) * 1e9),
        instrumentation_scope=InstrumentationScope("choreography"),
    )


def _context(place: Place) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    return SpanContext(int(place.trace, 16), int(place.span, 16), is_remote=True, trace_flags=TraceFlags(0x01))


def _washed(value: Attribute) -> Attribute:
    if isinstance(value, str):
        return clip(fit_to_leave(value), _ATTRIBUTE_LENGTH)
    if isinstance(value, Sequence):
        return [clip(fit_to_leave(one), _ATTRIBUTE_LENGTH) for one in value]
    return value
