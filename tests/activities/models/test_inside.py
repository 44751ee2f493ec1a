"""What is relied on of litellm's insides: each of these fails when a release changes it."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import Any

import httpx
import litellm
import pytest

from activities.errors import ModelRefused
from activities.models import inside, short_way
from activities.models.model import ModelRequest, complete
from tests.hostile import says
from tests.provider import Provider, Request, Text

LONG_WAY = "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You are."},
    {"role": "user", "content": "hello"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."},
    {"role": "tool", "tool_call_id": "1", "content": "text"},
]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
SHAPE = {"type": "json_schema", "json_schema": {"name": "v", "schema": {"type": "object"}, "strict": True}}


@pytest.fixture(autouse=True)
def each_question_is_the_first_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_way, "_forms", short_way._Forms())


async def sent(provider: Provider, model: str, parameters: dict[str, Any]) -> Request:
    """Return the request that is made of everything that a question may hold."""
    provider.enqueue(Text("hi"))
    here = {"api_base": provider.url, **parameters}
    await complete(ModelRequest(model, MESSAGES, tools=TOOLS, response_format=SHAPE, parameters=here))
    return provider.requests[-1]


@pytest.mark.parametrize("model", ["openai/any", "deepinfra/any", "cerebras/any", "nvidia_nim/any", "lm_studio/any"])
async def test_no_request_goes_through_the_openai_sdk(provider: Provider, model: str) -> None:
    request = await sent(provider, model, {"api_key": "any"})

    assert request.headers["user-agent"].startswith("litellm/")


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("openai/gpt-4o-mini", {"temperature": 0.5, "max_tokens": 100}),
        ("openai/any", {"top_k": 5, "chat_template_kwargs": {"a": 1}}),
        ("openai/any", {"extra_headers": {"X-A": "b"}, "extra_body": {"min_p": 0.1}, "seed": 3}),
        ("openai/o3-mini", {"max_tokens": 100, "reasoning_effort": "low"}),
        ("openai/gpt-5", {"max_tokens": 100}),
        ("gpt-4o", {"parallel_tool_calls": False, "tool_choice": "auto", "user": "me"}),
        ("openai/any", {"organization": "org-1", "headers": {"X-H": "1"}}),
        ("deepinfra/any", {"api_key": "any"}),
    ],
)
@pytest.mark.parametrize("environment", [{}, {"OPENAI_ORG_ID": "org-2", "OPENAI_PROJECT_ID": "proj"}])
async def test_what_is_sent_is_the_same_as_by_the_openai_sdk(
    provider: Provider,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    parameters: dict[str, Any],
    environment: dict[str, str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    short = await sent(provider, model, parameters)
    monkeypatch.setenv(LONG_WAY, "False")
    long = await sent(provider, model, parameters)

    assert long.headers["user-agent"].startswith("AsyncOpenAI")
    assert short.body == long.body
    if model != "deepinfra/any":  # to whom the SDK tells the user's organization at OpenAI
        assert meant(short) == meant(long)


def meant(request: Request) -> dict[str, str]:
    """Return the headers that tell a provider something of what is asked."""
    of_the_client = ("accept", "user-agent", "x-stainless", "content-length")
    return {name: value for name, value in request.headers.items() if not name.startswith(of_the_client)}


@pytest.mark.parametrize("parameters", [{}, {"api_key": ""}])
async def test_nothing_is_sent_to_openai_without_a_key(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ModelRefused, match=r"^openai/any has no API key: .* Set OPENAI_API_KEY for the worker\.$"):
        await sent(provider, "openai/any", parameters)

    assert not provider.requests


async def test_a_server_of_ones_own_that_wants_no_key_gets_none(provider: Provider) -> None:
    request = await sent(provider, "hosted_vllm/any", {})

    assert "any" not in request.headers.get("authorization", "")


async def test_callbacks_of_litellm_are_told_of_each_answer_if_there_are_any(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Told(litellm.integrations.custom_logger.CustomLogger):
        async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            loop.call_soon_threadsafe(told.set)

    for name in inside._CALLBACKS:  # of which litellm makes entries in the others
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "callbacks", [Told()])

    await sent(provider, "openai/any", {})

    async with asyncio.timeout(60):
        await told.wait()


async def test_a_long_conversation_is_sent_as_it_is(provider: Provider) -> None:
    provider.enqueue(Text("hi"))
    messages = [{"role": "user", "content": f"{number}"} for number in range(300)]

    await complete(ModelRequest("openai/any", messages))

    assert provider.requests[0].messages == json.loads(json.dumps(messages))


@pytest.mark.parametrize(
    ("model", "cost", "is_priced"),
    [
        ("openai/gpt-4o-mini", None, True),
        ("openai/any", None, False),
        ("openai/any", 0.5, True),
        ("anthropic/claude-sonnet-4-5", None, True),
        ("openai/ft:gpt-4o-mini-2024-07-18:me::1", None, True),
    ],
)
async def test_no_price_is_looked_for_of_a_model_that_has_none(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, model: str, cost: float | None, is_priced: bool
) -> None:
    asked = []
    calculate = litellm.response_cost_calculator

    def counted(**options: Any) -> Any:
        asked.append(options)
        return calculate(**options)

    monkeypatch.setattr(litellm, "response_cost_calculator", counted)
    usage = {"prompt_tokens": 1_000, "completion_tokens": 500, "cost": cost}
    is_anthropic = model.startswith("anthropic")
    provider.enqueue(
        Text("hi", prompt_tokens=1_000, completion_tokens=500) if cost is None else says("hi", usage=usage)
    )
    base = provider.url.removesuffix("/v1") if is_anthropic else provider.url

    answer = await complete(ModelRequest(model, MESSAGES[:2], parameters={"api_base": base, "api_key": "any"}))

    assert bool(asked) is is_priced
    if is_priced and cost is None:
        expected = sum(litellm.cost_per_token(model, prompt_tokens=1_000, completion_tokens=500))
        assert answer.usage.cost_usd == pytest.approx(expected)
    elif not is_priced:
        assert answer.usage.cost_usd is None


async def test_a_price_that_litellm_learns_later_counts(provider: Provider) -> None:
    here = {"api_base": provider.url, "api_key": "any"}
    provider.enqueue(Text("hi"), Text("hi"))
    before = await complete(ModelRequest("openai/mine", MESSAGES[:2], parameters=here))
    price = {"input_cost_per_token": 1e-3, "output_cost_per_token": 0.0, "litellm_provider": "openai", "mode": "chat"}
    litellm.register_model({"openai/mine": price})

    after = await complete(ModelRequest("openai/mine", MESSAGES[:2], parameters=here))

    assert before.usage.cost_usd is None
    assert after.usage.cost_usd == pytest.approx(10 * 1e-3)


@pytest.mark.parametrize(("model", "by_a_thread"), [("openai/any", 0), ("deepinfra/any", 1)])
async def test_a_question_to_openais_protocol_is_prepared_without_a_thread(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, model: str, by_a_thread: int
) -> None:
    given: list[Any] = []
    to_a_thread = asyncio.BaseEventLoop.run_in_executor

    def run_in_executor(self: asyncio.BaseEventLoop, executor: Any, func: Any, *args: Any) -> Any:
        if isinstance(func, functools.partial):
            given.append(func.args[0].func)
        return to_a_thread(self, executor, func, *args)

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", run_in_executor)

    await sent(provider, model, {"api_key": "any"})

    assert given.count(litellm.main.completion) == by_a_thread


async def test_a_worker_may_have_as_many_requests_at_a_time_as_calls(provider: Provider) -> None:
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    await sent(provider, "openai/any", {})
    made: Any = AsyncHTTPHandler._create_aiohttp_transport()
    session = made.get_valid_client_session()
    limits = session.connector.limit, session.connector.limit_per_host
    await session.close()

    assert limits == (inside.MOST_CONNECTIONS,) * 2


async def test_providers_are_listed_for_each_question_and_are_what_they_were(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from litellm.types.utils import LlmProviders

    listed: list[type] = []
    lists: Any = type(LlmProviders)
    members = lists.__iter__

    def list_them(cls: type) -> Any:
        listed.append(cls)
        return members(cls)

    monkeypatch.setattr(lists, "__iter__", list_them)

    await sent(provider, "openai/any", {})

    assert len(listed) == 2
    assert list(LlmProviders) == list(LlmProviders.__members__.values())
    assert all(LlmProviders(one.value) is one and one.value == one for one in LlmProviders)


def test_which_protocol_a_model_of_openai_goes_by_is_looked_up_as_before() -> None:
    main: Any = litellm.main
    of_litellm = litellm.utils.get_model_info_helper

    for name in ("gpt-4o-mini", "gpt-5", "o1-pro"):
        assert main.get_model_info_helper(name, "openai") == of_litellm(model=name, custom_llm_provider="openai")
    with pytest.raises(LookupError):
        main.get_model_info_helper("learnt-lately", "openai")
    litellm.register_model({"learnt-lately": {"litellm_provider": "openai", "mode": "responses"}})
    try:
        assert main.responses_api_bridge_check("learnt-lately", "openai")[0]["mode"] == "responses"
    finally:
        del litellm.model_cost["learnt-lately"]


def test_cookies_are_taken_where_there_are_any() -> None:
    cookies, request = httpx.Cookies(), httpx.Request("GET", "http://there")

    cookies.extract_cookies(httpx.Response(200, request=request))
    cookies.extract_cookies(httpx.Response(200, headers={"Set-Cookie": "a=b"}, request=request))

    assert dict(cookies) == {"a": "b"}
