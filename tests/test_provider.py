"""The loopback provider does what it says, seen through litellm over real HTTP."""

import asyncio
import email.utils
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any

import litellm
import openai
import pytest
from litellm.exceptions import (
    APIError,
    AuthenticationError,
    BadGatewayError,
    BadRequestError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
    Timeout,
)
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients
from pydantic import BaseModel

from activities.models import model
from tests.provider import (
    CONTENT_POLICY,
    CONTEXT_LENGTH,
    INVALID_KEY,
    NO_QUOTA,
    UNKNOWN_MODEL,
    Cut,
    Fault,
    Garbage,
    Provider,
    Reply,
    Request,
    Slow,
    Text,
    ToolCall,
    Tools,
)

litellm.suppress_debug_info = True

READ_FILE = {
    "type": "function",
    "function": {
        "name": "read_file",
        "description": "Read.",
        "parameters": {"type": "object", "properties": {}},
    },
}


class Verdict(BaseModel):
    verdict: str


@pytest.fixture(autouse=True)
async def clients() -> AsyncIterator[None]:
    """Close litellm's HTTP clients with the loop that they belong to, and have it forget them.

    It would use a closed one for the next server at the same port, in whatever test.
    """
    model.load()  # sets by which way it asks
    yield
    await close_litellm_async_clients()  # type: ignore[no-untyped-call]
    litellm.in_memory_llm_clients_cache.flush_cache()  # type: ignore[no-untyped-call]


async def ask(provider: Provider, text: str = "hi", **options: Any) -> Any:
    """Ask once: neither litellm nor the client below it repeats a request."""
    return await litellm.acompletion(
        model="openai/any",
        api_base=provider.url,
        api_key="key",
        messages=[{"role": "user", "content": text}],
        max_retries=0,
        num_retries=0,
        **{"timeout": 10, **options},
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait until the provider's threads have made it true."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def error_from(provider: Provider, reply: Reply, **options: Any) -> Any:
    """Return litellm's exception for a reply, after exactly one request."""
    provider.enqueue(reply, reply)
    with pytest.raises(openai.OpenAIError) as caught:
        await ask(provider, **options)
    assert len(provider.requests) == 1
    return caught.value


async def test_replies_come_in_the_order_they_were_queued(provider: Provider) -> None:
    provider.enqueue(Text("one"), Text("two", finish_reason="length", prompt_tokens=7, completion_tokens=3))

    first, second = await ask(provider), await ask(provider)

    assert first.choices[0].message.content == "one"
    assert second.choices[0].finish_reason == "length"
    assert (second.usage.prompt_tokens, second.usage.completion_tokens) == (7, 3)


async def test_a_request_with_replies_of_its_own_leaves_the_queue_alone(provider: Provider) -> None:
    provider.enqueue(Text("queued"))
    provider.on("plan", Text("planned"), Text("planned again"))

    answers = [await ask(provider, text) for text in ("plan it", "review it", "plan more")]

    assert [answer.choices[0].message.content for answer in answers] == ["planned", "queued", "planned again"]


async def test_running_out_of_replies_is_a_bad_request(provider: Provider) -> None:
    provider.on("plan")
    provider.enqueue(Text("for somebody else"))

    with pytest.raises(BadRequestError, match="no reply left for 'plan it'"):
        await ask(provider, "plan it")


async def test_a_responder_answers_when_nothing_is_queued() -> None:
    def echo(request: Request) -> Reply:
        return Text(request.last_user.upper())

    with Provider(echo) as provider:
        provider.enqueue(Text("queued"))
        answers = [await ask(provider, "hello"), await ask(provider, "hello")]

    assert [answer.choices[0].message.content for answer in answers] == ["queued", "HELLO"]


async def test_tools_and_a_response_format_arrive_together(provider: Provider) -> None:
    provider.enqueue(
        Tools((ToolCall("read_file", {"path": "a"}, id="first"), ToolCall("read_file", {"path": "b"}))),
        Text('{"verdict": "PASS"}'),
    )

    calling = await ask(provider, tools=[READ_FILE], response_format=Verdict)
    answering = await ask(provider, tools=[READ_FILE], response_format=Verdict)

    calls = calling.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [{"path": "a"}, {"path": "b"}]
    assert calls[0].id == "first" != calls[1].id
    assert Verdict.model_validate_json(answering.choices[0].message.content).verdict == "PASS"
    request = provider.requests[0]
    assert (request.model, request.tools, request.last_user) == ("any", ["read_file"], "hi")
    assert request.response_format["json_schema"]["schema"]["required"] == ["verdict"]
    assert request.headers["authorization"] == "Bearer key"


async def test_malformed_arguments_reach_the_caller_as_they_are(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("read_file", '{"path": '),)))

    answer = await ask(provider, tools=[READ_FILE])

    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"path": '


async def test_equal_messages_are_counted_together(provider: Provider) -> None:
    provider.enqueue(Text("a"), Fault(503), Text("b"))

    await ask(provider, "again")
    with pytest.raises(ServiceUnavailableError):
        await ask(provider, "again")
    await ask(provider, "other")

    assert sorted(provider.counts.values()) == [1, 2]
    assert provider.counts[provider.requests[0].digest] == 2


