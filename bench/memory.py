"""What it costs that an instance remembers: time beside the same call without memory, events, and billed actions.

A call here is two requests to a model on loopback, and a tool between them. Actions are what a hosted Temporal bills:
the call itself, its heartbeats, and what it asks and tells the instance's conversation.
"""

from __future__ import annotations

from collections import Counter

from bench.figures import Figure, ratio
from bench.site import Requests, Site, site
from bench.team import glance_in_turn, take_at_once, think_in_turn
from tests.provider import Provider, Request, Text, ToolCall, Tools

CALLS = 5
"""Calls of a run that is timed: few, as what a longer conversation costs is its longer requests."""

ROUNDS = 15
COUNTED = 60
"""Calls over which events and actions are counted: those of a run's beginning and end are few among them."""

LONG_CALL_S = 60.0

BILLED = (
    "RecordActivityTaskHeartbeat",
    "QueryWorkflow",
    "SignalWorkflowExecution",
    "SignalWithStartWorkflowExecution",
    "StartWorkflowExecution",
    "UpdateWorkflowExecution",
    "ExecuteMultiOperation",
)
"""Requests of a worker that are billed; the call itself, which the run schedules, comes on top."""


async def measure(scale: float) -> list[Figure]:
    """Measure calls with memory and without, and a long call."""
    with Provider(_answer) as provider:
        async with site(tuned=True) as here:
            requests = await here.counted_worker(LOOPBACK=provider.url, OPENAI_API_KEY="any")
            return [
                *await _beside_each_other(here, max(1, round(ROUNDS * scale))),
                *await _counted(here, requests),
                await _long_call(here, requests, LONG_CALL_S * min(scale, 1)),
            ]


def _answer(request: Request) -> Text | Tools:
    if request.messages[-1]["role"] == "tool":
        return Text("seen")
    return Tools((ToolCall("look", {"at": request.last_user}),))


async def _beside_each_other(here: Site, rounds: int) -> list[Figure]:
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(rounds + 1):
        for side, work in (("with", think_in_turn), ("without", glance_in_turn)):
            ran = await here.run(work, CALLS, instances={})
            if number:  # the first round warms up
                seconds[side].append(ran.seconds)
    each = [Figure(f"call {side} memory", 1000 * min(times) / CALLS, "ms/call") for side, times in seconds.items()]
    return [*each, ratio("call with memory / without", seconds["with"], seconds["without"], at_most=1.3)]


async def _counted(here: Site, requests: Requests) -> list[Figure]:
    before = requests.counts()
    ran = await here.run(think_in_turn, COUNTED, instances={})
    asked = requests.counts() - before
    in_run = (await here.client.get_workflow_handle(ran.workflow_id).describe()).history_length
    in_memory = (await here.client.get_workflow_handle(f"{ran.workflow_id}/mind-1").describe()).history_length
    billed = Counter({name: asked[name] for name in BILLED if asked[name]})
    return [
        Figure("events of a call with memory in the run", in_run / COUNTED, "events", at_most=6.3),
        Figure("events of a call in the conversation", in_memory / COUNTED, "events", at_most=2),
        Figure("billed actions of a call with two turns", 1 + billed.total() / COUNTED, "actions", at_most=3),
        *(Figure(f"  of these {name}", number / COUNTED, "per call") for name, number in sorted(billed.items())),
    ]


async def _long_call(here: Site, requests: Requests, seconds: float) -> Figure:
    before = requests.counts()
    await here.run(take_at_once, 1, seconds, instances={})
    beats = (requests.counts() - before)["RecordActivityTaskHeartbeat"]
    return Figure(f"heartbeats of a call of {seconds:.0f} s", beats, "beats", at_most=20)
