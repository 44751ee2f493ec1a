from __future__ import annotations

import uuid
from collections import Counter
from functools import partial
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.worker import Worker

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.contract.spans import TRACE_HEADER, Place, Span
from console.dev_server import DevServer
from testing.loopback import Fault, Slow, Text, ToolCall, Tools
from tests.conftest import Runs
from tests.provider import UNKNOWN_MODEL, Provider
from tests.system.processes import eventually, temporal
from tests.system.traced import ask_the_owner, explore, look_again, look_around
from tests.workflows.people.test_people import questions
from workflows.program import sharding

TRACED = "tests.system.traced"
RESET = ("workflow", "reset", "--reason", "a test")


class Told(list[Span]):
    """Spans as they are told."""

    def names(self) -> Counter[str]:
        return Counter(span.name for span in self)

    def one(self, name: str) -> Span:
        [found] = [span for span in self if span.name == name]
        return found

    def parent_of(self, span: Span) -> str:
        [found] = [other.name for other in self if other.place == span.parent]
        return found

    def check(self) -> None:
        """Check that it is one trace with one root, in which every span has its parent."""
        places = {span.place for span in self}
        assert len(places) == len(self)
        assert len({place.trace for place in places}) == 1
        [root] = [span for span in self if span.parent not in places]
        assert root.name.startswith("invoke_workflow")
        assert root.parent is None


async def test_what_is_asked_inside_a_call_is_a_part_of_it(runs: Runs, provider: Provider) -> None:
    told = Told()
    provider.enqueue(Text("fine"), Tools((ToolCall("ask_another", {"what": "the back"}),)), Text("dark"), Text("well"))
    async with runs.serving(TRACED, traces=told.append):
        assert await runs.execute(look_again, "the house") == "fine, well"
    told.check()
    assert told.names() == {
        "invoke_workflow look_again": 1,
        "invoke_agent Scout": 4,
        "turn": 4,
        "chat openai/any": 4,
        "execute_tool ask_another": 1,
    }
    inner = [told.parent_of(span) for span in told if span.name == "invoke_agent Scout"]
    assert Counter(inner) == {"invoke_workflow look_again": 1, "invoke_agent Scout": 2, "execute_tool ask_another": 1}


async def test_a_request_that_fails_is_told_and_its_turn_once(runs: Runs, provider: Provider) -> None:
    told = Told()
    provider.enqueue(Fault(500, "down"), Text("fine"))
    async with runs.serving(TRACED, traces=told.append):
        await runs.execute(look_around, "the house")
    told.check()
    assert told.names() == {"invoke_workflow look_around": 1, "invoke_agent Scout": 1, "turn": 1, "chat openai/any": 2}
    assert sorted(span.error for span in told if span.name == "chat openai/any") == ["", "outage"]


async def test_a_call_that_fails_for_good_leaves_no_part_without_its_parent(runs: Runs, provider: Provider) -> None:
    told = Told()
    provider.enqueue(UNKNOWN_MODEL)
    async with runs.serving(TRACED, traces=told.append):
        with pytest.raises(WorkflowFailureError):
            await runs.execute(look_around, "the house")
    told.check()
    assert {span.name: span.error for span in told} == {
        "invoke_workflow look_around": "RunFailed",
        "invoke_agent Scout": "CallFailed",
        "turn": "ModelRefused",
        "chat openai/any": "refused",
    }


async def test_a_call_that_waits_for_a_person_is_told_before_and_after(runs: Runs, provider: Provider) -> None:
    told = Told()
    provider.enqueue(Tools((ToolCall("fell", {"what": "the oak"}),)), Text("done"))
    async with runs.serving(TRACED, traces=told.append):
        run = await runs.start(look_around, "the garden")
        [question] = await questions(run)
        assert told.names() == {"invoke_agent Scout": 1, "turn": 1, "chat openai/any": 1}
        await run.execute_update("answer", {"question": question["id"], "answer": True})
        await run.result()
    told.check()
    assert told.names() == {
        "invoke_workflow look_around": 1,
        "invoke_agent Scout": 2,
        "turn": 3,
        "chat openai/any": 2,
        "execute_tool fell": 1,
    }
    assert not any(span.error for span in told)


