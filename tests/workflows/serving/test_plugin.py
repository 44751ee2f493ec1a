"""Choreographies beside a team's own workflows, in a worker of its own."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, JSONPlainPayloadConverter, PayloadCodec, PayloadConverter
from temporalio.worker import Replayer, Worker

import workflows.serving.plugin
from activities import Agent, prompt, task
from activities.workspace import isolation
from console.dev_server import DevServer
from tests.provider import Provider, Text
from tests.workflows.orders import Order, ship
from workflows import ChoreographyPlugin, choreography, scatter
from workflows.errors import ChoreographyError


class Card(BaseModel):
    to: str
    words: str = "thank you"


class Writer(Agent):
    """You write cards."""

    @prompt
    async def write(self, order: str) -> str:
        """Write a card for {order}."""

    @task
    def fold(self, card: Card) -> str:
        """Fold a card."""
        return f"{card.words}, {card.to}"


@choreography(writer=2)
async def card_for(order: str, writer: Writer) -> str:
    """Write a card, and fold it."""
    return await writer.fold(Card(to=order, words=await writer.write(order)))


@choreography(writer=2)
async def fold_all(cards: list[Card], writer: Writer) -> list[str]:
    """Fold cards."""
    return await scatter(cards, writer, lambda w, card: w.fold(card))


def plugin(**options: Any) -> ChoreographyPlugin:
    return ChoreographyPlugin(modules=[__name__], grace=0.0, **options)


async def connected(server: DevServer, **options: Any) -> Client:
    return await Client.connect(server.address, **{"plugins": [plugin()], **options})


def worker(client: Client, queue: str = "orders", **options: Any) -> Worker:
    return Worker(client, task_queue=queue, workflows=[Order], activities=[ship], **options)


async def start(client: Client, workflow: str, argument: Any, queue: str = "choreography") -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(workflow, argument, id=f"{workflow}-{uuid.uuid4().hex[:8]}", task_queue=queue)


CARDS = [Card(to="ann"), Card(to="bob")]
FOLDED = ["thank you, ann", "thank you, bob"]


async def test_a_worker_serves_its_own_workflows_and_activities_and_choreographies(
    server: DevServer, provider: Provider
) -> None:
    provider.enqueue(Text("many thanks"))
    client = await connected(server)
    async with worker(client):
        order = await start(client, "Order", "tea", "orders")
        assert await order.result() == ["tea is on its way", "many thanks, tea"]
        assert await (await start(client, "fold_all", CARDS)).result() == FOLDED


async def test_all_ends_with_the_worker(server: DevServer) -> None:
    before = asyncio.all_tasks()
    client = await connected(server)
    async with worker(client):
        await (await start(client, "fold_all", CARDS)).result()
    assert asyncio.all_tasks() <= before
    waits = await start(client, "fold_all", CARDS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waits.result(), 1)
    await waits.terminate()


async def test_a_worker_that_is_cancelled_ends_all_as_well(server: DevServer) -> None:
    client = await connected(server)
    before = asyncio.all_tasks()
    running = asyncio.create_task(worker(client).run())
    await (await start(client, "fold_all", CARDS)).result()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() <= before


async def test_a_worker_may_have_the_plugin_instead_of_its_client(server: DevServer) -> None:
    client = await connected(server, plugins=[], data_converter=pydantic_data_converter)
    async with worker(client, plugins=[plugin()]):
        assert await (await start(client, "fold_all", CARDS)).result() == FOLDED


async def test_what_isolates_the_code_of_models_is_logged_and_may_be_nothing_where_that_is_allowed(
    server: DevServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(isolation.ALLOWED, raising=False)
    monkeypatch.setattr(isolation._allowed, "process_wide", False)
    caplog.set_level("INFO", "workflows.serving.plugin")
    for options in ({}, {"allow_unsandboxed": True}):
        client = await connected(server, plugins=[plugin(**options)])
        async with worker(client):
            await (await start(client, "fold_all", CARDS)).result()
    refused, allowed = [message for message in caplog.messages if message.startswith("Sandbox: ")]
    assert refused.startswith("Sandbox: none. There is no sandbox here")
    assert allowed.startswith("Sandbox: none (--allow-unsandboxed). NOT sandboxed")


async def test_several_workers_of_a_client_share_what_is_served_until_the_last_one_ends(server: DevServer) -> None:
    client = await connected(server)
    async with worker(client, "more orders"):
        async with worker(client):
            assert await (await start(client, "Order", "without a card", "orders")).result() != []
        assert await (await start(client, "fold_all", CARDS)).result() == FOLDED


async def test_a_teams_own_workflows_fail_as_they_did_without(server: DevServer) -> None:
    client = await connected(server)
    async with worker(client):
        order = await start(client, "Order", "unknown", "orders")
        async with asyncio.timeout(20):
            while not (await order.describe()).raw_description.pending_workflow_task.attempt > 1:
                await asyncio.sleep(0.05)
        await order.terminate()


async def test_a_team_has_queues_of_its_own_beside_another(server: DevServer) -> None:
    client = await connected(server, plugins=[plugin(team="cards")])
    async with worker(client):
        assert await (await start(client, "fold_all", CARDS, "cards.choreography")).result() == FOLDED


async def test_what_can_not_begin_ends_the_worker_with_its_error(server: DevServer) -> None:
    client = await connected(server)
    with pytest.raises(RuntimeError, match="choreography"):
        async with asyncio.timeout(20), worker(client, "choreography"):
            await asyncio.Event().wait()


async def test_a_worker_ends_with_the_error_of_one_that_fails_beside_it(
    server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = worker(await connected(server, plugins=[], namespace="nowhere"))
    monkeypatch.setattr(workflows.serving.plugin, "workers", lambda *_: [nowhere])
    with pytest.raises(RuntimeError, match="nowhere"):
        async with asyncio.timeout(20), worker(await connected(server)):
            await asyncio.Event().wait()


class Sealed(PayloadCodec):
    """Encodes so that nobody can read it by chance."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        sealed = (base64.b85encode(payload.SerializeToString()) for payload in payloads)
        return [Payload(metadata={"encoding": b"test/sealed"}, data=data) for data in sealed]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [Payload.FromString(base64.b85decode(payload.data)) for payload in payloads]


