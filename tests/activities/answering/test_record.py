"""Prompts that are asked inside a call: whatever asks them, they are recorded, and none is asked for twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from activities import Agent, Person, prompt, task, tool
from activities.answering.answer import TurnLoop
from activities.answering.checkpoint import Checkpoint
from activities.answering.record import working
from activities.border.context import CallContext, answering
from activities.errors import AgentError, AnswerInvalid, ModelRefused, ModelUnavailable, NobodyToAsk
from activities.memory.port import Nothing
from tests.provider import Fault, Provider, Reply, Request, Slow, Text, ToolCall, Tools

CALL = CallContext("poems", "run", "critic-2", "Critic.judge", "7")


class Post(Agent):
    """You send letters."""

    context_window = 1_000

    def __init__(self, writer: Writer | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.writer = writer or Writer()

    @tool
    def stamp(self, letter: str) -> str:
        """Stamp a letter."""
        self.writer.ran.append(f"stamp {letter}")
        if self.call:
            self.writer.keys.append(self.call.idempotency_key)
        return f"stamp on {letter}"

    @tool
    async def proof(self, letter: str) -> str:
        """Have somebody read a letter."""
        return await Reader(name="anna").read(letter)

    @tool(approve=True)
    def burn(self, letter: str) -> None:
        """Burn a letter."""

    @prompt
    async def send(self, letter: str) -> str:
        """Send {letter}."""

    @prompt(reasks=0)
    async def count(self, letter: str) -> int:
        """Count {letter}."""


class Reader(Agent):
    """You read."""

    @prompt
    async def read(self, letter: str) -> str:
        """Read {letter}."""


class Owner(Person):
    """Who pays for it."""

    @prompt
    async def agree(self) -> bool:
        """Do you agree?"""


class Notes(BaseModel):
    seen: list[str] = []


class Writer(Agent):
    """You write."""

    state: Notes = Notes()

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ran: list[str] = []
        self.keys: list[str] = []
        self.drafting: asyncio.Future[str]

    @property
    def post(self) -> Post:
        return Post(self)

    @tool
    def note(self, word: str) -> str:
        """Keep a word."""
        self.ran.append(f"note {word}")
        self.state.seen.append(word)
        if self.call:
            self.keys.append(self.call.idempotency_key)
        return f"kept {word}"

    @tool
    async def post_it(self, letter: str) -> str:
        """Post a letter."""
        return await self.post.send(letter)

    @tool
    async def post_all(self, letters: list[str]) -> list[str]:
        """Post letters at once."""
        return list(await asyncio.gather(*(self.post.send(letter) for letter in letters)))

    @tool
    async def post_or_not(self, letter: str) -> str:
        """Post a letter if it can be."""
        try:
            return str(await self.post.count(letter))
        except AnswerInvalid:
            return await self.post.send(letter)

    @tool
    def post_in_a_thread(self, letter: str) -> str:
        """Post a letter from synchronous code."""
        return asyncio.run(_awaited(self.post.send(letter)))

    @prompt
    async def draft(self, about: str) -> str:
        """Draft {about}."""

    @prompt
    async def write(self, about: str) -> str:
        """Write {about}."""

    @task
    async def in_turn(self) -> list[str]:
        """Draft one after the other."""
        return [await self.draft("a"), await self.draft("b")]

    @task
    async def the_same_twice(self) -> list[str]:
        """Draft the same two times."""
        return [await self.draft("a"), await self.draft("a")]

    @task
    async def at_once(self) -> list[str]:
        """Draft at the same time."""
        return list(await asyncio.gather(*(self.draft(about) for about in "abab")))

    @task
    async def in_a_loop(self) -> list[str]:
        """Draft until it is long."""
        drafts = [await self.draft("a")]
        while len(drafts) < 3:
            drafts.append(await self.draft(drafts[-1]))
        return drafts

    @task
    async def conditionally(self) -> str:
        """Draft once more if it will not do."""
        first = await self.draft("a")
        return await self.draft("b") if "done" in first else first

    @task
    async def by_another(self) -> str:
        """Ask a task that asks a prompt of another agent, whose tool asks one more."""
        return await self.post_it(await self.conditionally())

    @task
    async def post_or_not_at_all(self) -> str:
        """Post a letter if it can be."""
        return await self.post_or_not("a")

    @task
    async def two_at_once(self) -> list[str]:
        """Draft two things at the same time."""
        return list(await asyncio.gather(self.draft("a"), self.draft("b")))

    @task
    async def without_waiting(self) -> str:
        """Have something drafted that nobody reads."""
        self.drafting = asyncio.ensure_future(self.draft("a"))
        await asyncio.sleep(0.05)
        return "done"

    @task
    async def post_half_a_character(self) -> str:
        """Post what is no text."""
        return await self.post.send("\ud83d")

    @task
    async def ask_the_owner(self) -> bool:
        """Ask a person."""
        return await Owner().agree()

    @task
    async def too_late(self) -> None:
        """Have something drafted afterwards."""

        async def later() -> str:
            await asyncio.sleep(0.02)
            return await self.draft("a")

        self.drafting = asyncio.ensure_future(later())

    @task
    def in_a_thread(self) -> list[str]:
        """Draft from synchronous code."""
        return [asyncio.run(_awaited(self.draft(about))) for about in "ab"]


async def _awaited(work: Awaitable[str]) -> str:
    return await work


TASKS = (
    Writer.in_turn,
    Writer.the_same_twice,
    Writer.at_once,
    Writer.in_a_loop,
    Writer.conditionally,
    Writer.by_another,
    Writer.in_a_thread,
)

TOOLS: dict[str, tuple[ToolCall, ...]] = {
    "a tool": (ToolCall("post_it", {"letter": "a"}, "1"),),
    "a tool twice with equal arguments": (
        ToolCall("post_it", {"letter": "a"}, "1"),
        ToolCall("post_it", {"letter": "a"}, "2"),
    ),
    "gather in a tool": (ToolCall("post_all", {"letters": ["a", "b", "a"]}, "1"),),
    "a tool that goes another way after an error": (ToolCall("post_or_not", {"letter": "a"}, "1"),),
    "a synchronous tool": (ToolCall("post_in_a_thread", {"letter": "a"}, "1"),),
}


def answer(request: Request) -> Reply:
    """Have the last of the letters' senders read them, stamp, and answer."""
    asked, results = request.last_user, sum(message["role"] == "tool" for message in request.messages)
    kind, _, about = asked.rstrip(".").partition(" ")
    match kind, results:
        case "Send", 0:
            return Tools((ToolCall("proof", {"letter": about}, "p"), ToolCall("stamp", {"letter": about}, "s")))
        case "Draft", 0:
            return Tools((ToolCall("note", {"word": about}, "n"),))
        case "Count", _:
            return Text("many")
    return Text(f"{kind} {about} done")