async def test_a_question_to_a_person_is_told_when_it_is_answered(runs: Runs) -> None:
    told = Told()
    async with runs.serving(TRACED, traces=told.append):
        run = await runs.start(ask_the_owner, "the garden")
        [question] = await questions(run)
        await run.execute_update("answer", {"question": question["id"], "answer": True})
        assert await run.result() is True
    told.check()
    assert told.names() == {"invoke_workflow ask_the_owner": 1, "phase asking": 1, "ask Owner": 1}
    assert told.parent_of(told.one("ask Owner")) == "phase asking"


async def test_a_cancelled_run_tells_what_it_was_doing(runs: Runs, provider: Provider) -> None:
    told = Told()
    provider.enqueue(Slow(30, Text("too late")))
    async with runs.serving(TRACED, traces=told.append):
        run = await runs.start(look_around, "the garden")
        await eventually(lambda: provider.requests)
        await run.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
    told.check()
    assert told.names() == {"invoke_workflow look_around": 1, "invoke_agent Scout": 1, "turn": 1, "chat openai/any": 1}
    assert told.one("invoke_workflow look_around").attributes["choreography.outcome"] == "cancelled"


async def test_a_run_that_is_reset_goes_on_in_its_trace(runs: Runs, provider: Provider, server: DevServer) -> None:
    told = Told()
    provider.enqueue(*[Text("fine")] * 20)
    async with runs.serving(TRACED, traces=told.append):
        run = await runs.start(explore, [str(number) for number in range(4)])
        await run.result()
        before, root = list(told), told.one("invoke_workflow explore")
        told.clear()
        end = [event.event_id async for event in run.fetch_history_events()][-1]
        await temporal(server.address, *RESET, "--workflow-id", run.id, "--event-id", str(end - 1))
        await eventually(lambda: told.names()["invoke_workflow explore"])
    assert told.one("invoke_workflow explore").place == root.place
    assert {span.parent for span in told if span.parent is not None} <= {span.place for span in [*before, *told]}


async def test_the_calls_of_shards_are_in_the_trace_of_their_run(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "SHARD_FROM", 4)
    told = Told()
    provider.enqueue(*[Text("fine")] * 12)
    async with runs.serving(TRACED, traces=told.append):
        assert await runs.execute(explore, [str(number) for number in range(12)]) == 12
    told.check()
    assert told.names()["invoke_agent Scout"] == 12
    assert {told.parent_of(span) for span in told if span.name == "invoke_agent Scout"} == {"scatter Scout.look"}


async def test_a_run_that_is_replayed_at_each_step_tells_each_part_once(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.serving.workers.Worker", partial(Worker, max_cached_workflows=0))
    told = Told()
    provider.enqueue(*[Text("fine")] * 6)
    async with runs.serving(TRACED, traces=told.append):
        assert await runs.execute(explore, [str(number) for number in range(6)]) == 6
    told.check()
    assert told.names() == {
        "invoke_workflow explore": 1,
        "phase survey": 1,
        "phase report": 1,
        "scatter Scout.look": 2,
        "invoke_agent Scout": 6,
        "turn": 6,
        "chat openai/any": 6,
    }
    survey, report = told.one("phase survey"), told.one("phase report")
    assert survey.began < survey.ended <= report.began < report.ended


@pytest.mark.parametrize("header", ["", "00-{trace}-{span}-00", "nonsense"])
async def test_whoever_starts_a_run_says_whether_it_is_traced(
    runs: Runs, client: Client, provider: Provider, header: str
) -> None:
    told = Told()
    provider.enqueue(Text("fine"))
    place = Place.of_run("another", "run")
    handed = place.onto({})[TRACE_HEADER]
    handed.data = handed.data.replace(
        place.write().encode(), header.format(trace=place.trace, span=place.span).encode()
    )
    async with runs.serving(TRACED, traces=told.append):
        config = client.config()
        config["interceptors"] = [Handing({TRACE_HEADER: handed})]
        queue, id = CHOREOGRAPHY_QUEUE, f"handed-{uuid.uuid4().hex[:8]}"
        await Client(**config).execute_workflow("look_around", "ducks", id=id, task_queue=queue)
    assert bool(told) == (not header.endswith("-00"))


class Handing(Interceptor):
    """Starts runs with these headers."""

    def __init__(self, headers: dict[str, Payload]) -> None:
        self.headers = headers

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        handing = self

        class Outbound(OutboundInterceptor):
            async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
                input.headers = handing.headers
                return await super().start_workflow(input)

        return Outbound(next)