@pytest.mark.parametrize(
    ("feature", "options"),
    [
        ("json_schema", {"response_format": Verdict}),
        ("json_object", {"response_format": {"type": "json_object"}}),
        ("response_format", {"response_format": {"type": "json_object"}}),
        ("tools", {"tools": [READ_FILE]}),
        ("tool_choice", {"tools": [READ_FILE], "tool_choice": "auto"}),
    ],
)
async def test_a_refused_feature_is_refused_only_where_it_is_used(
    provider: Provider, feature: Any, options: dict[str, Any]
) -> None:
    provider.refuse(feature, status=422)
    provider.enqueue(Text("ok"))

    with pytest.raises(BadRequestError, match=f"{feature} is not supported"):
        await ask(provider, **options)

    assert (await ask(provider)).choices[0].message.content == "ok"


@pytest.mark.parametrize(
    ("reply", "expected", "status"),
    [
        (Fault(400), BadRequestError, 400),
        (INVALID_KEY, AuthenticationError, 401),
        (Fault(403), APIError, 403),
        (UNKNOWN_MODEL, NotFoundError, 404),
        (Fault(408), Timeout, 408),
        (Fault(413), APIError, 413),
        (Fault(422), BadRequestError, 422),
        (Fault(429), RateLimitError, 429),
        (NO_QUOTA, RateLimitError, 429),
        (Fault(500), InternalServerError, 500),
        (Fault(502), BadGatewayError, 502),
        (Fault(503), ServiceUnavailableError, 503),
        (Fault(529), APIError, 529),
        (CONTEXT_LENGTH, ContextWindowExceededError, 400),
        (CONTENT_POLICY, ContentPolicyViolationError, 400),
        (Cut(), InternalServerError, 500),
        (Garbage(), APIError, 200),
        (Garbage("{}"), APIError, 500),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else getattr(value, "code", None),
)
async def test_a_fault_becomes_this_exception_after_one_request(
    provider: Provider, reply: Reply, expected: type[Exception], status: int
) -> None:
    error = await error_from(provider, reply)

    assert (type(error), error.status_code) == (expected, status)


@pytest.mark.parametrize("retry_after", [2, 0.5, email.utils.formatdate(2_000_000_000, usegmt=True)])
@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_retry_after_is_read_from_litellms_own_attribute(
    provider: Provider, status: int, retry_after: float | str
) -> None:
    error = await error_from(provider, Fault(status, retry_after=retry_after))

    assert error.litellm_response_headers["retry-after"] == str(retry_after)


async def test_an_exhausted_quota_is_told_from_haste_by_the_words(provider: Provider) -> None:
    error = await error_from(provider, NO_QUOTA)

    assert "insufficient_quota" in str(error)


async def test_words_in_the_message_outweigh_the_status(provider: Provider) -> None:
    error = await error_from(provider, Fault(400, "unknown field: rate limit"))

    assert (type(error), error.status_code) == (RateLimitError, 429)
    assert error.__context__.status_code == 400


async def test_content_may_be_filtered_in_an_ordinary_answer(provider: Provider) -> None:
    provider.enqueue(Text(None, finish_reason="content_filter"))

    choice = (await ask(provider)).choices[0]

    assert (choice.message.content, choice.finish_reason) == (None, "content_filter")


async def test_an_answer_without_choices_is_returned(provider: Provider) -> None:
    provider.enqueue(Garbage('{"id": "x", "object": "chat.completion", "model": "any", "choices": []}'))

    assert (await ask(provider)).choices == []


async def test_a_slow_reply_arrives_late(provider: Provider) -> None:
    provider.enqueue(Slow(0.3, Text("late")))
    begin = time.monotonic()

    answer = await ask(provider)

    assert answer.choices[0].message.content == "late"
    assert time.monotonic() - begin >= 0.3
    assert provider.abandoned == []


async def test_a_timeout_hangs_up(provider: Provider) -> None:
    error = await error_from(provider, Slow(20, Text("late")), timeout=0.3)

    assert isinstance(error, Timeout)
    await until(lambda: provider.abandoned)


async def test_a_cancelled_request_hangs_up(provider: Provider) -> None:
    provider.enqueue(Slow(20, Text("late")))
    asking = asyncio.create_task(ask(provider))
    await until(lambda: provider.requests)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: provider.abandoned)


async def test_stopping_ends_what_is_still_waiting() -> None:
    with Provider(lambda _: Slow(20, Text("late"))) as provider:
        asking = asyncio.create_task(ask(provider))
        await until(lambda: provider.requests)

    with pytest.raises(InternalServerError, match="Server disconnected"):
        await asking
    assert provider.abandoned == []


async def test_a_burst_of_requests_is_served_at_once() -> None:
    with Provider(lambda request: Slow(0.2, Text(request.last_user))) as provider:
        begin = time.monotonic()
        answers = await asyncio.gather(*(ask(provider, str(number)) for number in range(40)))

    assert [answer.choices[0].message.content for answer in answers] == [str(number) for number in range(40)]
    assert time.monotonic() - begin < 40 * 0.2


async def test_models_are_listed(provider: Provider) -> None:
    with urllib.request.urlopen(f"{provider.url}/models") as response:
        models = json.load(response)

    assert [model["id"] for model in models["data"]] == ["any"]
