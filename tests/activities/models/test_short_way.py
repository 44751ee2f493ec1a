"""The first question of a kind goes litellm's way, the next ones a short one: nothing of what comes of them differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import litellm
import pytest

from activities.errors import AgentError
from activities.models import inside, short_way
from activities.models.asking import apart
from activities.models.model import Answer, ModelRequest, complete
from tests.hostile import call, calls, completion, says
from tests.provider import (
    CONTENT_POLICY,
    CONTEXT_LENGTH,
    INVALID_KEY,
    Cut,
    Fault,
    Garbage,
    HangUp,
    Provider,
    Raw,
    Reply,
    Streamed,
    Text,
    ToolCall,
    Tools,
)

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
TOOLS_USED: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "text"},
]


def asked(text: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "You are."}, {"role": "user", "content": text}]


class Long:
    """Counts the questions that go litellm's way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        ask = litellm.acompletion

        async def counted(**question: Any) -> Any:
            self.count += 1
            return await ask(**question)

        monkeypatch.setattr(litellm, "acompletion", counted)


@pytest.fixture(autouse=True)
def nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget callbacks, which litellm keeps that was given some by another test."""
    for name in inside._CALLBACKS:
        monkeypatch.setattr(litellm, name, [])


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget kinds of another test, whose provider may have had the same port."""
    monkeypatch.setattr(short_way, "_forms", short_way._Forms())


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> Long:
    return Long(monkeypatch)


async def ask(
    provider: Provider, messages: Sequence[dict[str, Any]], model: str = "openai/any", **parameters: Any
) -> Answer:
    here = {"api_base": provider.url, **parameters}
    return await complete(ModelRequest(model, messages, tools=TOOLS, parameters=here))


async def test_the_second_of_a_kind_is_asked_as_litellm_would(provider: Provider, long: Long) -> None:
    provider.enqueue(Text("hi"), Text("hi"), Text("hi"), Text("hi"))
    conversation = [*asked("Où?"), *TOOLS_USED]

    await ask(provider, asked("one"), temperature=0.5, extra_headers={"X-A": "b"})
    await ask(provider, asked("two \ud83d\ude00"), temperature=0.5, extra_headers={"X-A": "b"})
    assert long.count == 1
    await ask(provider, conversation, temperature=0.5, extra_headers={"X-A": "b"})
    await ask(provider, conversation, temperature=0.5, extra_headers={"X-A": "b"})

    assert long.count == 2
    first, second, third, fourth = provider.requests
    assert {**first.body, "messages": asked("two 😀")} == second.body
    assert third.body == fourth.body
    of_length = {"content-length": ""}
    assert {**first.headers, **of_length} == {**second.headers, **of_length}
    assert third.headers == fourth.headers


SAID = completion({"role": "assistant", "content": "hi", "reasoning_content": "Hm."})
USAGE = {
    "prompt_tokens": 2_000,
    "completion_tokens": 500,
    "total_tokens": 2_500,
    "prompt_tokens_details": {"cached_tokens": 1_024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 100},
}
REPLIES: dict[str, list[Reply]] = {
    "a text": [Text("hi")],
    "a text at once": [says("hi")],
    "a text in pieces": [Streamed(Text("It rained all day."))],
    "tool calls": [Tools((ToolCall("look", {"at": "it"}, id="1"),))],
    "two calls at once": [calls(call({"name": "look", "arguments": "{}"}), call({"name": "look", "arguments": ""}))],
    "calls in one": [
        calls(call({"name": "multi_tool_use.parallel", "arguments": '{"tool_uses": []}'})),
    ],
    "reasoning": [SAID],
    "reasoning in the text": [says("<think>Hm.</think>hi")],
    "a field of the provider's": [completion({"role": "assistant", "content": "hi", "of_mine": {"a": 1}})],
    "content in parts": [says([{"type": "text", "text": "h"}, {"type": "text", "text": "i"}])],
    "usage in detail": [says("hi", usage=USAGE)],
    "a cost": [says("hi", usage={**USAGE, "cost": 0.25})],
    "another model": [says("hi", usage=USAGE, model="gpt-4o-mini")],
    "another tier": [says("hi", usage=USAGE, service_tier="priority")],
    "no usage": [says("hi", usage=None)],
    "nothing": [says("")],
    "a limit": [completion({"role": "assistant", "content": "h"}, "length")],
    "a reason of its own": [completion({"role": "assistant", "content": "h"}, "eos")],
    "a refusal": [completion({"role": "assistant", "content": None, "refusal": "No."})],
    "a filter": [completion({"role": "assistant", "content": ""}, "content_filter")],
    "no choice": [Garbage('{"choices": []}')],
    "no json": [Garbage()],
    "another json": [Garbage('{"a": 1}')],
    "an error as a success": [Garbage('{"error": {"message": "busy", "code": 503}}')],
    "an outage": [Fault(503)],
    "a limit of the rate": [Fault(429, retry_after=7)],
    "a bad key": [INVALID_KEY],
    "a policy": [CONTENT_POLICY],
    "too long": [CONTEXT_LENGTH],
    "a bad request": [Fault(400, "No.")],
    "a cut": [Cut()],
    "a hang-up": [HangUp()],
    "another address": [Raw(307, b"", {"Location": "/v1/chat/completions"}), Text("hi")],
}


