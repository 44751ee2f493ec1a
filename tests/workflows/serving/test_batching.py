from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from activities.contract.conversations import Owner
from activities.contract.envelope import Position
from activities.memory.durable import COPIES, Durable
from workflows.memory.conversation import Conversation
from workflows.serving.batching import Batching

HELD = 0.6
CALLS = 12


@pytest.fixture
async def queue(client: Client) -> AsyncIterator[str]:
    """A task queue for conversations of this test, served by a worker that holds their commits."""
    name = f"batching-{uuid.uuid4().hex[:8]}"
    worker = Worker(client, task_queue=name, workflows=[Conversation], unsandboxed_workflow_runner=Batching(HELD))
    async with worker:
        yield name


def memory_of(client: Client, queue: str, position: Position, call: str) -> Durable:
    """Reach the queue's conversation for a call."""
    owner = Owner(workflow_id="batch", run_id="run")
    return Durable(client, f"{queue}/coder-1", owner, call, position=position, queue=queue)


async def say(client: Client, queue: str, position: Position, what: str) -> Position:
    """Make a call that says one thing, on a worker that has made the last one."""
    memory = memory_of(client, queue, position, what)
    recalled = await memory.recall()
    await memory.commit(recalled.transcript.next, [{"role": "user", "content": what}], 0, None)
    assert memory.position is not None
    return memory.position


async def test_commits_that_follow_each_other_closely_share_workflow_tasks(client: Client, queue: str) -> None:
    position = Position()
    for number in range(CALLS):
        position = await say(client, queue, position, str(number))
    handle = client.get_workflow_handle(f"{queue}/coder-1")
    said = (await handle.query("transcript"))["entries"]
    assert [entry["content"] for entry in said] == [str(number) for number in range(CALLS)]
    assert (await handle.describe()).history_length < 2 * CALLS + 6
    await handle.terminate()


async def test_where_others_ask_nothing_is_held(client: Client, queue: str) -> None:
    position = await say(client, queue, Position(), "one")
    handle = client.get_workflow_handle(f"{queue}/coder-1")
    await handle.query("transcript")
    took = []
    for what in ("two", "three", "four"):
        position = await say(client, queue, position, what)
        COPIES.forget(handle.id)
        began = time.monotonic()
        await asyncio.wait_for(memory_of(client, queue, position, "asks").recall(), 20)
        took.append(time.monotonic() - began)
    assert min(took) < HELD
    await handle.terminate()
