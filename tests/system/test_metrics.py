"""What a worker's metrics are, as Prometheus reads them, and all that is written about them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from activities.errors import SettingInvalid
from activities.measures.catalogue import CATALOGUE
from activities.measures.temporal import runtime_with_metrics
from tests.conftest import Runs
from tests.provider import Provider
from tests.system.processes import ROOT, Workers, free_port
from tests.system.watched import REPLIES, study_and_file

SECRET = "sk-watched0123456789abcdefghijklmn"
WATCHED = ("--bare", "--module", "tests.system.watched")


@pytest.fixture
async def scraped(workers: Workers, runs: Runs, provider: Provider, tmp_path: Path) -> str:
    """All that a worker tells after a run in which all happened that is measured."""
    provider.enqueue(*REPLIES)
    address = f"localhost:{free_port()}"
    worker = workers.start(*WATCHED, "--metrics", address, OPENAI_API_KEY=SECRET)
    await worker.serves()
    assert f"http://{address}/metrics" in worker.output
    assert await runs.execute(study_and_file, "the tides", str(tmp_path)) == "Facts"
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        told: str = answer.read().decode()
    return told


async def test_what_is_exposed_is_what_is_documented_and_what_the_dashboard_asks_for(scraped: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(scraped)}
    lint(scraped, families)
    promtool(scraped)
    assert SECRET not in scraped
    samples = {name: labels for family in families.values() for name, labels in samples_of(family).items()}
    own = {name: labels for name, labels in names_and_labels(families).items() if name.startswith("choreography_")}
    assert own == {metric.exposed_name: set(metric.labels) for metric in CATALOGUE}
    assert documented() == [(m.exposed_name, ", ".join(m.labels), m.help.rstrip(".")) for m in CATALOGUE]
    for name, labels in asked_by_the_dashboard():
        assert name in samples, name
        assert labels <= samples[name], (name, labels)
    assert figures(families) == {
        "choreography_model_calls_total": 8,
        "choreography_model_errors_total": 2,
        "choreography_prompt_tokens_total": 80,
        "choreography_completion_tokens_total": 40,
        "choreography_model_cost_usd_sum": pytest.approx(8 * (10 * 0.001 + 5 * 0.002)),
        "choreography_reasks_total": 1,
        "choreography_compactions_total": 1,
        "choreography_calls_total": 3,
        "choreography_call_errors_total": 1,
        "choreography_unpriced_model_calls_total": 0,
    }


def names_and_labels(families: Mapping[str, Metric]) -> dict[str, set[str]]:
    """Return the labels of each metric by its name."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: {
            label for sample in family.samples for label in sample.labels if label != "le"
        }
        for family in families.values()
    }


def samples_of(family: Metric) -> dict[str, set[str]]:
    """Return the labels of each of a metric's samples, by the name to ask for."""
    found: dict[str, set[str]] = {}
    for sample in family.samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def documented() -> list[tuple[str, str, str]]:
    """Return what docs/operating.md says that there is: names, labels, and what they tell."""
    text = (ROOT / "docs/operating.md").read_text()
    return re.findall(r"^\| `(choreography_\w+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)


def asked_by_the_dashboard() -> list[tuple[str, set[str]]]:
    """Return each metric that the dashboard asks for, with the labels by which it selects and sums."""
    dashboard = json.loads((ROOT / "docker/grafana/choreography.json").read_text())
    assert dashboard["schemaVersion"] >= 36
    assert dashboard["title"]
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all(panel["gridPos"].keys() == {"h", "w", "x", "y"} for panel in dashboard["panels"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    asked = []
    for target in (target for panel in panels for target in panel["targets"]):
        assert target["refId"]
        assert target["datasource"]["uid"] == "${datasource}"
        for used in re.findall(r"\$(?!__)(\w+)", target["expr"]):
            assert used in variables
        for part in re.split(r" / ", target["expr"]):
            [name] = re.findall(r"\b(?:choreography|temporal)_\w+", part)
            selected = re.findall(r"(\w+)=~?\"", part)
            summed = re.findall(r"by \(([^)]*)\)", part)
            asked.append((name, {*selected, *(label for labels in summed for label in labels.split(", "))}))
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= asked[-1][1]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            [(name, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])
            asked.append((name, {label}))
    return asked


def figures(families: Mapping[str, Metric]) -> dict[str, Any]:
    """Return what the metrics came to, over all labels."""
    wanted = (
        *("model_calls_total", "model_errors_total", "prompt_tokens_total", "completion_tokens_total"),
        *("model_cost_usd_sum", "reasks_total", "compactions_total", "calls_total", "call_errors_total"),
        "unpriced_model_calls_total",
    )
    values: dict[str, float] = {}
    for sample in (sample for family in families.values() for sample in family.samples):
        values[sample.name] = values.get(sample.name, 0) + sample.value
    return {f"choreography_{name}": values[f"choreography_{name}"] for name in wanted}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("nonsense", "--metrics nonsense: give host and port, as in 127.0.0.1:9464"),
        (":9464", "--metrics :9464: give host and port"),
        ("127.0.0.1:70000", "--metrics 127.0.0.1:70000: give host and port"),
        ("no-such-host.invalid:9464", "there is no host no-such-host.invalid"),
    ],
)
def test_an_address_that_is_none_is_told(address: str, told: str) -> None:
    with pytest.raises(SettingInvalid, match=re.escape(told)):
        runtime_with_metrics(address)


async def test_a_port_in_use_is_told_in_one_line_before_anything_is_served(workers: Workers) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = workers.start(*WATCHED, METRICS=address)
        assert await worker.exit_code() == 2
    [line] = worker.errors.splitlines()
    assert f"worker.py: --metrics {address}: metrics can't be served there: Address already in use" in line
    assert "Serving" not in worker.output


def lint(told: str, families: Mapping[str, Metric]) -> None:
    """Check what `promtool check metrics` checks."""
    for family in families.values():
        name, labels = family.name, {label for sample in family.samples for label in sample.labels}
        assert family.documentation, name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert not re.search(r"_(milliseconds|ms|minutes|hours|percent|kilobytes|counter|gauge|histogram)(_|$)", name)
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in labels), labels
        if family.type == "counter":
            assert f"# TYPE {name}_total counter" in told
        else:
            assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
            assert family.type == "histogram" or "le" not in labels


def promtool(told: str) -> None:
    """Have Prometheus' own program check, where there is one."""
    if (program := shutil.which("promtool")) is not None:
        done = subprocess.run([program, "check", "metrics"], input=told, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
