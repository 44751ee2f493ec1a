"""Prompt caching: how much of a turn loop's prompts a provider finds again, what that costs, and what spoils it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from activities import Agent, prompt, tool
from activities.answering.answer import TurnLoop
from activities.answering.checkpoint import Checkpoint
from activities.contract.usage import Usage
from activities.memory.port import InThisProcess, Memory, Nothing
from activities.memory.transcript import Transcript
from activities.models import caching, model
from activities.models.caching import marked, wants_marks
from activities.models.model import ModelRequest, complete
from testing.prompt_cache import CacheUse, PromptCache
from tests.hostile import says
from tests.provider import JSON, Provider, Reply, Request, Text, ToolCall, Tools

TURNS = 20
CLAUDE, GPT = "anthropic/claude-sonnet-4-5", "openai/gpt-4o-mini"
PRICES = {CLAUDE: (3.0, 0.3, 3.75, 15.0), GPT: (0.15, 0.075, 0.15, 0.60)}
"""Dollars of a million tokens: read anew, read from the cache, written into it, answered."""


class Verdict(BaseModel):
    verdict: str


class Digger(Agent):
    __doc__ = "You dig for facts, and keep to the rules. " + "Rule: look twice, and write down what you saw. " * 120

    max_turns = 30

    @tool
    def dig(self, at: int) -> str:
        """Dig at a place.

        Args:
            at: The place's number.
        """
        return f"At {at} there is " + "sand and stone, " * 50

    @tool
    def dig_at_many(self, count: int) -> str:
        """Dig at many places."""
        return "sand " * count

    @prompt
    async def explore(self, what: str) -> str:
        """Explore {what}."""

    @prompt
    async def rate(self, what: str) -> Verdict:
        """Rate {what}."""

    @prompt(memory=False)
    async def glance(self, what: str) -> str:
        """Look at {what}."""


class Sieve(Agent):
    __doc__ = Digger.__doc__

    @prompt(memory=False)
    async def sift(self, what: str) -> str:
        """Sift {what}."""


class Digging(Provider):
    """Has something dug for in each turn, and answers in the last, or where there is enough; it caches prompts."""

    def __init__(self) -> None:
        super().__init__(cache=PromptCache())
        self.turns = 0

    def reply(self, request: Request) -> Reply:
        if request.messages[0]["content"].startswith("You compress"):
            return Text("Much was dug for." + " So it was." * 20)
        if self._queue:
            self.turns += 1
            return self._queue.popleft()
        self.turns = 0 if self.turns >= TURNS - 1 or "enough" in request.last_user else self.turns + 1
        if not self.turns:
            return Text("There is sand.")
        return Tools((ToolCall("dig", {"at": self.turns}),), completion_tokens=40)


@pytest.fixture(autouse=True)
def nothing_seen_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.WATCH, "_last", {})
    monkeypatch.setattr(caching.WATCH, "_told", set())


@pytest.fixture
def digging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider that caches prompts, and has its model dig."""
    model.load()
    with Digging() as provider:
        for name, value in provider.environment.items():
            monkeypatch.setenv(name, value)
        yield provider


def uses(provider: Provider) -> list[CacheUse]:
    assert provider.cache is not None
    return provider.cache.uses


async def work(agent: Agent, method: Any, memory: Memory | None = None, **arguments: Any) -> Usage:
    """Have a prompt answered; return what it used."""
    checkpoint = Checkpoint()
    await TurnLoop(agent, method, arguments, checkpoint, memory or Nothing()).run()
    return checkpoint.usage


def price(name: str, used: list[CacheUse], completion: int) -> float:
    """Return what was used costs, by the provider's own count."""
    fresh, read, written, answered = PRICES[name]
    tokens = [sum(use.fresh for use in used), sum(use.read for use in used), sum(use.written for use in used)]
    return sum(n * p for n, p in zip([*tokens, completion], (fresh, read, written, answered), strict=True)) / 1e6


@pytest.mark.parametrize("name", [CLAUDE, GPT])
async def test_of_a_turn_loop_most_is_read_from_the_cache_and_the_cost_is_told_right(
    digging: Provider, name: str
) -> None:
    used = await work(Digger(model=name), Digger.explore, what="the garden")

    seen = uses(digging)
    assert len(seen) == TURNS == used.model_calls
    assert all(use.read / use.tokens >= 0.85 for use in seen[2:]), seen
    assert used.prompt_tokens == sum(use.tokens for use in seen)
    assert used.cache_read_tokens == sum(use.read for use in seen)
    assert used.cache_write_tokens == sum(use.written for use in seen)
    assert used.cost_usd == pytest.approx(price(name, seen, used.completion_tokens), rel=1e-6)


