"""Prompts below prompts and calls that fail, on a server: what can be read of them, and what is remembered."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client
from temporalio.service import RPCError

from tests.conftest import Runs
from tests.provider import Fault, Provider, Request, Slow, Text, ToolCall, Tools
from tests.workflows.offices import all_at_once, fail_and_go_on, file_only, one_after_the_other

OFFICES = "tests.workflows.offices"


def reply(request: Request) -> Text | Tools:
    """Post what is written, have read what is posted, and answer."""
    kind, _, about = request.last_user.rstrip(".").partition(" ")
    if request.messages[-1]["role"] != "tool":
        if kind == "Write":
            return Tools((ToolCall("post", {"letter": about}, f"post {about}"),))
        if kind == "Send":
            return Tools((ToolCall("proof", {"letter": about}, f"proof {about}"),))
    return Text(f"{kind} {about} done")


@pytest.fixture
def replying(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Provider:
    monkeypatch.setattr(provider, "_responder", reply)
    return provider


async def transcript(client: Client, conversation: str) -> list[Any]:
    page = await client.get_workflow_handle(conversation).query("transcript")
    entries: list[Any] = page["entries"]
    return entries


def in_short(entries: list[Any]) -> list[Any]:
    """Return what was said, prompts inside and calls that failed as lists."""
    said: list[Any] = []
    for entry in entries:
        match entry.get("note"):
            case None:
                said.append(entry["content"] or entry["tool_calls"][0]["function"]["name"])
            case "inner" | "failed":
                said.append([entry.get("method", "failed"), *in_short(entry["entries"])])
            case other:
                said.append({other: entry.get("text", "")})
    return said


def sent(about: str) -> list[Any]:
    """Return what `Post.send` says."""
    read = ["Reader.read", f"Read {about}.", f"Read {about} done"]
    return ["Post.send", f"Send {about}.", "proof", f"Read {about} done", f"Send {about} done", read]


def drafted(about: str) -> list[Any]:
    return ["Writer.draft", f"Draft {about}.", f"Draft {about} done"]


async def test_what_is_said_inside_is_counted_and_read_in_the_conversation_of_who_was_called(
    runs: Runs, replying: Provider
) -> None:
    async with runs.serving(OFFICES):
        run = await runs.start(all_at_once)
        await run.result()
        used = (await run.query("progress"))["usage"]
        said = [in_short(await transcript(runs.client, f"{run.id}/writer-{number}")) for number in (1, 2, 3, 4)]
    assert said[0] == [drafted("one"), drafted("two")]
    assert said[1] == [drafted("three"), drafted("four"), sent("five")]
    assert said[2] == [sent("six")]
    assert said[3] == ["Write seven.", "post", "Send seven done", "Write seven done", sent("seven")]
    assert used["model_calls"] == len(replying.requests)
    assert used["prompt_tokens"] == 10 * len(replying.requests)


async def test_what_was_said_inside_is_not_shown_to_the_agent_later(runs: Runs, replying: Provider) -> None:
    async with runs.serving(OFFICES):
        run = await runs.start(one_after_the_other, "write", ["a"], "b")
        await run.result()
        said = in_short(await transcript(runs.client, f"{run.id}/writer-1"))
    assert said == [
        *("Write a.", "post", "Send a done", "Write a done", sent("a")),
        *("Write b.", "post", "Send b done", "Write b done", sent("b")),
    ]
    shown = [message.get("content") for message in replying.requests[-1].messages if message["role"] != "system"]
    assert shown == ["Write a.", None, "Send a done", "Write a done", "Write b.", None, "Send b done"]


async def test_the_web_ui_shows_in_words_what_was_said_inside(runs: Runs, replying: Provider) -> None:
    async with runs.serving(OFFICES):
        run = await runs.start(one_after_the_other, "twice", [], "b")
        await run.result()
        conversation = runs.client.get_workflow_handle(f"{run.id}/writer-1")
        details = await details_of(conversation)
    assert "> *asked inside: Writer.draft*\n>\n> **user**: Draft one.\n>\n> **assistant**: Draft one done" in details


async def details_of(handle: Any) -> str:
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return str(metadata.current_details)


async def test_a_call_that_keeps_nothing_keeps_nothing_of_what_it_asked(runs: Runs, replying: Provider) -> None:
    replying.on("Scribble", Tools((ToolCall("post", {"letter": "a"}),)), Text("done"))
    async with runs.serving(OFFICES):
        run = await runs.start(one_after_the_other, "scribble", ["a"], "b")
        await run.result()
        said = in_short(await transcript(runs.client, f"{run.id}/writer-1"))
    assert said[0] == "Write b."


async def test_plain_code_that_asks_nobody_begins_no_conversation(runs: Runs) -> None:
    async with runs.serving(OFFICES):
        run = await runs.start(file_only, "a")
        await run.result()
        with pytest.raises(RPCError, match="not found"):
            await runs.client.get_workflow_handle(f"{run.id}/writer-1").describe()


async def test_what_was_said_inside_is_kept_while_a_call_is_paused(runs: Runs, replying: Provider) -> None:
    replying.on(
        "Write", Tools((ToolCall("post", {"letter": "a"}, "p"),)), Tools((ToolCall("burn", {"letter": "a"}, "b"),))
    )
    replying.on("Write", Text("burnt"))
    async with runs.serving(OFFICES):
        run = await runs.start(one_after_the_other, "draft", ["x"], "a")
        while not (questions := await run.query("questions")):
            continue
        asked = len(replying.requests)
        replying.on("Write", Text("burnt"))
        replying._own[:] = [(text, replies) for text, replies in replying._own if replies]
        await run.execute_update("answer", {"question": questions[0]["id"], "answer": True})
        assert (await run.result())[1] == "burnt"
        used = (await run.query("progress"))["usage"]
        said = in_short(await transcript(runs.client, f"{run.id}/writer-1"))
    assert len(replying.requests) == asked + 2  # the words of the one that burns, and the answer
    assert used["model_calls"] == len(replying.requests)
    assert said[-2:] == [sent("a"), drafted("a")]


# Calls that fail


KEEP = Tools((ToolCall("keep", {"letter": "a"}),))

FAILURES: dict[str, tuple[str, list[Any], list[str], str]] = {
    "answers that will not do": (
        "count",
        [KEEP, Text("many"), Text("few")],
        ["Count letters.", "keep", "2", "many", "Your answer does not fit", "few"],
        "AnswerInvalid: Keeper.count",
    ),
    "too many turns": ("hurry", [KEEP], ["Hurry with letters.", "keep", "2"], "TurnLimit: Keeper.hurry"),
    "too much time": (
        "wait",
        [KEEP, Slow(20, Text("late"))],
        ["Wait for letters.", "keep", "2"],
        "AttemptTimedOut: Keeper.wait was not done after 1 s",
    ),
    "a refusal": ("count", [KEEP, Fault(401, "no such key")], ["Count letters.", "keep", "2"], "ModelRefused: openai/"),
    "a task that raises, twice": (
        "describe_and_stumble",
        [Text("fine")],
        ["Keeper.describe Describe letters. fine"],
        "OSError: no more paper",
    ),
}


@pytest.mark.parametrize(("method", "replies", "said", "why"), FAILURES.values(), ids=FAILURES)
async def test_what_a_failed_call_said_is_readable_and_neither_it_nor_its_state_is_remembered(
    runs: Runs, provider: Provider, method: str, replies: list[Any], said: list[str], why: str
) -> None:
    provider.on("Describe what there was", Text("described"))
    provider.on("", *replies)  # whatever is asked: what is sent back quotes no request
    async with runs.serving(OFFICES):
        run = await runs.start(fail_and_go_on, method, "letters")
        error, answer, kept = await run.result()
        entries = in_short(await transcript(runs.client, f"{run.id}/keeper-1"))
        details = await details_of(runs.client.get_workflow_handle(f"{run.id}/keeper-1"))
        used = (await run.query("progress"))["usage"]
    assert why in error
    assert (answer, kept) == ("described", ["before"])
    (_, *told, last), *rest = entries
    words = [" ".join(one) if isinstance(one, list) else one for one in told]
    assert [text[: len(begins)] for text, begins in zip(words, said, strict=True)] == said
    assert last["error"].startswith(why)
    assert rest == ["Describe what there was.", "described"]
    assert "A call that has failed. The agent does not remember it" in details
    assert used["model_calls"] == len(provider.requests) - (why.startswith(("ModelRefused", "AttemptTimedOut")))
    shown = [message.get("content") for message in provider.requests[-1].messages if message["role"] != "system"]
    assert shown == ["Describe what there was."]


async def test_a_call_that_is_tried_again_and_succeeds_leaves_nothing_marked_as_failed(
    runs: Runs, provider: Provider
) -> None:
    provider.on("Describe letters", Fault(503, retry_after=0), Text("fine"))
    provider.on("Describe what", Text("described"))
    async with runs.serving(OFFICES):
        run = await runs.start(fail_and_go_on, "describe", "letters")
        assert (await run.result())[0] == ""
        entries = in_short(await transcript(runs.client, f"{run.id}/keeper-1"))
    assert entries == ["Describe letters.", "fine", "Describe what there was.", "described"]


async def test_a_failed_call_that_keeps_nothing_leaves_nothing(runs: Runs, provider: Provider) -> None:
    provider.on("Describe", Text("described"))
    provider.on("", *[Text("many")] * 4)
    async with runs.serving(OFFICES):
        run = await runs.start(fail_and_go_on, "glance", "letters")
        assert "AnswerInvalid" in (await run.result())[0]
        entries = in_short(await transcript(runs.client, f"{run.id}/keeper-1"))
    assert entries == ["Describe what there was.", "described"]


async def test_what_an_agent_is_told_during_a_call_that_fails_is_heard_by_its_next_one(
    runs: Runs, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()

    def reply_when_told(_: Request) -> Text:
        told.wait(60)
        return Text("many")

    monkeypatch.setattr(provider, "_responder", reply_when_told)
    async with runs.serving(OFFICES):
        run = await runs.start(fail_and_go_on, "count", "letters")
        while not provider.requests:
            await asyncio.sleep(0.01)
        await runs.client.get_workflow_handle(f"{run.id}/keeper-1").execute_update("tell", "Be brief.")
        told.set()
        assert "AnswerInvalid" in (await run.result())[0]
    assert provider.requests[1].last_user == "Be brief."
    shown = [message.get("content") for message in provider.requests[-1].messages if message["role"] != "system"]
    assert shown == ["Describe what there was.", "Be brief."]