@pytest.mark.parametrize("model", ["openai/any", "openai/gpt-4o-mini"])
@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
async def test_whatever_comes_is_the_same_by_either_way(provider: Provider, model: str, replies: list[Reply]) -> None:
    provider.enqueue(Text("hi"), *replies, *replies)
    await ask(provider, asked("one"), model)
    learnt = len(provider.requests)

    short = await outcome(provider, model)
    sent = len(provider.requests) - learnt
    long = await outcome(provider, model, seed=1)

    assert short == long
    assert len(provider.requests) == learnt + 2 * sent


async def outcome(provider: Provider, model: str, **parameters: Any) -> Any:
    """Return all that a question comes to, except what is by chance."""
    try:
        answer = await ask(provider, asked("two"), model, **parameters)
    except AgentError as error:
        return type(error), str(error), {name: value for name, value in vars(error).items() if name != "told"}
    return replace(answer, first_token_s=answer.first_token_s is not None, told=dict(answer.told))


async def test_another_key_in_the_environment_counts_at_once(
    provider: Provider, long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.enqueue(*[Text("hi")] * 3)

    for key in ("sk-one", "sk-two", "sk-two"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        await ask(provider, asked("one"))

    assert [request.headers["authorization"] for request in provider.requests] == [
        f"Bearer {key}" for key in ("sk-one", "sk-two", "sk-two")
    ]
    assert long.count == 2


@pytest.mark.parametrize(("name", "value"), [("drop_params", True), ("headers", {"X-Mine": "1"})])
async def test_what_is_set_in_litellm_counts_at_once(
    provider: Provider, long: Long, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    provider.enqueue(*[Text("hi")] * 2)
    await ask(provider, asked("one"))

    monkeypatch.setattr(litellm, name, value)
    await ask(provider, asked("two"))

    assert long.count == 2


@pytest.mark.parametrize(
    ("messages", "parameters"),
    [
        (asked([{"type": "text", "text": "hi"}]), {}),
        (asked("one"), {"service_tier": "flex"}),
        (asked("one"), {"metadata": {"a": 1}}),
        (asked("one"), {"user": object()}),
    ],
)
async def test_what_litellm_may_do_more_for_goes_its_way(
    provider: Provider, long: Long, messages: list[dict[str, Any]], parameters: dict[str, Any]
) -> None:
    provider.enqueue(*[Text("hi")] * 2)
    for _ in range(2):
        try:
            await ask(provider, messages, **parameters)
        except AgentError:  # of a parameter that can't be sent
            assert "user" in parameters

    assert long.count == 2


async def test_a_client_that_was_closed_is_none_the_less_of_use(provider: Provider, long: Long) -> None:
    provider.enqueue(*[Text("hi")] * 2)
    await ask(provider, asked("one"))
    for client in list(litellm.in_memory_llm_clients_cache.cache_dict.values()):
        if hasattr(client, "client"):
            await apart(client.client._transport.aclose())

    await ask(provider, asked("two"))

    assert long.count == 1