@pytest.mark.parametrize("name", [CLAUDE, GPT])
@pytest.mark.parametrize(("tokens", "kind"), [(8_000, "shortened"), (6_000, "shortened"), (5_500, "summary")])
async def test_after_a_compaction_it_is_so_again(digging: Provider, name: str, tokens: int, kind: str) -> None:
    digger = Digger(model=name)
    digger.context_window = tokens
    checkpoint = Checkpoint()

    await TurnLoop(digger, Digger.explore, {"what": "the garden"}, checkpoint, Nothing()).run()

    turns = [use for use, asked in zip(uses(digging), digging.requests, strict=True) if asked.tools]
    assert len(turns) == TURNS
    assert any(entry.get("note") == kind for entry in checkpoint.entries)
    few = [place for place, use in enumerate(turns) if place > 1 and use.read / use.tokens < 0.85]
    assert few == compactions(checkpoint.entries), turns
    late = turns[2:]
    assert sum(use.read for use in late) / sum(use.tokens for use in late) >= 0.85
    usage = checkpoint.usage
    assert usage.cost_usd == pytest.approx(price(name, uses(digging), usage.completion_tokens), rel=1e-6)


def compactions(entries: list[JSON]) -> list[int]:
    """Return which turns came right after a compaction."""
    turns, found = 0, []
    for before, entry in itertools.pairwise(entries):
        turns += before.get("role") == "assistant"
        found += [turns] if "note" in before and "note" not in entry else []
    return found


@pytest.mark.parametrize("name", [CLAUDE, GPT])
async def test_what_an_instance_remembers_is_read_from_the_cache_at_its_next_call(digging: Provider, name: str) -> None:
    remembered = Transcript()
    for what in ("the garden", "the house", "enough"):
        await work(Digger(model=name), Digger.explore, InThisProcess(remembered), what=what)

    assert len(uses(digging)) == 2 * TURNS + 1
    assert all(use.read / use.tokens >= 0.85 for use in uses(digging)[2:])


@pytest.mark.parametrize("name", [CLAUDE, GPT])
async def test_another_instance_of_the_class_reads_the_system_prompt_and_the_tools(
    digging: Provider, name: str
) -> None:
    await work(Digger(model=name), Digger.explore, what="enough of the garden")
    await work(Digger("another", model=name), Digger.explore, what="enough of the house")

    first, second = uses(digging)
    assert first.read == 0
    assert second.read / second.tokens > 0.85


async def test_many_results_in_one_turn_do_not_hide_what_was_kept_before(digging: Provider) -> None:
    many = Tools(tuple(ToolCall("dig", {"at": at}) for at in range(30)))
    digging.enqueue(many, many, many)

    await work(Digger(model=CLAUDE), Digger.explore, what="the garden")

    assert all(later.read >= earlier.read + earlier.written for earlier, later in pairs(uses(digging)))


def pairs(used: list[CacheUse]) -> list[tuple[CacheUse, CacheUse]]:
    return list(itertools.pairwise(used))


async def test_an_empty_result_is_not_marked(digging: Provider) -> None:
    empty = Tools((ToolCall("dig_at_many", {"count": 0}),))
    digging.enqueue(empty, empty)

    used = await work(Digger(model=CLAUDE), Digger.explore, what="the garden")

    assert used.model_calls == TURNS


async def test_what_is_asked_once_is_not_kept_but_what_all_such_requests_begin_with(digging: Provider) -> None:
    digging.enqueue(Text("sand"), Text("sand"))
    for what in ("the garden " * 500, "the house " * 500):
        await work(Sieve(model=CLAUDE), Sieve.sift, what=what)

    first, second = uses(digging)
    assert first.fresh > first.tokens / 3
    assert (second.read, second.written) == (first.written, 0)


async def test_nothing_is_marked_where_a_provider_caches_by_itself(digging: Provider) -> None:
    await work(Digger(model=GPT), Digger.explore, what="enough")
    digging.enqueue(Text("sand"))
    await complete(ModelRequest("hosted_vllm/any", HELLO, parameters={"api_base": digging.url}, goes_on=True))

    assert "cache_control" not in str([request.body for request in digging.requests])


async def test_caching_can_be_switched_off(digging: Provider) -> None:
    digger = Digger(model=CLAUDE)
    digger.prompt_caching = False

    used = await work(digger, Digger.explore, what="the garden")

    assert (used.cache_read_tokens, used.cache_write_tokens) == (0, 0)


HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("provider", "name", "known", "expected"),
    [
        ("anthropic", "claude-of-tomorrow", False, True),
        ("bedrock", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", True, True),
        ("bedrock_converse", "bedrock/amazon.nova-pro-v1:0", True, True),
        ("bedrock", "bedrock/meta.llama3-70b-instruct-v1:0", False, False),
        ("vertex_ai", "vertex_ai/claude-sonnet-4-5", True, True),
        ("vertex_ai", "vertex_ai/gemini-2.5-pro", True, False),
        ("gemini", "gemini/gemini-2.5-pro", True, False),
        ("openai", "openai/gpt-4o-mini", True, False),
        ("deepseek", "deepseek/deepseek-chat", True, False),
    ],
)
def test_marks_are_for_those_who_want_them(provider: str, name: str, known: bool, expected: bool) -> None:
    assert wants_marks(provider, name, known_to_cache=known) is expected


