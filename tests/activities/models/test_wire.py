"""What comes over the wire is bounded and made regular, whichever provider it comes from."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from activities import Agent, prompt, tool
from activities.errors import AgentError, ModelRefused, ModelUnavailable, SettingInvalid
from activities.models.model import ModelRequest, complete
from tests.hostile import ANSWER, MEGABYTE, SCENES, bomb, noise, packed, says
from tests.provider import Cut, Drip, Fault, Garbage, HangUp, Provider, Raw, Reply, Slow, Text, ToolCall, Tools

HELLO = [{"role": "user", "content": "hello"}]
PROVIDERS = ("openai/any", "mistral/any", "groq/any", "hosted_vllm/any", "deepseek/any", "anthropic/any", "gemini/any")


async def asked(provider: Provider, model: str = "openai/any", **parameters: Any) -> Any:
    base = provider.url.removesuffix("/v1") if model.startswith(("anthropic", "gemini")) else provider.url
    return await complete(ModelRequest(model, HELLO, parameters={"api_base": base, "api_key": "any", **parameters}))


@pytest.mark.parametrize("model", PROVIDERS)
@pytest.mark.parametrize(
    "reply",
    [bomb(50 * MEGABYTE), says(noise(3 * MEGABYTE)), Raw(200, b" " * 3 * MEGABYTE, chunked=True)],
    ids=["bomb", "noise", "chunks"],
)
async def test_more_than_the_limit_is_not_read_from_any_provider(model: str, reply: Reply) -> None:
    with Provider(lambda _: reply, anywhere=True) as provider:
        began = time.monotonic()
        with pytest.raises(ModelRefused, match="is not read: it sends more than 2,000,000 bytes"):
            await asked(provider, model)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_request_ends_when_its_time_is_over_however_much_comes(model: str) -> None:
    with Provider(lambda _: Drip(json.dumps(ANSWER), 0.3), anywhere=True) as provider:
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match="did not answer in time"):
            await asked(provider, model, timeout=1)
        assert 0.9 < time.monotonic() - began < 4


@pytest.mark.parametrize(
    "reply",
    [Drip("", 0.2, in_headers=True), Drip("x" * 1_000, 0.1), Slow(20, Text("late"))],
    ids=["headers", "body", "silence"],
)
async def test_the_time_of_a_request_is_that_of_all_its_parts(provider: Provider, reply: Reply) -> None:
    provider.enqueue(reply)
    began = time.monotonic()

    with pytest.raises(ModelUnavailable, match="did not answer in time"):
        await asked(provider, timeout=1)

    assert time.monotonic() - began < 3


async def test_the_limit_is_a_setting(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    provider.enqueue(Text("x" * 5_000), Text("x" * 5_000), Text("x"))
    monkeypatch.setenv("MAX_RESPONSE_BYTES", "1000")
    with pytest.raises(ModelRefused, match="more than 1,000 bytes"):
        await asked(provider)
    monkeypatch.setenv("MAX_RESPONSE_BYTES", "10000")
    assert (await asked(provider)).message["content"] == "x" * 5_000
    monkeypatch.setenv("MAX_RESPONSE_BYTES", "much")
    with pytest.raises(SettingInvalid, match="MAX_RESPONSE_BYTES is 'much'; write a number of bytes"):
        await asked(provider)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_answer_is_unpacked(provider: Provider, encoding: str) -> None:
    provider.enqueue(packed(json.dumps(ANSWER), encoding))

    assert (await asked(provider)).message["content"] == '{"verdict": "PASS"}'


@pytest.mark.parametrize(
    "reply",
    [
        Raw(500, b"x" * 5 * MEGABYTE),
        Raw(500, b'{"error":' * 500_000),
        Fault(500, "password=" * 300_000),
        bomb(100 * MEGABYTE, 500),
        Garbage(json.dumps({"error": {"message": "x" * MEGABYTE}})),
        Garbage("<p>" * 500_000),
    ],
    ids=["text", "braces", "words that look like secrets", "bomb", "success", "page"],
)
async def test_an_error_is_told_at_once_however_long_it_is(provider: Provider, reply: Reply) -> None:
    provider.enqueue(reply)
    began = time.monotonic()

    with pytest.raises(ModelUnavailable) as caught:
        await asked(provider)

    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 1_500


async def test_the_loop_of_calls_goes_on_whatever_is_read(provider: Provider) -> None:
    """Take the worst of the scenes, one after the other, and look at how long the loop stands still."""
    names = ("a bomb", "much beside no message", "an error full of braces", "many keys", "arguments nested deeply")
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    await asked_once(provider)
    watching = asyncio.create_task(watch())
    for name in names:
        provider.enqueue(SCENES[name].replies[0])
        try:
            await asked(provider)
        except AgentError:
            continue
    watching.cancel()

    assert longest < 1.0


async def asked_once(provider: Provider) -> None:
    provider.enqueue(Text("hi"))
    await asked(provider)


async def test_a_later_request_is_not_harmed_by_what_an_earlier_one_was_answered(provider: Provider) -> None:
    for reply in (bomb(20 * MEGABYTE), Cut(), Drip("x" * 100, 0.1), Raw(200, b"x", {"Content-Encoding": "gzip"})):
        provider.enqueue(reply, Text("fine"))
        with pytest.raises(AgentError):
            await asked(provider, timeout=1)
        assert (await asked(provider)).message["content"] == "fine"


@pytest.mark.parametrize("model", PROVIDERS)
@pytest.mark.parametrize(
    "body",
    ["{not json", "", "<html>", "null", "[]", "5", "{}", '{"choices": null}', '{"id": "x"}', "[" * 3_000],
    ids=["cut", "nothing", "page", "null", "list", "number", "empty", "no choices", "something else", "deep"],
)
async def test_an_answer_that_is_none_may_pass_with_any_provider(model: str, body: str) -> None:
    expected = pytest.raises(ModelUnavailable, match=f"^{model} gave no answer that can be read: ")
    with Provider(lambda _: Garbage(body), anywhere=True) as provider, expected as caught:
        await asked(provider, model)

    assert not caught.value.outage
    assert len(provider.requests) == 1


@pytest.mark.parametrize("model", PROVIDERS)
@pytest.mark.parametrize(
    "reply", [HangUp(), HangUp(rudely=True), Cut()], ids=["hangs up", "resets the connection", "breaks off"]
)
async def test_a_request_that_may_have_arrived_is_not_sent_once_more(model: str, reply: Reply) -> None:
    with Provider(lambda _: reply, anywhere=True) as provider, pytest.raises(ModelUnavailable):
        await asked(provider, model)

    assert len(provider.requests) == 1


@pytest.mark.parametrize("model", PROVIDERS)
async def test_a_time_that_is_over_is_told_in_the_same_words(model: str) -> None:
    expected = pytest.raises(ModelUnavailable, match=rf"^{model} did not answer in time: Request timed out\. This may")
    with Provider(lambda _: Slow(20, Text("late")), anywhere=True) as provider, expected:
        await asked(provider, model, timeout=0.2)


@pytest.mark.parametrize("model", PROVIDERS)
async def test_what_a_provider_says_of_a_failure_is_told_without_what_is_around_it(model: str) -> None:
    expected = pytest.raises(ModelUnavailable, match=rf"^{model} could not answer \(HTTP 500\): Overloaded\. This may")
    with Provider(lambda _: Fault(500, "Overloaded"), anywhere=True) as provider, expected:
        await asked(provider, model)


# What goes back


class Reader(Agent):
    """You read."""

    @tool
    def read(self, path: str = "") -> str:
        """Read a file."""
        return f"read {path}"

    @prompt
    async def work(self) -> str:
        """Work."""


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ("", "read "),
        ("null", "read "),
        ('{"path": "a', "Error: the arguments of read do not fit"),
        ("[1]", "Error: the arguments of read do not fit"),
        ('"a"', "Error: the arguments of read do not fit"),
        ("path=a", "Error: the arguments of read do not fit"),
        ("{'path': 'a'}", "Error: the arguments of read do not fit"),
        (r'{"path": "\ud800"}', "read �"),
        ('{"path": ' * 3_000, "Error: the arguments of read do not fit"),
    ],
    ids=["empty", "null", "cut", "list", "text", "words", "Python's", "half a character", "deep"],
)
async def test_arguments_that_are_none_are_told_to_the_model_and_go_back_as_an_object(
    provider: Provider, arguments: str, result: str
) -> None:
    provider.enqueue(Tools((ToolCall("read", arguments),)), Text("done"))

    assert await Reader().work() == "done"

    call, told = provider.requests[1].messages[-2:]
    assert isinstance(json.loads(call["tool_calls"][0]["function"]["arguments"]), dict)
    assert told["content"].startswith(result)


@pytest.mark.parametrize(
    "name",
    [
        "a role that is a number",
        "the role of a user",
        "no name",
        "a call of type custom",
        "content in parts",
        "no role",
    ],
)
async def test_what_went_back_is_in_the_protocols_form(provider: Provider, name: str) -> None:
    provider.enqueue(SCENES[name].replies[0], Text("done"), Text("done"))
    reader = Reader()

    await reader.work()
    await reader.work()

    for message in provider.requests[-1].messages:
        assert message["role"] in ("system", "user", "assistant", "tool")
        assert isinstance(message.get("content") or "", str)
        for call in message.get("tool_calls", ()):
            assert (call["type"], bool(call["id"]), bool(call["function"]["name"])) == ("function", True, True)


# Usage


USAGE = {
    "negative": {"prompt_tokens": -500, "completion_tokens": -3},
    "endless": {"prompt_tokens": 10**30, "completion_tokens": 10**30},
    "infinite": {"prompt_tokens": float("inf"), "completion_tokens": float("inf")},
    "no number": {"prompt_tokens": float("nan"), "completion_tokens": float("nan")},
    "words": {"prompt_tokens": "many", "completion_tokens": "few"},
    "null": {"prompt_tokens": None, "completion_tokens": None},
    "a truth": {"prompt_tokens": True, "completion_tokens": True},
    "lists": {"prompt_tokens": [1], "completion_tokens": {}},
    "nothing": {},
}


@pytest.mark.parametrize("kind", USAGE)
async def test_usage_that_cant_be_true_is_estimated_and_the_answer_kept(provider: Provider, kind: str) -> None:
    provider.enqueue(says("word " * 400, usage=USAGE[kind]))

    answer = await asked(provider, "openai/gpt-4o-mini")

    assert answer.message["content"] == "word " * 400
    assert (answer.usage.estimated, answer.usage.model_calls) == (1, 1)
    assert 1 <= answer.usage.prompt_tokens <= 50
    assert 400 <= answer.usage.completion_tokens <= 600
    assert answer.usage.cost_usd == pytest.approx(
        answer.usage.prompt_tokens * 0.15e-6 + answer.usage.completion_tokens * 0.60e-6
    )


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 10, "completion_tokens": 5}, {"prompt_tokens": "10", "completion_tokens": 4.6}]
)
async def test_usage_that_can_be_true_is_taken(provider: Provider, usage: dict[str, Any]) -> None:
    provider.enqueue(says("fine", usage=usage))

    told = (await asked(provider)).usage

    assert (told.prompt_tokens, told.completion_tokens, told.estimated) == (10, 5, 0)


@pytest.mark.parametrize("cost", [-1e30, 1e30, float("nan"), "free", [1]])
async def test_a_cost_that_cant_be_true_is_none(provider: Provider, cost: Any) -> None:
    provider.enqueue(says("fine", usage={"prompt_tokens": 10, "completion_tokens": 5, "cost": cost}))

    usage = (await asked(provider)).usage

    assert usage.cost_usd is None or 0 <= usage.cost_usd < 1