@pytest.fixture
def answering_provider(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Provider:
    monkeypatch.setattr(provider, "_responder", answer)
    return provider


class Attempt:
    """One attempt at a call: from what an earlier one recorded to the end."""

    def __init__(self, left: str = "{}") -> None:
        self.writer = Writer()
        self.checkpoint = Checkpoint.model_validate_json(left)
        self.recorded: list[str] = []

    def record(self) -> None:
        self.recorded.append(self.checkpoint.model_dump_json())

    async def run(self, name: str) -> Any:
        with answering(CALL):
            async with working(self.checkpoint, self.record):
                return await getattr(self.writer, name)()

    async def ask(self) -> Any:
        with answering(CALL):
            return await TurnLoop(
                self.writer, Writer.write, {"about": "letters"}, self.checkpoint, Nothing(), self.record
            ).run()


def but_for_states(checkpoint: Checkpoint) -> Any:
    """Return a checkpoint without the states, which prompts that are asked at once share, in whatever order."""
    return {
        **checkpoint.model_dump(exclude={"state", "state_number", "inner"}),
        "inner": {name: but_for_states(one) for name, one in checkpoint.inner.items()},
    }


def answers_in(checkpoint: Checkpoint) -> int:
    """Count the model answers that are recorded, those inside included."""
    return len([entry for entry in checkpoint.entries if entry.get("role") == "assistant"]) + sum(
        answers_in(one) for one in checkpoint.inner.values()
    )


def results_in(checkpoint: Checkpoint) -> list[str]:
    """Return the recorded results of tools that run nothing else."""
    own = [str(entry["content"]) for entry in checkpoint.entries if entry.get("role") == "tool"]
    mine = [text for text in own if text.startswith(("stamp", "kept"))]
    return mine + [text for one in checkpoint.inner.values() for text in results_in(one)]


async def goes_on_from_any_point(provider: Provider, work: Callable[[Attempt], Awaitable[Any]]) -> Checkpoint:
    first = Attempt()
    value = await work(first)
    asked = len(provider.requests)
    assert answers_in(first.checkpoint) == first.checkpoint.usage.model_calls == asked
    assert len(first.recorded) >= asked
    for left in ["{}", *first.recorded]:
        before = Checkpoint.model_validate_json(left)
        provider.requests.clear()
        again = Attempt(left)
        assert await work(again) == value
        assert len(provider.requests) == asked - answers_in(before)
        assert len(again.writer.ran) == len(first.writer.ran) - len(results_in(before))
        assert but_for_states(again.checkpoint) == but_for_states(first.checkpoint)
        assert set(again.writer.keys) <= set(first.writer.keys)
    assert len(set(first.writer.keys)) == len(first.writer.keys)
    return first.checkpoint


@pytest.mark.parametrize("method", TASKS, ids=lambda method: str(method.name))
async def test_a_task_goes_on_from_any_point_and_asks_for_no_answer_twice(
    answering_provider: Provider, method: Any
) -> None:
    await goes_on_from_any_point(answering_provider, lambda attempt: attempt.run(method.name))


@pytest.mark.parametrize("calls", TOOLS.values(), ids=TOOLS)
async def test_a_prompt_whose_tools_ask_prompts_goes_on_from_any_point(
    answering_provider: Provider, calls: tuple[ToolCall, ...]
) -> None:
    def reply(request: Request) -> Reply:
        if request.last_user == "Write letters." and request.messages[-1]["role"] == "user":
            return Tools(calls)
        return answer(request)

    answering_provider._responder = reply
    await goes_on_from_any_point(answering_provider, Attempt.ask)


async def test_equal_questions_are_told_apart_and_each_gets_its_own_answer_again(provider: Provider) -> None:
    provider.enqueue(Text("first"), Text("second"))
    first = Attempt()
    assert await first.run("the_same_twice") == ["first", "second"]

    assert await Attempt(first.recorded[-1]).run("the_same_twice") == ["first", "second"]

    assert len(provider.requests) == 2


async def test_state_that_a_tool_inside_changed_is_there_when_its_answer_is_recorded(
    answering_provider: Provider,
) -> None:
    first = Attempt()
    await first.run("in_turn")
    again = Attempt(first.recorded[-1])

    await again.run("in_turn")

    assert again.writer.state.seen == first.writer.state.seen == ["a", "b"]
    assert again.writer.ran == []


@pytest.mark.parametrize("slow", ["a", "b"])
async def test_state_that_prompts_at_once_share_is_the_newest_however_they_are_taken_up(
    provider: Provider, slow: str
) -> None:
    for word in "ab":
        note = Tools((ToolCall("note", {"word": word}, "n"),))
        provider.on(f"Draft {word}", Slow(0.3, note) if word == slow else note, Text(f"{word} done"))
    first = Attempt()
    await first.run("two_at_once")
    again = Attempt(first.recorded[-1])

    await again.run("two_at_once")

    assert again.writer.state.seen == first.writer.state.seen == sorted("ab", reverse=slow == "a")


async def test_half_a_character_in_what_is_asked_inside_does_no_harm(provider: Provider) -> None:
    provider.enqueue(Text("sent"))
    attempt = Attempt()

    assert await attempt.run("post_half_a_character") == "sent"

    [inner] = attempt.checkpoint.inner.values()
    assert inner.asked == "Send \ufffd."


async def test_a_person_that_is_asked_inside_a_call_is_refused_with_what_to_do(provider: Provider) -> None:
    with pytest.raises(NobodyToAsk, match=r"asks Owner\.agree: a person is asked by the choreography"):
        await Attempt().run("ask_the_owner")


async def test_other_questions_than_before_are_asked_and_what_was_said_stays_recorded(
    answering_provider: Provider,
) -> None:
    first = Attempt()
    await first.run("in_turn")
    asked = len(answering_provider.requests)
    again = Attempt(first.recorded[-1])

    await again.run("in_a_loop")

    assert len(answering_provider.requests) == asked + 4  # "a" was asked by both
    assert answers_in(again.checkpoint) == again.checkpoint.usage.model_calls == asked + 4


async def test_what_a_prompt_inside_used_before_it_failed_is_counted_once(provider: Provider) -> None:
    provider.on("Write", Tools((ToolCall("post_it", {"letter": "a"}, "1"),)), Text("fine"))
    provider.on("Send", Tools((ToolCall("stamp", {"letter": "a"}, "s"),)), Fault(503, retry_after=0), Text("sent"))
    first = Attempt()
    with pytest.raises(ModelUnavailable):
        await first.ask()
    assert first.checkpoint.usage.model_calls == answers_in(first.checkpoint) == 2
    [inner] = first.checkpoint.inner.values()
    assert inner.error.startswith("ModelUnavailable: ")

    again = Attempt(first.recorded[-1])
    assert await again.ask() == "fine"

    assert again.writer.ran == []
    assert again.checkpoint.usage.model_calls == answers_in(again.checkpoint) == 4
    assert again.checkpoint.usage.prompt_tokens == 40
    [inner] = again.checkpoint.inner.values()
    assert (inner.done, inner.error) == (True, "")


async def test_a_prompt_inside_that_failed_for_good_fails_again_without_being_asked(provider: Provider) -> None:
    provider.on("Count", Text("many"))
    provider.on("Send", Text("sent"))
    first = Attempt()
    assert await first.run("post_or_not_at_all") == "sent"

    assert await Attempt(first.recorded[-1]).run("post_or_not_at_all") == "sent"

    assert len(provider.requests) == 2


async def test_what_is_asked_beside_a_prompt_that_fails_ends_its_turn_and_no_more(provider: Provider) -> None:
    provider.on("Draft a", Slow(0.3, Tools((ToolCall("note", {"word": "a"}, "n"),))), Text("a done"))
    provider.on("Draft b", Slow(0.1, Fault(400)), Text("b done"))
    provider.on("Draft a", Text("never"))
    first = Attempt()
    with pytest.raises(ModelRefused):
        await first.run("two_at_once")
    assert sorted(request.last_user for request in provider.requests) == ["Draft a.", "Draft b."]
    assert provider.abandoned == []

    assert await Attempt(first.recorded[-1]).run("two_at_once") == ["a done", "b done"]

    assert len(provider.requests) == 4
    assert first.writer.ran == ["note a"]


async def test_what_is_asked_beside_a_call_that_is_cancelled_ends_at_once(provider: Provider) -> None:
    provider.on("Draft", Slow(60, Text("never")), Slow(60, Text("never")))
    working = asyncio.create_task(Attempt().run("two_at_once"))
    while len(provider.requests) < 2:
        await asyncio.sleep(0.01)

    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, 60)


