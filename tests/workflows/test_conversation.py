from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.worker import Worker

from activities.contract import CHOREOGRAPHY_QUEUE
from activities.memory import Durable
from activities.transcript import Entry, Transcript, shorten
from workflows import conversation as conversation_module
from workflows.conversation import Conversation


@pytest.fixture
async def talks(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client of a server, with a worker whose conversations continue as new after some eight commits."""
    monkeypatch.setattr(conversation_module, "CONTINUE_AT_EVENTS", 40)
    async with Worker(client, task_queue=CHOREOGRAPHY_QUEUE, workflows=[Conversation]):
        yield client


def user(text: str) -> Entry:
    return {"role": "user", "content": text}


def turn(number: int) -> list[Entry]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": f"result {number}"},
        {"role": "assistant", "content": f"answer {number}"},
    ]


async def whole_transcript(client: Client, conversation: str) -> list[Entry]:
    """Read a transcript to its beginning, over all runs of its workflow."""
    entries: list[Entry] = []
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(conversation, run_id=run_id)
        part: list[Entry] = []
        after: int | None = 0
        while after is not None:
            page = await handle.query("transcript", after)
            part += page["entries"]
            after = page["next"]
        entries = [*part, *entries]
        run_id = page["earlier_run"]
        if run_id is None:
            return entries


def new_conversation() -> str:
    return f"talk-{uuid.uuid4().hex[:8]}/coder-1"


async def test_what_one_call_commits_the_next_one_recalls(talks: Client) -> None:
    conversation = new_conversation()
    first = Durable(talks, conversation, "run", "1")
    await first.recall()
    await first.commit(0, [user("do it"), *turn(1)], 0, {"seen": 3})
    recalled = await Durable(talks, conversation, "run", "2").recall()
    assert recalled.transcript.messages() == [user("do it"), *turn(1)]
    assert recalled.state == {"seen": 3}
    assert recalled.committed is None


async def test_a_commit_that_is_sent_again_is_made_once_and_known_to_its_step(talks: Client) -> None:
    conversation = new_conversation()
    memory = Durable(talks, conversation, "run", "1")
    await memory.recall()
    for _ in range(3):
        await memory.commit(0, [user("do it"), *turn(1)], 0, None)
    recalled = await memory.recall()
    assert recalled.transcript.messages() == [user("do it"), *turn(1)]
    assert recalled.committed == [user("do it"), *turn(1)]


async def test_a_new_run_starts_afresh_and_the_old_one_can_add_no_more(talks: Client) -> None:
    conversation = new_conversation()
    old, new = Durable(talks, conversation, "old", "1"), Durable(talks, conversation, "new", "1")
    await old.recall()
    await old.commit(0, [user("old")], 0, {"old": True})
    recalled = await new.recall()
    assert (recalled.transcript.messages(), recalled.state) == ([], None)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await Durable(talks, conversation, "old", "2").commit(1, [user("late")], 0, None)
    assert "belongs to another run" in str(refused.value.cause)


async def test_a_conversation_ends_only_for_its_own_run_and_stays_readable(talks: Client) -> None:
    conversation = new_conversation()
    memory = Durable(talks, conversation, "run", "1")
    await memory.recall()
    await memory.commit(0, [user("do it")], 0, None)
    handle = talks.get_workflow_handle(conversation)
    await handle.signal("end", "another run")
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await handle.signal("end", "run")
    assert await handle.result() == "1 entries"
    assert await whole_transcript(talks, conversation) == [user("do it")]


async def test_a_tell_waits_until_a_call_has_heard_it_and_is_written_once(talks: Client) -> None:
    conversation = new_conversation()
    memory = Durable(talks, conversation, "run", "1")
    await memory.recall()
    handle = talks.get_workflow_handle(conversation)
    await handle.execute_update("tell", "only the standard library")
    await handle.execute_update("tell", "and no classes")
    assert await memory.tells() == ["only the standard library", "and no classes"]
    await memory.commit(0, [user("do it"), {"role": "user", "told": 0}], 1, None)
    assert await memory.tells() == ["and no classes"]
    said = await whole_transcript(talks, conversation)
    assert [entry["content"] for entry in said] == ["do it", "only the standard library", "and no classes"]


@pytest.mark.parametrize("nonsense", ["", "  ", {"text": "an object"}, 7])
async def test_a_tell_that_is_no_text_is_refused_and_changes_nothing(talks: Client, nonsense: Any) -> None:
    conversation = new_conversation()
    memory = Durable(talks, conversation, "run", "1")
    await memory.recall()
    with pytest.raises(WorkflowUpdateFailedError):
        await asyncio.wait_for(talks.get_workflow_handle(conversation).execute_update("tell", nonsense), 10)
    assert await memory.tells() == []


operations = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 2)),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("tell"), st.integers(0, 9)),
        st.tuples(st.just("shorten"), st.integers(0, 5)),
    ),
    min_size=5,
    max_size=25,
)


@given(operations=operations)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_committed_repeated_told_and_continued_the_transcript_is_the_same(
    talks: Client, operations: list[tuple[str, int]]
) -> None:
    conversation = new_conversation()
    await Durable(talks, conversation, "run", "0").recall()
    expected, waiting = Transcript(), list[str]()
    last: tuple[Any, ...] | None = None
    for number, (what, size) in enumerate(operations):
        memory = Durable(talks, conversation, "run", str(number))
        if what == "tell":
            await talks.get_workflow_handle(conversation).execute_update("tell", f"{number}: {size}")
            waiting.append(f"{number}: {size}")
        elif what == "again" and last is not None:
            again, arguments = last
            for _ in range(size):
                await again.commit(*arguments)
        else:
            heard = len(waiting)
            entries = [user(f"request {number}"), *({"role": "user", "told": n} for n in range(heard)), *turn(number)]
            if what == "shorten":
                entries.append(shorten(max(0, expected.next - size)))
            await memory.commit(expected.next, entries, heard, None)
            last = (memory, (expected.next, entries, heard, None))
            told = [{"role": "user", "content": text, "told": True} for text in waiting]
            expected.add([entries[0], *told, *entries[1 + heard :]])
            waiting.clear()
    recalled = await Durable(talks, conversation, "run", "end").recall()
    assert recalled.transcript.messages() == expected.messages()
    said = await whole_transcript(talks, conversation)
    assert said[: expected.next] == [entry for _, entry in expected.numbered]
    assert [entry["content"] for entry in said[expected.next :]] == waiting


async def test_a_long_conversation_continues_as_new_and_is_read_to_its_beginning(talks: Client) -> None:
    conversation = new_conversation()
    await Durable(talks, conversation, "run", "0").recall()
    first_run = (await talks.get_workflow_handle(conversation).describe()).run_id
    for number in range(20):
        await Durable(talks, conversation, "run", str(number)).commit(4 * number, [user("go"), *turn(number)], 0, None)
    assert (await talks.get_workflow_handle(conversation).describe()).run_id != first_run
    assert len(await whole_transcript(talks, conversation)) == 80
