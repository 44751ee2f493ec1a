"""However a run ends, nothing of it stays open: not its conversations, not its shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from console.dev_server import DevServer
from tests.conftest import Runs
from tests.provider import Provider, Slow, Text
from tests.system.processes import temporal
from tests.system.resets import chain, nothing_is_open, open_workflows, reset, tasks_of
from tests.workflows.minds import think_twice

End = Callable[[DevServer, Client, str], Awaitable[None]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Cannot find activity to cancel"),
    pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion.acompletion' was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def delete(server: DevServer, client: Client, workflow_id: str) -> None:
    await by_command(server, "delete", workflow_id)


async def terminate(server: DevServer, client: Client, workflow_id: str) -> None:
    await by_command(server, "terminate", workflow_id)


async def cancel(server: DevServer, client: Client, workflow_id: str) -> None:
    await by_command(server, "cancel", workflow_id)


async def reset_and_terminate(server: DevServer, client: Client, workflow_id: str) -> None:
    await reset(client, workflow_id, *tasks_of(await chain(client, workflow_id))[-1])
    await terminate(server, client, workflow_id)


async def reset_and_delete(server: DevServer, client: Client, workflow_id: str) -> None:
    await reset(client, workflow_id, *tasks_of(await chain(client, workflow_id))[0])
    await delete(server, client, workflow_id)


async def by_command(server: DevServer, command: str, workflow_id: str) -> None:
    sure = ["--yes"] if command == "delete" else []
    code, told = await temporal(server.address, "workflow", command, "--workflow-id", workflow_id, *sure)
    assert code == 0, told


@pytest.mark.parametrize("end", [delete, terminate, cancel, reset_and_terminate, reset_and_delete])
async def test_nothing_of_an_open_run_stays_open_when_it_is_ended_from_outside(
    runs: Runs, server: DevServer, provider: Provider, end: End
) -> None:
    provider.enqueue(Text("one"), *[Slow(3600, Text("never"))] * 4)
    async with runs.serving("tests.workflows.minds"):
        run = await runs.start(think_twice, "one", "two")
        await second_call(provider)
        assert f"{run.id}/thinker-1" in await open_soon(runs.client, run.id)
        await end(server, runs.client, run.id)
        await nothing_is_open(runs.client, run.id)


async def test_nothing_stays_open_of_a_run_that_was_deleted_while_no_worker_was_there(
    runs: Runs, server: DevServer, provider: Provider
) -> None:
    provider.enqueue(Text("one"), Slow(3600, Text("never")))
    async with runs.serving("tests.workflows.minds"):
        run = await runs.start(think_twice, "one", "two")
        await second_call(provider)
        await open_soon(runs.client, run.id)
    await delete(server, runs.client, run.id)
    async with runs.serving("tests.workflows.minds"):
        await nothing_is_open(runs.client, run.id)


async def test_a_conversation_that_was_terminated_between_two_calls_is_begun_anew(
    runs: Runs, provider: Provider
) -> None:
    provider.enqueue(Text("one"), Slow(1, Text("two")))
    async with runs.serving("tests.workflows.minds"):
        run = await runs.start(think_twice, "one", "two")
        await second_call(provider)
        conversation = runs.client.get_workflow_handle(f"{run.id}/thinker-1")
        await open_soon(runs.client, run.id)
        await conversation.terminate("a test")
        assert await asyncio.wait_for(run.result(), 30) == ["one", "two"]
        await nothing_is_open(runs.client, run.id)
        assert (await conversation.describe()).status != WorkflowExecutionStatus.RUNNING


async def second_call(provider: Provider) -> None:
    """Wait until a run is in its second call."""
    async with asyncio.timeout(30):
        while len(provider.requests) < 2:
            await asyncio.sleep(0.02)


async def open_soon(client: Client, workflow_id: str) -> list[str]:
    """Return what is open of a run when the server's lists, which are late by a moment, have its conversation."""
    async with asyncio.timeout(30):
        while len(found := await open_workflows(client, workflow_id)) < 2:
            await asyncio.sleep(0.05)
    return found