async def test_a_prompt_that_nobody_awaits_is_asked_no_more_when_its_call_has_ended(provider: Provider) -> None:
    provider.on("Draft", Slow(0.2, Tools((ToolCall("note", {"word": "a"}, "n"),))), Text("never"))
    attempt = Attempt()

    assert await attempt.run("without_waiting") == "done"
    with pytest.raises(asyncio.CancelledError):
        await attempt.writer.drafting

    assert len(provider.requests) == attempt.checkpoint.usage.model_calls == 1


async def test_a_prompt_that_is_asked_when_its_call_has_ended_is_refused(answering_provider: Provider) -> None:
    attempt = Attempt()
    await attempt.run("too_late")

    with pytest.raises(AgentError, match=r"^Writer.draft was asked when the call had ended .* Await it inside"):
        await attempt.writer.drafting


async def test_a_compaction_inside_is_recorded_and_not_paid_for_twice(provider: Provider) -> None:
    stamps = [Tools((ToolCall("stamp", {"letter": f"{n} {'word ' * 200}"}, f"s{n}"),)) for n in range(5)]
    provider.on("Write", Tools((ToolCall("post_it", {"letter": "a"}, "1"),)), Text("fine"))
    provider.on("Send", *stamps, Text("sent"))
    provider.enqueue(*[Text("in short")] * 9)  # for who sums up, and for who is then shown only that
    first = Attempt()
    await first.ask()
    [inner] = first.checkpoint.inner.values()
    compactions = sum(entry.get("note") == "summary" for entry in inner.entries)
    asked = len(provider.requests)
    assert first.checkpoint.usage.model_calls == answers_in(first.checkpoint) + compactions == asked
    assert compactions > 0

    assert await Attempt(first.recorded[-2]).ask() == "fine"

    assert len(provider.requests) == asked


