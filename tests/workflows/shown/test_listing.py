from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

import workflows.shown.listing
from activities import Agent, Person, prompt, task
from activities.answering.record import current_checkpoint
from activities.contract.names import SEARCH_ATTRIBUTES
from activities.contract.usage import Usage
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.conftest import Runs
from tests.system.processes import temporal
from tests.workflows.council import decide_once
from tests.workflows.histories import Handle, count, events, message_of
from workflows import choreography, scatter


class Spender(Agent):
    """Spends money."""

    @task(retries=0)
    async def spend(self, usd: float) -> float:
        """Spend some money; a negative sum can't be."""
        progress = current_checkpoint()
        assert progress is not None
        progress.usage += Usage(model_calls=1, prompt_tokens=70, completion_tokens=30, cost_usd=usd)
        if usd < 0:
            raise ValueError("that is earning")
        return usd


@choreography(spender=2)
async def spend_all(sums: list[float], spender: Spender) -> int:
    """Spend sums of money."""
    return len(await scatter(sums, spender, lambda s, usd: s.spend(usd), on_error="collect"))


class Auditor(Person):
    """Looks at the books."""

    @prompt
    async def agree(self, sums: list[float]) -> bool:
        """Shall {sums} be spent?"""


@choreography
async def spend_while_asking(sums: list[float], spender: Spender, auditor: Auditor) -> bool:
    """Spend one sum after the other while somebody is asked."""
    asked = asyncio.ensure_future(auditor.agree(sums))
    for usd in sums:
        await spender.spend(usd)
    return await asked


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


async def status_of(run: Handle, *words: str) -> str:
    """Return the run's status in the list, as soon as it is one of these."""
    async with asyncio.timeout(60):
        while (status := (await attributes(run)).get("RunStatus", "")) not in words:
            await asyncio.sleep(0.05)
    return str(status)


async def test_a_run_that_waits_for_a_person_or_for_money_is_listed_so_in_a_word(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED), runs_there.serving("tests.workflows.council"):
        asking = await runs_there.start(decide_once, {"title": "Roses", "pages": 12})
        poor = await runs_there.start(spend_all, [0.5, 0.5, 0.5], {"budget": {"usd": 0.6}})
        paused = await runs_there.start(decide_once, {"title": "Roses", "pages": 12})
        await paused.execute_update("pause")
        assert await status_of(asking, "waits") == await status_of(poor, "waits") == "waits"
        assert await status_of(paused, "paused") == "paused"
        assert (await poor.query("progress"))["status"].startswith("waits: budget: ")
        await poor.execute_update("set_budget", {"usd": 9})
        await poor.result()
        assert await status_of(poor, "done") == "done"
        for run in (asking, poor, paused):
            assert await count(run, EventType.EVENT_TYPE_TIMER_STARTED) == 0
        await paused.execute_update("resume")
        assert await status_of(paused, "waits") == "waits"


async def test_a_run_that_begins_to_wait_ever_again_tells_it_each_time_and_without_a_timer(runs_there: Runs) -> None:
    async with runs_there.serving("tests.workflows.council"):
        run = await runs_there.start(decide_once, {"title": "Roses", "pages": 12})
        await status_of(run, "waits")
        for _ in range(5):
            await run.execute_update("pause")
            await asyncio.sleep(0.1)
            await run.execute_update("resume")
            await asyncio.sleep(0.1)
        assert await status_of(run, "waits") == "waits"
    assert await count(run, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES) == 12
    assert await count(run, EventType.EVENT_TYPE_TIMER_STARTED) == 0


async def test_a_run_whose_calls_go_on_beside_a_question_does_not_wait_between_them(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_while_asking, [0.5] * 8)
        assert await status_of(run, "waits") == "waits"
        assert (await attributes(run))["CostUsd"] == 4.0
        [question] = await run.query("questions")
        await run.execute_update("answer", {"question": question["id"], "answer": True})
        assert await run.result() is True
    upserts = [
        event.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
        for event in await events(run)
        if event.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    ]
    assert [json.loads(fields["RunStatus"].data) for fields in upserts] == ["running", "waits", "running", "done"]


async def test_the_readmes_queries_find_what_they_are_for(runs_there: Runs, knowing: DevServer) -> None:
    async with runs_there.serving(__name__, serve=SERVED), runs_there.serving("tests.workflows.council"):
        waiting = await runs_there.start(decide_once, {"title": "Roses", "pages": 12})
        dear = await runs_there.start(spend_all, [9.0, 9.0], {"budget": {"usd": 9.5}})
        await status_of(waiting, "waits")
        await status_of(dear, "waits")

        async def found(query: str) -> set[str]:
            _, said = await temporal(knowing.address, "workflow", "list", "--query", query, "--output", "json")
            return {one["execution"]["workflowId"] for one in json.loads(said) or ()}

        queries = readme_queries()
        assert len(queries) >= 2
        async with asyncio.timeout(20):
            while not {waiting.id, dear.id} <= await found("RunStatus = 'waits'"):  # the list is a moment late
                await asyncio.sleep(0.1)
        for query in queries:
            assert await found(query) >= {dear.id}, query
        [only_runs] = [query for query in queries if "IS NOT NULL" in query]
        listed = await found(only_runs)
        assert {waiting.id, dear.id} <= listed
        assert not [id for id in listed if "/" in id]


def readme_queries() -> list[str]:
    root = Path(__file__).parents[3]
    text = "".join(path.read_text() for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))))
    found = re.findall(r"temporal workflow list --query '([^']+)'", text)
    return [query for query in found if "Tags" not in query]


async def test_a_long_run_tells_now_and_then_what_it_has_used_so_far(
    runs_there: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.shown.listing, "LEAST_REST", timedelta(milliseconds=10))
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


async def test_a_run_replays_on_a_worker_that_knows_other_attributes(runs_there: Runs, runs: Runs) -> None:
    from workflows.serving.workers import replayer

    async with runs_there.serving(__name__, serve=SERVED):
        knowing = await runs_there.start(spend_all, [4.0])
        await knowing.result()
    async with runs.serving(__name__, serve=SERVED):
        ignorant = await runs.start(spend_all, [4.0])
        await ignorant.result()
    for run in (knowing, ignorant):
        await replayer(spend_all).replay_workflow(await run.fetch_history())


async def test_an_ordinary_run_has_two_events_for_the_list_and_none_besides(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_all, [1.0, 1.0, 1.0])
        await run.result()
    kinds = {event.event_type for event in await events(run)}
    assert await count(run, EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES) == 2
    assert kinds.isdisjoint({EventType.EVENT_TYPE_MARKER_RECORDED, EventType.EVENT_TYPE_TIMER_STARTED})


async def test_a_run_that_fails_at_once_fails_well(runs_there: Runs) -> None:
    async with runs_there.serving(__name__, serve=SERVED):
        run = await runs_there.start(spend_all, "all")
        assert "the input 'sums' does not fit" in await message_of(run)
