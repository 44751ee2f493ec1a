"""Measures through Temporal's runtime, so that they stand beside the SDK's own: on its endpoint, or wherever it tells.

A runtime that its user has configured takes them as well; without metrics in it, there is no meter.
"""

from __future__ import annotations

import functools
import socket
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.border.washing import said
from activities.errors import SettingInvalid
from activities.measures.catalogue import CATALOGUE, Metric

MOST_VALUES = 100
"""Different values of a label that a process tells apart: a run's options may name any model, and errors any class."""

OTHER = "other"
"""The value of a label that stands for all further ones."""

BUCKETS: Mapping[str, Any] = {metric.name: list(metric.buckets) for metric in CATALOGUE if not metric.is_counter}
"""For a runtime of one's own: `PrometheusConfig(…, histogram_bucket_overrides=BUCKETS)`."""

_LABEL_LENGTH = 100


def runtime_with_metrics(address: str) -> Runtime:
    """Make a runtime that serves metrics in Prometheus' form.

    Args:
        address: Where, `127.0.0.1:9464`.

    Raises:
        SettingInvalid: It is no address, or it can't be listened at.
    """
    metrics = PrometheusConfig(
        bind_address=_resolved(address),
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=BUCKETS,
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics, attach_service_name=False))
    except ValueError as error:
        why = str(error).removeprefix("Failed starting Prometheus exporter: ")
        raise SettingInvalid(
            f"--metrics {address}: metrics can't be served there: {why}. Name an address of this machine, and a port "
            "that is free."
        ) from None


def meter_of(client: Client) -> RuntimeMeter | None:
    """Return what measures through the runtime of a client; None where that has no metrics."""
    runtime = client.service_client.config.runtime or Runtime.default()
    if runtime not in _meters:
        wanted = runtime.metric_meter is not MetricMeter.noop
        _meters[runtime] = RuntimeMeter(runtime.metric_meter) if wanted else None
    return _meters[runtime]


class RuntimeMeter:
    """Takes measures for a runtime's meter."""

    def __init__(self, meter: MetricMeter) -> None:
        self._instruments = {metric.name: _instrument(meter, metric) for metric in CATALOGUE}
        self._known: defaultdict[str, set[str]] = defaultdict(set)
        self._labelled = functools.lru_cache(maxsize=5_000)(self._label)

    def count(self, metric: Metric, by: int, labels: Mapping[str, str]) -> None:
        """Count on."""
        self._instruments[metric.name].add(by, self._bounded(labels))

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Put a value into a histogram."""
        self._instruments[metric.name].record(max(value, 0.0), self._bounded(labels))

    def _bounded(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {name: self._labelled(name, value) for name, value in labels.items()}

    def _label(self, name: str, value: str) -> str:
        """Return a value without secrets, and one that stands for all others where there are too many."""
        known, written = self._known[name], said(value, _LABEL_LENGTH)
        if len(known) < MOST_VALUES:
            known.add(written)
        return written if written in known else OTHER


def _instrument(meter: MetricMeter, metric: Metric) -> Any:
    if metric.is_counter:
        return meter.create_counter(metric.name, metric.help)
    return meter.create_histogram_float(metric.name, metric.help, metric.unit)


def _resolved(address: str) -> str:
    """Return an address with the host as a number, as the runtime takes it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise SettingInvalid(
            f"--metrics {address}: give host and port, as in 127.0.0.1:9464, or 0.0.0.0:9464 for all of the machine's."
        )
    try:
        family, *_, found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingInvalid(f"--metrics {address}: there is no host {host}: {error.strerror}.") from None
    return f"[{found[0]}]:{port}" if family == socket.AF_INET6 else f"{found[0]}:{port}"


_meters: WeakKeyDictionary[Runtime, RuntimeMeter | None] = WeakKeyDictionary()