async def test_keys_inside_name_the_prompts_that_they_are_in(answering_provider: Provider) -> None:
    attempt = Attempt()
    await attempt.run("by_another")
    assert len(set(attempt.writer.keys)) == 3
    assert all(re.fullmatch(r"run/7/0/0/\w+\.\w+\.[0-9a-f]{16}\.0/1/[01]", key) for key in attempt.writer.keys)


async def test_a_tool_inside_that_wants_approval_has_nobody_to_ask(provider: Provider) -> None:
    provider.on("Write", Tools((ToolCall("post_it", {"letter": "a"}, "1"),)))
    provider.on("Send", Tools((ToolCall("burn", {"letter": "a"}, "b"),)))
    with pytest.raises(NobodyToAsk, match="code of a @task or a tool can't be put aside"):
        await Attempt().ask()


# Reading it


async def test_what_was_said_inside_can_be_read_and_is_never_shown_to_a_model(provider: Provider) -> None:
    provider.on("Write", Tools((ToolCall("post_it", {"letter": "a"}, "1"),)), Text("fine"), Text("again"))
    provider.on("Send", Tools((ToolCall("proof", {"letter": "a"}, "p"),)), Text("sent"))
    provider.on("Read", Text("read"))
    writer = Writer()
    await writer.write("letters")

    await writer.write("more letters")

    note = next(entry for entry in writer.transcript.entries() if entry.get("note") == "inner")
    assert (note["method"], note["tool_call"]) == ("Post.send", "1")
    *said, deeper = note["entries"]
    assert [entry["role"] for entry in said] == ["user", "assistant", "tool", "assistant"]
    assert (said[0]["content"], said[-1]["content"]) == ("Send a.", "sent")
    assert (deeper["method"], deeper["tool_call"]) == ("Reader.read", "p")
    assert [entry["content"] for entry in deeper["entries"]] == ["Read a.", "read"]
    shown = [message["role"] for message in provider.requests[-1].messages]
    assert shown == ["system", "user", "assistant", "tool", "assistant", "user"]
