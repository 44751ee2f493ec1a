from __future__ import annotations

import timeit
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig
from temporalio.worker import Worker

from activities.measures import catalogue as metrics
from activities.measures.measures import count, measuring, measuring_also, observe, observe_first_token
from activities.measures.temporal import MOST_VALUES, OTHER, RuntimeMeter, meter_of
from console.dev_server import DevServer
from tests.conftest import Runs
from tests.provider import Provider, Text
from tests.system.watched import study_and_file
from workflows import ChoreographyPlugin


@activity.defn
async def nothing() -> None:
    """Do nothing."""


def buffered() -> tuple[MetricBuffer, Runtime]:
    buffer = MetricBuffer(10_000)
    return buffer, Runtime(telemetry=TelemetryConfig(metrics=buffer))


def told(buffer: MetricBuffer, name: str) -> list[tuple[dict[str, object], float]]:
    return [(dict(u.attributes), u.value) for u in buffer.retrieve_updates() if u.metric.name == name]


def test_without_a_meter_nothing_is_measured_and_it_costs_next_to_nothing() -> None:
    baseline = timeit.timeit(lambda: None, number=20_000)
    assert timeit.timeit(lambda: count(metrics.REASKS, model="any"), number=20_000) < 30 * baseline + 0.1


async def test_a_runtime_without_metrics_has_no_meter(client: Client) -> None:
    assert meter_of(client) is None


def test_what_a_call_does_is_told_with_its_labels() -> None:
    buffer, runtime = buffered()
    with measuring(RuntimeMeter(runtime.metric_meter), method="Scholar.study", role="scholar"):
        with measuring_also(model="openai/any"):
            observe_first_token(0.25)
            count(metrics.MODEL_ERRORS, error="outage")
        observe(metrics.WAITS, -1.0, reason="limit")  # of a clock that was set back
    updates = {(u.metric.name, u.value): dict(u.attributes) for u in buffer.retrieve_updates()}
    of_call = {"method": "Scholar.study", "role": "scholar"}
    of_model = {**of_call, "model": "openai/any"}
    assert updates["choreography_model_first_token", 0.25].items() >= of_model.items()
    assert updates["choreography_model_errors", 1].items() >= {**of_model, "error": "outage"}.items()
    assert updates["choreography_model_wait", 0.0].items() >= {**of_call, "reason": "limit"}.items()


def test_a_label_has_a_bounded_number_of_values_and_holds_no_secret() -> None:
    buffer, runtime = buffered()
    with measuring(RuntimeMeter(runtime.metric_meter), method="m", role="r"):
        count(metrics.REASKS, model="openai/sk-proj-0123456789abcdefghijklmnopqrstuv0123456789")
        for number in range(MOST_VALUES + 50):
            count(metrics.REASKS, model=f"openai/{number}")
    models = [str(labels["model"]) for labels, _ in told(buffer, "choreography_reasks")]
    assert "sk-proj-0123" not in "".join(models)
    assert len(set(models)) == MOST_VALUES + 1
    assert OTHER in models


async def test_a_runtime_of_the_users_own_has_what_its_workers_measure(
    server: DevServer, provider: Provider, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "openai/priced")  # litellm remembers the price that the team gives its model
    provider.enqueue(Text('{"title": "Facts"}'))
    buffer, runtime = buffered()
    plugin = ChoreographyPlugin(modules=["tests.system.watched"], grace=0.0)
    client = await Client.connect(server.address, runtime=runtime, plugins=[plugin])
    async with Worker(client, task_queue="of-the-users-own", activities=[nothing]):
        await runs.execute(study_and_file, "the tides", str(tmp_path))
    names = {u.metric.name for u in buffer.retrieve_updates()}
    assert {"choreography_calls", "choreography_prompt_tokens", "choreography_call_errors"} <= names