async def test_a_clients_codec_is_kept_for_all_that_is_sent(server: DevServer) -> None:
    client = await connected(server, data_converter=DataConverter(payload_codec=Sealed()))
    async with worker(client):
        run = await start(client, "fold_all", [Card(to="a secret")])
        assert await run.result() == ["thank you, a secret"]
    history = await run.fetch_history()
    assert not any(b"secret" in event.SerializeToString() for event in history.events)


class OwnJson(JSONPlainPayloadConverter):
    """Writes JSON in its own way."""


class OwnConverter(PayloadConverter):
    """Converts everything in its own way."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return [one for value in values if (one := OwnJson().to_payload(value))]

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        return [OwnJson().from_payload(payload) for payload in payloads]


async def test_a_client_with_a_converter_of_its_own_is_refused(server: DevServer) -> None:
    with pytest.raises(ChoreographyError, match=r"converts by tests.*OwnConverter.*payload codec, which is kept"):
        await connected(server, data_converter=DataConverter(payload_converter_class=OwnConverter))


def test_a_module_that_is_not_there_is_told_when_the_plugin_is_made() -> None:
    with pytest.raises(ChoreographyError, match="There is no module 'nobodys_team'"):
        ChoreographyPlugin(modules=["nobodys_team"])


async def test_a_replayer_with_the_plugin_replays_runs(server: DevServer) -> None:
    client = await connected(server)
    async with worker(client):
        run = await start(client, "fold_all", CARDS)
        await run.result()
    await Replayer(workflows=[], plugins=[plugin()]).replay_workflow(await run.fetch_history())


def test_the_vocabulary_imports_no_litellm() -> None:
    look = "import sys, workflows; workflows.ChoreographyPlugin; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