def test_no_request_has_more_marks_than_providers_take_and_none_is_changed() -> None:
    said: list[JSON] = [{"role": "system", "content": "You are."}]
    for number in range(5):
        said += [{"role": "user", "content": f"{number}"}, {"role": "assistant", "content": "hm"}]
        messages, tools = marked(said, [{"type": "function"}], goes_on=True)
        marks = [place for place, message in enumerate(messages) if "cache_control" in message]
        assert len(marks) + sum("cache_control" in tool for tool in tools) <= 4
        assert marks[0] == 0
        assert all(messages[place]["role"] != "assistant" for place in marks)
    assert "cache_control" not in str(said)


@pytest.mark.parametrize("messages", [[], HELLO, [{"role": "user", "content": ""}]])
def test_tools_are_kept_also_without_a_system_prompt(messages: list[JSON]) -> None:
    _, tools = marked(messages, [{"type": "function"}], goes_on=True)

    assert "cache_control" in tools[-1]


# What tells usage


@pytest.mark.parametrize(
    ("details", "read"),
    [({"cached_tokens": 64}, 64), ({"cached_tokens": 10**7}, 100), ({"cached_tokens": -5}, 0), ({}, 0), (None, 0)],
)
async def test_no_more_is_read_from_a_cache_than_there_was_to_read(provider: Provider, details: Any, read: int) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": details}
    provider.enqueue(says("hi", usage=usage))

    told = (await complete(ModelRequest(GPT, HELLO))).usage

    assert told.cache_read_tokens == read
    assert told.cost_usd == pytest.approx(((100 - read) * 0.15 + read * 0.075 + 5 * 0.6) / 1e6)


def test_cached_tokens_add_up() -> None:
    one = Usage(prompt_tokens=100, cache_read_tokens=60, cache_write_tokens=30)
    two = Usage(prompt_tokens=10, cache_read_tokens=5)

    assert ((one + two).cache_read_tokens, (one + two).cache_write_tokens) == (65, 30)
    assert (one + two - one).cache_read_tokens == 5


# What spoils it


class Clock(Digger):
    """You know that it is {now}."""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == caching.__name__]


async def test_what_breaks_the_prefix_is_named_once(digging: Provider, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for minute in range(3):
        Clock.__doc__ = f"You know that it is 12:0{minute}, and what to do."
        await work(Clock(model=GPT), Clock.explore, what="enough")

    [told] = warnings(caplog)
    assert "Clock.explore: the system prompt changed from one request to the next" in told
    assert "Before: 'You know that it is 12:00" in told


async def test_a_parameter_that_changes_is_named_but_none_of_the_clients(
    digging: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for number in range(3):
        digger = Digger(model=GPT)
        digger.parameters = {"user": f"{number}"}
        digger.request_timeout = 100 + number
        await work(digger, Digger.explore, what="enough")

    assert ["the parameter user changed" in told for told in warnings(caplog)] == [True]


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        (["a", "b"], ["b", "a"], "the order of the tools"),
        (["a"], ["a", "b"], "the order of the tools"),
        (["a", "b"], ["a"], "the order of the tools"),
        (["a"], ["a"], None),
    ],
)
def test_tools_in_another_order_are_named(
    caplog: pytest.LogCaptureFixture, before: list[str], now: list[str], named: str | None
) -> None:
    watch = caching.Watch()
    for names in (before, now):
        tools = [{"function": {"name": name}} for name in names]
        watch.look("Digger.explore", GPT, caching.Beginning("You are.", tools, {}))

    assert [bool(named) and str(named) in told for told in warnings(caplog)] == ([True] if named else [])


def test_a_tool_that_is_described_otherwise_is_named(caplog: pytest.LogCaptureFixture) -> None:
    watch = caching.Watch()
    for day in ("Monday", "Friday"):
        tools = [{"function": {"name": "dig", "description": f"Dig on {day}."}}]
        watch.look("Digger.explore", GPT, caching.Beginning("You are.", tools, {}))

    assert "the tool dig changed" in warnings(caplog)[0]


async def test_calls_of_several_methods_and_instances_break_nothing(
    digging: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    for digger in (Digger(model=GPT), Digger("other", model=GPT), Digger(model=CLAUDE)):
        await work(digger, Digger.explore, what="enough")
        await work(digger, Digger.glance, what="enough Explore")

    assert warnings(caplog) == []
