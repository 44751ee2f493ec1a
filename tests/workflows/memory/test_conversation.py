from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.contract.conversations import Owner
from activities.contract.envelope import Position
from activities.contract.names import CHOREOGRAPHY_QUEUE, CONVERSATION
from activities.errors import MemoryLost
from activities.memory.durable import COPIES, Durable
from activities.memory.transcript import Entry, Transcript, shorten
from tests.system.transcripts import whole_transcript
from workflows.memory import conversation as conversation_module
from workflows.memory.conversation import Conversation
from workflows.serving.outside import FAILS_A_WORKFLOW, Guarded


def serving_conversations(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=CHOREOGRAPHY_QUEUE,
        workflows=[Conversation],
        interceptors=[Guarded()],
        workflow_failure_exception_types=FAILS_A_WORKFLOW,
    )


@pytest.fixture
async def talks(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A client of a server, with a worker whose conversations continue as new after some eight commits."""
    monkeypatch.setattr(conversation_module, "CONTINUE_AT_EVENTS", 40)
    async with serving_conversations(client):
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


def new_conversation() -> str:
    return f"talk-{uuid.uuid4().hex[:8]}/coder-1"


RUN = Owner(workflow_id="talk", run_id="run")


def memory_of(
    client: Client,
    conversation: str,
    call: str,
    *,
    after: str = "",
    elsewhere: str = "",
    attempt: int = 1,
    owner: Owner = RUN,
    outlives: bool = False,
    trusts_its_copy: bool = False,
) -> Durable:
    """Reach a conversation for a call, as a worker does that has not seen it before."""
    if not trusts_its_copy:
        COPIES.forget(conversation)
    position = Position(commit=after, conversation=elsewhere)
    return Durable(client, conversation, owner, call, position=position, attempt=attempt, outlives=outlives)


async def say(client: Client, conversation: str, call: str, text: str, after: str = "", **options: Any) -> str:
    """Make a call that says one thing; return the position that it reaches."""
    memory = memory_of(client, conversation, call, after=after, **options)
    recalled = await memory.recall()
    await memory.commit(recalled.transcript.next, [user(text)], 0, None)
    return reached(memory)


def reached(memory: Durable) -> str:
    """Return the position after a call."""
    assert memory.position is not None
    return memory.position.commit


async def remembered(client: Client, conversation: str, after: str, **options: Any) -> list[str]:
    """Return what a call that begins at a position is told of the past."""
    recalled = await memory_of(client, conversation, "asks", after=after, **options).recall()
    return [message["content"] for message in recalled.transcript.messages()]


async def texts(client: Client, conversation: str) -> list[str]:
    """Return what a transcript says, with its notes."""
    return [entry.get("content") or f"({entry['note']})" for entry in await whole_transcript(client, conversation)]


async def test_what_one_call_commits_the_next_one_recalls(talks: Client) -> None:
    conversation = new_conversation()
    first = memory_of(talks, conversation, "1")
    await first.recall()
    await first.commit(0, [user("do it"), *turn(1)], 0, {"seen": 3})
    recalled = await memory_of(talks, conversation, "2", after=reached(first)).recall()
    assert recalled.transcript.messages() == [user("do it"), *turn(1)]
    assert recalled.state == {"seen": 3}
    assert recalled.committed is None


async def test_a_worker_that_made_the_last_call_asks_nobody_for_what_was_said(client: Client) -> None:
    conversation = new_conversation()
    async with serving_conversations(client):
        position = await say(client, conversation, "1", "one")
    recalling = remembered(client, conversation, position, trusts_its_copy=True)
    assert await asyncio.wait_for(recalling, 1) == ["one"]
    await client.get_workflow_handle(conversation).terminate()


async def test_a_commit_that_is_sent_again_is_made_once_and_known_to_its_call(talks: Client) -> None:
    conversation = new_conversation()
    memory = memory_of(talks, conversation, "1")
    await memory.recall()
    for _ in range(3):
        await memory.commit(0, [user("do it"), *turn(1)], 0, None)
    again = memory_of(talks, conversation, "1", attempt=2)
    recalled = await again.recall()
    assert recalled.transcript.messages() == []
    assert recalled.committed == [user("do it"), *turn(1)]
    assert again.position == memory.position
    assert len(await whole_transcript(talks, conversation)) == 4


async def test_two_attempts_that_both_commit_are_branches_and_the_run_goes_on_from_the_one_it_heard_of(
    talks: Client,
) -> None:
    conversation = new_conversation()
    lost, heard = memory_of(talks, conversation, "1"), memory_of(talks, conversation, "1", attempt=2)
    await lost.recall()
    await heard.recall()
    await heard.commit(0, [user("heard")], 0, None)
    await lost.commit(0, [user("lost")], 0, None)
    assert await remembered(talks, conversation, reached(heard)) == ["heard"]


async def test_a_new_run_starts_afresh_and_what_the_old_one_adds_is_not_remembered(talks: Client) -> None:
    conversation = new_conversation()
    old, new = Owner(workflow_id="talk", run_id="old"), Owner(workflow_id="talk", run_id="new")
    before = await say(talks, conversation, "1", "old", owner=old)
    first = await say(talks, conversation, "2", "new", owner=new)
    await say(talks, conversation, "3", "late", before, owner=old)
    assert await remembered(talks, conversation, first, owner=new) == ["new"]


async def test_a_call_at_an_earlier_position_begins_a_branch_and_the_transcript_shows_it(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    two = await say(talks, conversation, "2", "two", one)
    other = await say(talks, conversation, "3", "other", one)
    assert await remembered(talks, conversation, two) == ["one", "two"]
    assert await remembered(talks, conversation, other) == ["one", "other"]
    assert await texts(talks, conversation) == ["one", "two", "(branch)", "other"]
    assert (await whole_transcript(talks, conversation))[2]["after"] == 1


@pytest.mark.parametrize("end", ["end", "terminate", "cancel"])
async def test_a_conversation_that_has_ended_is_taken_up_from_what_it_holds(talks: Client, end: str) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    two = await say(talks, conversation, "2", "two", one)
    await ended(talks, conversation, end)
    other = await say(talks, conversation, "3", "other", one)
    third = await say(talks, conversation, "4", "third", other)
    assert await remembered(talks, conversation, third) == ["one", "other", "third"]
    assert await remembered(talks, conversation, two) == ["one", "two"]
    assert [text for text in await texts(talks, conversation) if text[0] != "("] == ["one", "two", "other", "third"]


async def ended(client: Client, conversation: str, how: str) -> None:
    handle = client.get_workflow_handle(conversation)
    if how == "end":
        await handle.signal("end", RUN)
    else:
        await (handle.terminate() if how == "terminate" else handle.cancel())
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


class EndsMeanwhile(Durable):
    """The memory of a call whose conversation ends when it has been looked at, before it is begun."""

    async def _begin(self) -> None:
        await self._handle.query("tells")  # it has read what was sent to it
        await super()._begin()

    async def _life_before(self) -> dict[str, Any]:
        found = await super()._life_before()
        await ended(self._client, self._handle.id, "terminate")
        return found


@pytest.mark.parametrize("outlives", [False, True])
async def test_a_conversation_that_ends_just_when_it_is_begun_again_is_gone_on_from(
    talks: Client, outlives: bool
) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    memory = EndsMeanwhile(talks, conversation, RUN, "again", outlives=outlives)
    await memory.recall()
    await memory.commit(0, [user("again")], 0, None)
    assert await remembered(talks, conversation, one) == ["one"]
    assert [text for text in await texts(talks, conversation) if text[0] != "("] == ["one", "again"]


async def test_a_path_over_three_lives_of_a_conversation_is_remembered_whole(talks: Client) -> None:
    conversation = new_conversation()
    after = await say(talks, conversation, "0", "0")
    for number in (1, 2):
        memory = memory_of(talks, conversation, f"{number}", after=after)
        await memory.recall()
        await ended(talks, conversation, "end")
        await memory_of(talks, conversation, f"elsewhere {number}").recall()  # which begins it again, from nothing
        memory._ground = None  # as of a process that trusted its copy
        await memory.commit(number, [user(f"{number}")], 0, None)
        after = reached(memory)
    assert await remembered(talks, conversation, after) == ["0", "1", "2"]


async def test_a_call_whose_conversation_is_terminated_meanwhile_is_remembered(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    memory = memory_of(talks, conversation, "2", after=one)
    await memory.recall()
    await talks.get_workflow_handle(conversation).terminate()
    await memory.commit(1, [user("two")], 0, None)
    assert await memory.tells() == []
    assert await remembered(talks, conversation, reached(memory)) == ["one", "two"]


async def test_a_conversation_that_is_not_there_any_more_is_named(talks: Client) -> None:
    conversation = new_conversation()
    with pytest.raises(MemoryLost, match=conversation):
        await memory_of(talks, conversation, "2", after="some-commit").recall()


async def test_a_position_that_was_reached_before_continuing_as_new_is_gone_on_from(talks: Client) -> None:
    conversation = new_conversation()
    positions = [""]
    for number in range(30):
        positions.append(await say(talks, conversation, str(number), f"{number}", positions[-1]))
    other = await say(talks, conversation, "other", "other", positions[3])
    assert await remembered(talks, conversation, other) == ["0", "1", "2", "other"]
    last = await say(talks, conversation, "last", "last", other)
    assert await remembered(talks, conversation, last) == ["0", "1", "2", "other", "last"]


async def test_what_stands_on_something_that_the_conversation_does_not_know_is_not_lost(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    memory = memory_of(talks, conversation, "2", after=one)
    await memory.recall()
    await ended(talks, conversation, "end")
    await memory_of(talks, conversation, "elsewhere").recall()  # which begins it again, from nothing
    await memory.commit(1, [user("two")], 0, None)
    assert await remembered(talks, conversation, reached(memory)) == ["one", "two"]
    three = await say(talks, conversation, "3", "three", reached(memory))
    assert await remembered(talks, conversation, three) == ["one", "two", "three"]


async def test_what_a_conversation_does_not_know_is_found_after_it_has_continued_as_new(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    memory = memory_of(talks, conversation, "2", after=one)
    await memory.recall()
    await ended(talks, conversation, "end")
    await memory_of(talks, conversation, "elsewhere").recall()
    await memory.commit(1, [user("two")], 0, None)
    handle = talks.get_workflow_handle(conversation)
    first_run = (await handle.describe()).run_id
    for number in range(CONTINUES_AFTER):
        await handle.signal("begin", Owner(workflow_id="talk", run_id=f"run-{number}"))
        await handle.query("tells")
    assert (await handle.describe()).run_id != first_run
    assert await remembered(talks, conversation, reached(memory)) == ["one", "two"]


CONTINUES_AFTER = 12
"""Signals after which the conversations of these tests have continued as new."""


async def test_a_forked_instance_goes_on_from_the_conversation_of_another_run(talks: Client) -> None:
    conversation, fork = new_conversation(), new_conversation()
    one = await say(talks, conversation, "1", "one")
    await say(talks, conversation, "2", "two", one)
    other = await say(talks, fork, "2", "other", one, elsewhere=conversation)
    assert await remembered(talks, fork, other) == ["one", "other"]
    assert await texts(talks, conversation) == ["one", "two"]


async def test_what_a_failed_call_said_is_read_and_not_remembered(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    memory = memory_of(talks, conversation, "2", after=one)
    await memory.recall()
    await memory.commit(1, [user("in vain")], 0, None, failed=True)
    assert memory.position is None
    two = await say(talks, conversation, "3", "two", one)
    assert await remembered(talks, conversation, two) == ["one", "two"]
    assert await texts(talks, conversation) == ["one", "(failed)", "two"]
    assert (await whole_transcript(talks, conversation))[1]["entries"] == [user("in vain")]


async def test_an_instance_that_outlives_its_runs_goes_on_from_what_all_of_them_said(talks: Client) -> None:
    conversation = new_conversation()
    mine, other = Owner(workflow_id="a", run_id="a"), Owner(workflow_id="b", run_id="b")
    one = await say(talks, conversation, "1", "one", owner=mine, outlives=True)
    await say(talks, conversation, "2", "two", owner=other, outlives=True)
    await say(talks, conversation, "3", "three", one, owner=mine, outlives=True)
    third = Owner(workflow_id="c", run_id="c")
    everything = await remembered(talks, conversation, "", owner=third, outlives=True)
    assert everything == ["one", "two", "three"]


async def test_such_an_instance_forgets_what_its_run_said_before_it_was_reset(talks: Client) -> None:
    conversation = new_conversation()
    mine, other = Owner(workflow_id="a", run_id="a"), Owner(workflow_id="b", run_id="b")
    one = await say(talks, conversation, "1", "one", owner=mine, outlives=True)
    await say(talks, conversation, "2", "undone", one, owner=mine, outlives=True)
    assert await remembered(talks, conversation, "", owner=other, outlives=True) == ["one", "undone"]
    assert await remembered(talks, conversation, one, owner=mine, outlives=True) == ["one"]
    three = await say(talks, conversation, "3", "three", one, owner=mine, outlives=True)
    assert await remembered(talks, conversation, "", owner=other, outlives=True) == ["one", "three"]
    assert await remembered(talks, conversation, three, owner=mine, outlives=True) == ["one", "three"]


JUNK: list[list[Any]] = [
    [],
    [None],
    ["text"],
    [7, 8],
    [{"id": 1}],
    [{"id": "x", "after": "y", "run": "r", "call": "c"}],
]


@pytest.mark.parametrize("name", ["begin", "stand_on", "commit", "end", "nonsense"])
@pytest.mark.parametrize("junk", JUNK)
async def test_a_signal_that_is_junk_changes_nothing(talks: Client, name: str, junk: list[Any]) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    await talks.get_workflow_handle(conversation).signal(name, args=junk)
    assert await asyncio.wait_for(remembered(talks, conversation, one), 60) == ["one"]


async def test_a_packed_commit_that_is_junk_changes_nothing(talks: Client) -> None:
    conversation = new_conversation()
    one = await say(talks, conversation, "1", "one")
    commit = {"id": "x", "after": one, "run": "r", "call": "c", "base": 1, "packed": "junk"}
    await talks.get_workflow_handle(conversation).signal("commit", commit)
    assert await asyncio.wait_for(texts(talks, conversation), 60) == ["one"]


@pytest.mark.parametrize("junk", [["text"], [{"owner": 7}], [{"ground": {"commit": "x", "packed": 8}}]])
async def test_a_conversation_that_is_started_by_hand_with_junk_fails_once(talks: Client, junk: list[Any]) -> None:
    handle = await talks.start_workflow(CONVERSATION, args=junk, id=new_conversation(), task_queue=CHOREOGRAPHY_QUEUE)
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(failed.value.cause, ApplicationError)


async def test_a_conversation_ends_only_for_its_own_run_and_stays_readable(talks: Client) -> None:
    conversation = new_conversation()
    await say(talks, conversation, "1", "do it")
    handle = talks.get_workflow_handle(conversation)
    await handle.signal("end", Owner(workflow_id="talk", run_id="another"))
    assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
    await handle.signal("end", RUN)
    assert await handle.result() == "1 entries"
    assert await whole_transcript(talks, conversation) == [user("do it")]


async def test_a_tell_waits_until_a_call_has_heard_it_and_is_written_once(talks: Client) -> None:
    conversation = new_conversation()
    memory = memory_of(talks, conversation, "1")
    await memory.recall()
    handle = talks.get_workflow_handle(conversation)
    await handle.execute_update("tell", "only the standard library")
    await handle.execute_update("tell", "and no classes")
    assert await memory.tells() == ["only the standard library", "and no classes"]
    await memory.commit(0, [user("do it"), {"role": "user", "told": 0}], 1, None)
    for trusts in (True, False):
        later = memory_of(talks, conversation, "2", after=reached(memory), trusts_its_copy=trusts)
        recalled = await later.recall()
        assert await later.tells() == ["and no classes"]
        assert [m["content"] for m in recalled.transcript.messages()] == ["do it", "only the standard library"]
    assert await texts(talks, conversation) == ["do it", "only the standard library", "and no classes"]


async def test_what_is_told_after_a_conversation_was_taken_up_again_is_heard(talks: Client) -> None:
    conversation = new_conversation()
    first = memory_of(talks, conversation, "1")
    await first.recall()
    handle = talks.get_workflow_handle(conversation)
    for text in ("be brief", "be kind", "be quick"):
        await handle.execute_update("tell", text)
    assert len(await first.tells()) == 3
    await first.commit(0, [user("do it"), *({"role": "user", "told": n} for n in range(3))], 3, None)
    await ended(talks, conversation, "end")
    await memory_of(talks, conversation, "again").recall()
    await handle.execute_update("tell", "be good")
    later = memory_of(talks, conversation, "2", after=reached(first))
    await later.recall()
    assert await later.tells() == ["be good"]


@pytest.mark.parametrize("nonsense", ["", "  ", {"text": "an object"}, 7])
async def test_a_tell_that_is_no_text_is_refused_and_changes_nothing(talks: Client, nonsense: Any) -> None:
    conversation = new_conversation()
    memory = memory_of(talks, conversation, "1")
    await memory.recall()
    with pytest.raises(WorkflowUpdateFailedError):
        await asyncio.wait_for(talks.get_workflow_handle(conversation).execute_update("tell", nonsense), 60)
    assert list(await memory.tells()) == []


operations = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 2)),
        st.tuples(st.just("again"), st.integers(1, 3)),
        st.tuples(st.just("tell"), st.integers(0, 9)),
        st.tuples(st.just("shorten"), st.integers(0, 5)),
        st.tuples(st.just("back"), st.integers(0, 5)),
        st.tuples(st.just("end"), st.just(0)),
    ),
    min_size=5,
    max_size=25,
)


@given(operations=operations, trusts=st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_committed_repeated_told_ended_continued_and_undone_the_instance_remembers_its_path(
    talks: Client, operations: list[tuple[str, int]], trusts: bool
) -> None:
    conversation = new_conversation()
    been: list[tuple[str, Transcript]] = [("", Transcript())]
    await memory_of(talks, conversation, "first").recall()
    waiting: list[str] = []
    said: list[Entry] = []
    last: tuple[Any, ...] | None = None
    for number, (what, size) in enumerate(operations):
        after, path = been[-1]
        if what == "tell" and (await talks.get_workflow_handle(conversation).describe()).status == _OPEN:
            await talks.get_workflow_handle(conversation).execute_update("tell", f"{number}: {size}")
            waiting.append(f"{number}: {size}")
        elif what == "again" and last is not None:
            again, arguments = last
            for _ in range(size):
                await again.commit(*arguments)
        elif what == "back":
            del been[max(1, len(been) - size) :]
        elif (
            what == "end" and not waiting and (await talks.get_workflow_handle(conversation).describe()).status == _OPEN
        ):
            await ended(talks, conversation, "end")
            last = None
        elif what in ("commit", "shorten"):
            memory = memory_of(talks, conversation, str(number), after=after, trusts_its_copy=trusts)
            recalled = await memory.recall()
            assert recalled.transcript.messages() == path.messages()
            heard = len(await memory.tells())
            assert heard == len(waiting)
            entries = [user(f"request {number}"), *({"role": "user", "told": n} for n in range(heard)), *turn(number)]
            if what == "shorten":
                entries.append(shorten(max(0, path.next - size)))
            await memory.commit(path.next, entries, heard, None)
            last = (memory, (path.next, entries, heard, None))
            told = [{"role": "user", "content": text, "told": True} for text in waiting]
            new = [entries[0], *told, *entries[1 + heard :]]
            said += new
            been.append((reached(memory), path.plus(new)))
            waiting.clear()
    position, path = been[-1]
    recalled = await memory_of(talks, conversation, "end", after=position).recall()
    assert recalled.transcript.messages() == path.messages()
    shown = await whole_transcript(talks, conversation)
    assert [entry for entry in shown if entry.get("note") != "branch"][: len(said)] == said


_OPEN = WorkflowExecutionStatus.RUNNING


async def test_a_long_conversation_continues_as_new_and_is_read_to_its_beginning(talks: Client) -> None:
    conversation = new_conversation()
    after = await say(talks, conversation, "first", "first")
    first_run = (await talks.get_workflow_handle(conversation).describe()).run_id
    for number in range(20):
        after = await say(talks, conversation, str(number), f"{number}", after)
    assert len(await whole_transcript(talks, conversation)) == 21
    assert (await talks.get_workflow_handle(conversation).describe()).run_id != first_run
