from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

import workflows.listing
import workflows.queue_watch
from activities import Agent, task
from activities.contract import SEARCH_ATTRIBUTES, Usage
from activities.converter import data_converter
from activities.record import current_progress
from console.dev_server import DevServer
from tests.conftest import Runs
from tests.system.processes import temporal
from tests.workflows.histories import Handle, count, message_of
from workflows import choreography, scatter


class Spender(Agent):
    """Spends money."""

    @task(retries=0)
    async def spend(self, usd: float) -> float:
        """Spend some money; a negative sum can't be."""
        progress = current_progress()
        assert progress is not None
        progress.usage += Usage(model_calls=1, prompt_tokens=70, completion_tokens=30, cost_usd=usd)
        if usd < 0:
            raise ValueError("that is earning")
        return usd


class Nobody(Agent):
    """Is not there."""

    @task
    async def come(self) -> None:
        """Come."""


@choreography(spender=2)
async def spend_all(sums: list[float], spender: Spender) -> int:
    """Spend sums of money."""
    return len(await scatter(sums, spender, lambda s, usd: s.spend(usd), on_error="collect"))


@choreography
async def wait_for_nobody(nobody: Nobody) -> None:
    """Wait."""
    await nobody.come()


SERVED = ("choreography", "Spender")


@pytest.fixture(scope="module")
def knowing() -> Iterator[DevServer]:
    """A server that knows the search attributes."""
    with DevServer.start(ui=False, search_attributes=SEARCH_ATTRIBUTES) as started:
        yield started


@pytest.fixture
async def runs_there(knowing: DevServer) -> AsyncIterator[Runs]:
    """A way to serve and run choreographies on that server."""
    made = Runs(await Client.connect(knowing.address, data_converter=data_converter))
    yield made
    await made.end()


async def attributes(run: Handle) -> Mapping[str, Any]:
    described = await run.describe()
    return {pair.key.name: pair.value for pair in described.typed_search_attributes if pair.key.name != "BuildIds"}


async def test_a_run_is_listed_with_what_it_is_and_has_used(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_all, [4.0, 2.5, -1.0])
        await run.result()
    assert await attributes(run) == {
        "Choreography": "spend_all",
        "RunStatus": "done",
        "Roles": ["spender"],
        "CostUsd": 5.5,
        "Tokens": 300,
        "FailedItems": 1,
    }
    assert await count(run, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES) == 2


async def test_the_temporal_program_finds_runs_by_what_they_cost(runs_there: Runs, knowing: DevServer) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        dear = await runs_there.start(spend_all, [9.0])
        cheap = await runs_there.start(spend_all, [1.0])
        await asyncio.gather(dear.result(), cheap.result())

    async def found(query: str) -> set[str]:
        _, said = await temporal(knowing.address, "workflow", "list", "--query", query, "--output", "json")
        return {one["execution"]["workflowId"] for one in json.loads(said)}

    async with asyncio.timeout(20):
        while dear.id not in await found("CostUsd > 8 AND Roles = 'spender'"):  # the list is a moment late
            await asyncio.sleep(0.1)
    assert await found("CostUsd > 8 AND CostUsd < 10") == {dear.id}
    assert cheap.id in await found("RunStatus = 'done' AND Choreography = 'spend_all' AND Tokens = 100")


async def test_a_run_that_waits_is_listed_so_after_a_while_although_nothing_happens(
    runs_there: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.queue_watch, "QUIET_S", 0.1)
    monkeypatch.setattr(workflows.listing, "LEAST_REST", timedelta(seconds=0.5))
    async with runs_there.serving(__name__, serve=("choreography",)):
        run = await runs_there.start(wait_for_nobody)
        async with asyncio.timeout(20):
            while not (status := (await attributes(run)).get("RunStatus", "")).startswith("waits"):
                await asyncio.sleep(0.1)
    assert status == "waits: nobody serves the task queue Nobody.come: 1 calls wait in it"


async def test_a_long_run_tells_now_and_then_what_it_has_used_so_far(
    runs_there: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.listing, "LEAST_REST", timedelta(0))
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_all, [0.5] * 300)
        seen: set[float] = set()
        async with asyncio.timeout(60):
            while 150.0 not in seen:
                seen.add((await attributes(run)).get("CostUsd", 0.0))
                await asyncio.sleep(0.02)
        await run.result()
    assert len(seen) > 3
    assert await count(run, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES) < 100


# Servers that know none, or others


async def test_a_server_without_the_attributes_runs_the_same(runs: Runs) -> None:
    async with runs.serving(__name__, serve=SERVED):
        run = await runs.start(spend_all, [4.0])
        assert await run.result() == 1
    assert await attributes(run) == {}
    assert await count(run, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED) == 0


async def test_one_command_makes_a_server_know_them() -> None:
    with DevServer.start(ui=False) as server:
        words = [word for name, kind in SEARCH_ATTRIBUTES.items() for word in ("--name", name, "--type", kind)]
        code, said = await temporal(server.address, "operator", "search-attribute", "create", *words)
        assert code == 0, said
        runs = Runs(await Client.connect(server.address, data_converter=data_converter))
        async with runs.serving(__name__, serve=SERVED):
            run = await runs.start(spend_all, [4.0])
            await run.result()
        assert (await attributes(run))["CostUsd"] == 4.0


async def test_an_attribute_of_another_type_is_left_alone() -> None:
    other_types = MappingProxyType({"CostUsd": "Keyword", "Tokens": "Int"})
    with DevServer.start(ui=False, search_attributes=other_types) as server:
        runs = Runs(await Client.connect(server.address, data_converter=data_converter))
        async with runs.serving(__name__, serve=SERVED):
            run = await runs.start(spend_all, [4.0])
            await run.result()
        assert await attributes(run) == {"Tokens": 100}


async def test_a_run_that_fails_at_once_fails_well(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_all, "all")
        assert "the input 'sums' does not fit" in await message_of(run)
