from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from tests.conftest import Runs
from tests.provider import Provider, Request, Slow, Text, ToolCall, Tools
from tests.workflows import minds

MINDS = "tests.workflows.minds"


def said_to(request: Request) -> list[str]:
    return [message.get("content") or "" for message in request.messages if message["role"] != "system"]


async def transcript(client: Client, conversation: str) -> list[Any]:
    page = await client.get_workflow_handle(conversation).query("transcript")
    assert page["earlier_run"] is None
    entries: list[Any] = page["entries"]
    return entries


async def ended(client: Client, conversation: str) -> WorkflowExecutionStatus:
    """Wait for the end of a conversation."""
    handle = client.get_workflow_handle(conversation)
    await asyncio.wait_for(handle.result(), 60)
    status = (await handle.describe()).status
    assert status is not None
    return status


async def test_an_instance_remembers_its_earlier_calls(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("about one"), Text("about two"))
    async with runs.serving(MINDS):
        assert await runs.execute(minds.think_twice, "one", "two") == ["about one", "about two"]
    assert said_to(provider.requests[1]) == ["Think about one.", "about one", "Think about two."]


async def test_a_call_without_memory_touches_no_conversation(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("hm"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.glance_once, "it")
        await handle.result()
        with pytest.raises(RPCError, match="not found"):
            await runs.client.get_workflow_handle(f"{handle.id}/thinker-1").describe()


async def test_a_conversation_ends_with_its_run_and_stays_readable(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("about one"), Text("about two"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_twice, "one", "two")
        await handle.result()
        assert await ended(runs.client, f"{handle.id}/thinker-1") == WorkflowExecutionStatus.COMPLETED
        said = await transcript(runs.client, f"{handle.id}/thinker-1")
    assert [entry["content"] for entry in said] == ["Think about one.", "about one", "Think about two.", "about two"]


async def test_a_conversation_ends_when_its_run_fails(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("about one"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_twice, "one", "two")
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert await ended(runs.client, f"{handle.id}/thinker-1") == WorkflowExecutionStatus.COMPLETED


@pytest.mark.parametrize("end", ["cancel", "terminate"])
async def test_a_conversation_ends_when_its_run_is_made_to(runs: Runs, provider: Provider, end: str) -> None:
    provider.enqueue(Text("about one"), Slow(60, Text("never")))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_twice, "one", "two")
        await asked(provider, 2)
        await (handle.cancel() if end == "cancel" else handle.terminate())
        assert await ended(runs.client, f"{handle.id}/thinker-1") == WorkflowExecutionStatus.COMPLETED
        said = await transcript(runs.client, f"{handle.id}/thinker-1")
    assert [entry["content"] for entry in said] == ["Think about one.", "about one"]


@pytest.mark.parametrize("end", ["cancel", "terminate"])
async def test_a_call_whose_conversation_is_ended_by_hand_is_remembered_all_the_same(
    runs: Runs, provider: Provider, end: str
) -> None:
    provider.enqueue(Text("about one"), Slow(1, Text("about two")), Text("about three"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_of_all, ["one", "two", "three"])
        await asked(provider, 2)
        conversation = runs.client.get_workflow_handle(f"{handle.id}/thinker-1")
        await (conversation.cancel() if end == "cancel" else conversation.terminate())
        assert await handle.result() == ["about one", "about two", "about three"]
    assert said_to(provider.requests[2])[:-1] == ["Think about one.", "about one", "Think about two.", "about two"]


async def test_an_instance_with_a_name_of_its_own_remembers_other_runs(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("about one"), Text("about two"))
    async with runs.serving(MINDS):
        await runs.execute(minds.ask_alice, "one")
        await runs.execute(minds.ask_alice, "two")
        await runs.client.get_workflow_handle("Thinker/alice").terminate()
    assert said_to(provider.requests[1]) == ["Think about one.", "about one", "Think about two."]


async def test_state_is_there_on_the_next_call_whoever_changed_it(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("note", {"word": "rose"}),)), Text("kept"))
    provider.enqueue(Tools((ToolCall("note", {"word": "lily"}),)), Text("kept"))
    async with runs.serving(MINDS):
        await runs.execute(minds.think_twice, "one", "two")
        assert await runs.execute(minds.keep_words, ["a", "b", "c"]) == ["a", "b", "c"]
    assert [text for text in said_to(provider.requests[-1]) if text in ("1", "2")] == ["1", "2"]


async def test_an_instance_started_on_one_worker_goes_on_on_another(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text("about one"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_twice, "one", "two")
        await asked(provider, 1)
    async with runs.serving(MINDS):
        await asked(provider, 1)
        provider.enqueue(*[Text("about two")] * 2)
        await handle.result()
    assert said_to(provider.requests[-1]) == ["Think about one.", "about one", "Think about two."]


async def test_a_tell_is_heard_before_the_next_turn_in_the_middle_of_a_call(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Slow(0.5, Tools((ToolCall("note", {"word": "rose"}),))), Text("as you say"), Text("about two"))
    async with runs.serving(MINDS):
        handle = await runs.start(minds.think_twice, "one", "two")
        await asked(provider, 1)
        conversation = runs.client.get_workflow_handle(f"{handle.id}/thinker-1")
        await conversation.execute_update("tell", "Be brief.")
        await handle.result()
        said = await transcript(runs.client, conversation.id)
    assert said_to(provider.requests[1])[-2:] == ["1", "Be brief."]
    assert [entry["content"] for entry in said if entry["role"] == "user"] == [
        "Think about one.",
        "Be brief.",
        "Think about two.",
    ]


async def test_an_item_goes_back_to_who_last_worked_on_it(runs: Runs) -> None:
    things = ["a", "b", "c"]
    async with runs.serving(MINDS):
        rounds = await runs.execute(minds.back_to_the_author, things)
    assert dict(map(tuple, rounds[:3])) == dict(map(tuple, rounds[3:]))


async def test_a_conversation_pushed_past_its_limit_ten_times_goes_on_and_is_whole(
    runs: Runs, provider: Provider
) -> None:
    things = [f"thing {number}" for number in range(40)]

    def answer(request: Request) -> Any:
        if request.model == "summariser":
            return Text(f"learned up to {len(provider.requests)}")
        if request.messages[-1]["role"] == "tool":
            return Text("learned " * 60)
        return Tools((ToolCall("fetch", {"what": "facts"}),))

    with Provider(answer) as provider, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_BASE_URL", provider.url)
        environment.setenv("OPENAI_API_BASE", provider.url)
        async with runs.serving(MINDS):
            handle = await runs.start(minds.learn_all, things)
            assert await handle.result() == ["learned " * 60] * 40
            said = await transcript(runs.client, f"{handle.id}/small-1")
    summaries = [entry for entry in said if entry.get("note") == "summary"]
    assert len(summaries) >= 10
    messages = [entry for entry in said if "note" not in entry]
    assert [entry["content"] for entry in messages if entry["role"] == "user"] == [f"Learn {t}." for t in things]
    assert all(len(entry["content"]) > 800 for entry in messages if entry["role"] == "tool")
    for request in provider.requests:
        if request.model != "summariser":
            assert said_to(request)[0] == "Learn thing 0."


async def asked(provider: Provider, times: int) -> None:
    """Wait until the provider has been asked so many times."""
    while len(provider.requests) < times:
        await asyncio.sleep(0.01)
