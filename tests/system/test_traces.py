"""One trace per run, in a collector: whatever processes it went through, and whatever died."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

import pytest

from activities.contract.names import CHOREOGRAPHY_QUEUE
from console.dev_server import DevServer
from testing.loopback import Reply, Request, Text, ToolCall, Tools
from tests.collector import Collected, Collector
from tests.conftest import Ledger, Runs
from tests.provider import Provider
from tests.system.processes import ROOT, Workers, eventually, temporal

TRACED = ("--bare", "--module", "tests.system.traced")
PLACES = [f"place {number}" for number in range(1, 21)]
HELD = "place 17"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as started:
        yield started


class Scenes:
    """Answers every scout: first a note, then what it saw; one of them is made to wait."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.go_on = threading.Event()

    def reply(self, request: Request) -> Reply:
        asked = next(m["content"] for m in request.messages if m["role"] == "user")
        place = asked.removeprefix("Look at ").rstrip(".")
        if request.messages[-1]["role"] != "tool":
            return Tools((ToolCall("note", {"what": place}),), prompt_tokens=30, completion_tokens=7)
        if place == HELD and not self.go_on.is_set():
            self.held.set()
            self.go_on.wait(60)
        return Text(f"{place} is fine", prompt_tokens=50, completion_tokens=11)


async def test_a_run_over_two_workers_of_which_one_is_killed_is_one_trace_with_one_root(
    workers: Workers, runs: Runs, server: DevServer, collector: Collector, ledger: Ledger
) -> None:
    scenes = Scenes()
    with Provider(scenes.reply) as provider:
        environment = {**provider.environment, "LEDGER": str(ledger.path), "CONTINUE_AT": "60"}
        team = {
            name: workers.start(*TRACED, "--traces", collector.url, cwd=ROOT, **environment, WORKER=name)
            for name in ("a", "b")
        }
        for worker in team.values():
            await worker.serves()
        inputs = '["' + '", "'.join(PLACES) + '"]'
        start = ("workflow", "start", "--type", "explore", "--task-queue", CHOREOGRAPHY_QUEUE, "--workflow-id", "tour")
        assert (await temporal(server.address, *start, "--input", inputs))[0] == 0
        await eventually(lambda: scenes.held.is_set() and len(collector.named("execute_tool")) == 20)
        await eventually(lambda: len(collector.named("invoke_agent")) == 19)
        [victim] = [line.removeprefix(f"{HELD} ") for line in ledger.lines() if line.startswith(f"{HELD} ")]
        team.pop(victim).kill()
        scenes.go_on.set()
        code, said = await temporal(server.address, "workflow", "result", "--workflow-id", "tour")
        assert (code, "20" in said) == (0, True), said
        await eventually(lambda: collector.named("invoke_workflow"))
        [survivor] = team.values()
        survivor.terminate()
        assert await survivor.exit_code() == 0

    assert collector.names() == {
        "invoke_workflow explore": 1,
        "phase survey": 1,
        "phase report": 1,
        "scatter Scout.look": 2,
        "invoke_agent Scout": 20,
        "turn": 40,
        "chat openai/any": 40,
        "execute_tool note": 20,
    }
    assert len({span.process for span in collector.spans}) == 2
    by_id = one_tree(collector.spans)
    for parent, child in (
        ("invoke_workflow explore", "phase"),
        ("phase", "scatter"),
        ("scatter", "invoke_agent"),
        ("invoke_agent", "turn"),
        ("turn", "chat"),
        ("turn", "execute_tool"),
    ):
        assert all(by_id[span.parent].name.startswith(parent) for span in collector.named(child)), child
    turns = [[span.attributes["choreography.turn"] for span in spans] for spans in by_parent(collector.named("turn"))]
    assert sorted(map(sorted, turns)) == [[1, 2]] * 20
    used = Counter(
        (span.attributes["gen_ai.usage.input_tokens"], span.attributes["gen_ai.usage.output_tokens"])
        for span in collector.named("chat")
    )
    assert used == {(30, 7): 20, (50, 11): 20}
    chat = collector.named("chat")[0]
    assert (
        chat.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "openai/any",
        }.items()
    )
    assert all(0 < span.attributes["gen_ai.response.time_to_first_chunk"] < 60 for span in collector.named("chat"))
    [root] = collector.named("invoke_workflow")
    assert root.attributes["temporalWorkflowID"] == "tour"
    assert root.began <= min(span.began for span in collector.spans)
    assert root.ended >= max(span.ended for span in collector.named("invoke_agent"))
    assert b"is fine" not in collector.bytes
    first = await runs.client.get_workflow_handle("tour").describe()
    assert root.attributes["temporalRunID"] == first.run_id
    history = [
        event async for event in runs.client.get_workflow_handle("tour", run_id=first.run_id).fetch_history_events()
    ]
    assert history[0].workflow_execution_started_event_attributes.continued_execution_run_id  # else it was one run
    assert not any(span.failed for span in collector.spans)


def one_tree(spans: list[Collected]) -> dict[str, Collected]:
    """Check that spans are one trace with one root; return them by their ids."""
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    assert len({span.trace for span in spans}) == 1
    assert len([span for span in spans if not span.parent]) == 1
    assert [span for span in spans if span.parent and span.parent not in by_id] == []
    return by_id


def by_parent(spans: list[Collected]) -> list[list[Collected]]:
    ordered = sorted(spans, key=lambda span: span.parent)
    return [list(group) for _, group in groupby(ordered, key=lambda span: span.parent)]
