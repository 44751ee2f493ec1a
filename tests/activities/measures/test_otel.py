from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.sdk.trace import TracerProvider
from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.contract.spans import Place, Span
from activities.errors import SettingInvalid
from activities.measures import otel
from activities.measures.otel import Traces, traces_wanted
from activities.measures.spans import CAPTURE
from console.dev_server import DevServer
from testing.loopback import Text, ToolCall, Tools
from tests.collector import Collector
from tests.conftest import Runs
from tests.provider import Provider

SECRET = "sk-traced0123456789abcdefghijklmn"


async def test_a_start_that_is_traced_is_the_parent_and_what_is_said_is_told_if_wanted_without_secrets(
    runs: Runs, server: DevServer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.enqueue(Tools((ToolCall("note", {"what": SECRET}),)), Text(f"the key is {SECRET}"))
    with Collector() as collector:
        for name, value in {
            "OPENAI_API_KEY": SECRET,
            CAPTURE: "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "scouts",
        }.items():
            monkeypatch.setenv(name, value)
        assert traces_wanted("")
        traces = Traces()
        async with runs.serving("tests.system.traced", traces=traces):
            tracer = TracerProvider().get_tracer("a-start")
            client = await Client.connect(server.address, interceptors=[TracingInterceptor(tracer)])
            with tracer.start_as_current_span("an-order") as outer:
                await client.execute_workflow("look_around", "ducks", id="ducks", task_queue=CHOREOGRAPHY_QUEUE)
        traces.close()
    assert {span.trace for span in collector.spans} == {f"{outer.get_span_context().trace_id:032x}"}
    assert {span.service for span in collector.spans} == {"scouts"}
    [root] = collector.named("invoke_workflow")
    known = {span.id for span in collector.spans}
    assert [span.name for span in collector.spans if span.parent not in known] == [root.name]
    assert root.parent  # that of the client
    assert b"[secret OPENAI_API_KEY]" in collector.bytes
    assert SECRET.encode() not in collector.bytes
    [tool] = collector.named("execute_tool")
    assert '"what"' in tool.attributes["gen_ai.tool.call.arguments"]
    [first, last] = sorted(collector.named("chat"), key=lambda span: span.began)
    said = json.loads(last.attributes["gen_ai.input.messages"])
    assert [message["role"] for message in said] == ["system", "user", "assistant", "tool"]
    assert said[3]["parts"][0]["type"] == "tool_call_response"
    assert json.loads(first.attributes["gen_ai.output.messages"])[0]["parts"][0]["name"] == "note"


def test_a_span_is_sent_once_however_often_it_is_told() -> None:
    place = Place.of_run("march", "run-1")
    with Collector() as collector:
        traces = Traces(collector.url)
        for _ in range(3):
            traces(Span("phase survey", place.below(1), place, 1.0, 2.5, {"of": ["a", "b"], "n": 1}, "Stuck"))
        traces.close()
    [span] = collector.spans
    assert (span.name, span.parent, span.ended - span.began) == ("phase survey", place.span, 1_500_000_000)
    assert span.failed
    assert span.attributes == {"of": ["a", "b"], "n": 1, "error.type": "Stuck"}


def test_where_nobody_collects_nothing_waits_for_it_nor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "LAST_WORDS_S", 0.1)
    place = Place.of_run("march", "run-1")
    traces = Traces("http://127.0.0.1:9")
    traces(Span("half \ud800", place.below(1), place, 1.0, 2.5, {"half": "\ud800"}))
    traces(Span("not a place", Place("?", "?"), None, 1.0, 2.5))
    began = time.monotonic()
    traces.close()
    assert time.monotonic() - began < 15  # left to itself it waits for 30 s
    assert "OtelBatchSpanRecordProcessor" not in [thread.name for thread in threading.enumerate()]


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(SettingInvalid, match="--traces nowhere: give the address of a collector, as in http://local"):
        Traces("nowhere")


def test_packages_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.measures.otel.find_spec", lambda name: None)
    with pytest.raises(SettingInvalid, match=r"pip install 'choreography\[otel\]'"):
        Traces("http://localhost:4318")


def test_without_a_setting_nothing_of_it_is_wanted_or_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert not traces_wanted("")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not traces_wanted("http://localhost:4318")
    code = "import sys, activities.measures.otel, workflows.serving.workers; print('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
