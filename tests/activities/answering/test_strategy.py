"""Strategies: how a typed answer is asked for, and what is tried next when a server refuses a way."""

import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from activities import Agent, prompt, tool
from activities.answering import strategy
from activities.answering.strategy import Strategy, way_of_asking
from activities.errors import ContextTooLong, ModelRefused, ModelUnavailable, SettingInvalid
from activities.values.schema import AnswerSchema
from tests.hostile import WAYS_REFUSED
from tests.provider import (
    CONTENT_POLICY,
    CONTEXT_LENGTH,
    INVALID_KEY,
    UNKNOWN_MODEL,
    Fault,
    Feature,
    Provider,
    Reply,
    Request,
    Text,
    ToolCall,
    Tools,
)


class Verdict(BaseModel):
    verdict: str


class Critic(Agent):
    """You are a critic."""

    @prompt
    async def judge(self, poem: str) -> Verdict:
        """Judge {poem}."""

    @prompt
    async def rate(self, poem: str) -> list[int]:
        """Rate {poem}."""

    @prompt
    async def describe(self, poem: str) -> str:
        """Describe {poem}."""


class Reader(Critic):
    @tool
    def read(self, path: str) -> str:
        """Read a poem."""
        return f"text of {path}"


class Nameless(Agent):
    @prompt
    async def judge(self, poem: str) -> Verdict:
        """Judge {poem}."""


PASS = Text('{"verdict": "PASS"}')
BY_TOOL = Tools((ToolCall("final_answer", {"verdict": "PASS"}),))


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without what earlier tests have found out of servers."""
    monkeypatch.setattr(strategy, "_taken", {})
    monkeypatch.setattr(strategy, "_told", set())


def way_of(request: Request) -> str:
    """Tell by which strategy a request was made."""
    if kind := request.response_format.get("type"):
        return str(kind)
    return "tool" if "final_answer" in request.tools else "text"


def ways(provider: Provider) -> list[str]:
    return [way_of(request) for request in provider.requests]


async def test_a_schema_is_tried_first(provider: Provider) -> None:
    provider.enqueue(PASS)

    await Reader().judge("Roses")

    assert ways(provider) == ["json_schema"]


async def test_a_text_answer_needs_no_strategy(provider: Provider) -> None:
    provider.enqueue(Text("fine"))

    await Critic().describe("Roses")

    assert ways(provider) == ["text"]
    assert provider.requests[0].messages[0]["content"] == "You are a critic."


async def test_outside_openais_protocol_a_tool_is_tried_first_where_there_are_tools(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mistral(Reader):
        model = "mistral/any"
        api_base = provider.url

    monkeypatch.setenv("MISTRAL_API_KEY", "any")
    provider.enqueue(BY_TOOL)

    assert await Mistral().judge("Roses") == Verdict(verdict="PASS")

    assert ways(provider) == ["tool"]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (["json_schema"], ["json_schema", "json_object"]),
        (["response_format"], ["json_schema", "json_object", "tool"]),
        (["response_format", "tools"], ["json_schema", "json_object", "tool", "text"]),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
async def test_what_a_server_refuses_is_asked_for_in_the_next_way(
    provider: Provider, refused: list[Feature], expected: list[str], status: int
) -> None:
    for feature in refused:
        provider.refuse(feature, status)
    provider.enqueue(BY_TOOL if expected[-1] == "tool" else PASS)

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")

    assert ways(provider) == expected


async def test_what_a_server_took_is_remembered(provider: Provider) -> None:
    provider.refuse("json_schema")
    provider.enqueue(PASS, PASS, Text('{"answer": [1]}'))

    await Critic().judge("Roses")
    await Critic().judge("Violets")
    await Critic().rate("Violets")

    assert ways(provider) == ["json_schema", "json_object", "json_object", "json_object"]


async def test_what_a_server_took_is_remembered_within_a_call(provider: Provider) -> None:
    provider.refuse("json_schema")
    provider.enqueue(Tools((ToolCall("read", {"path": "a"}),)), PASS)

    await Reader().judge("Roses")

    assert ways(provider) == ["json_schema", "json_object", "json_object"]


async def test_what_one_server_refused_is_tried_with_another_model_and_at_another_address(provider: Provider) -> None:
    class Elsewhere(Critic):
        api_base = provider.url

    provider.refuse("json_schema")
    provider.enqueue(PASS, PASS, PASS)

    await Critic().judge("Roses")
    await Critic(model="openai/other").judge("Roses")
    await Elsewhere().judge("Roses")

    assert ways(provider) == ["json_schema", "json_object"] * 3


async def test_a_schema_that_a_server_refuses_although_it_takes_others_is_asked_for_in_the_next_way(
    provider: Provider,
) -> None:
    rating = Text('{"answer": [1]}')
    provider.enqueue(PASS, Fault(400, "Invalid schema for response_format 'rate'."), rating, PASS, rating)

    await Critic().judge("Roses")
    assert await Critic().rate("Roses") == [1]
    await Critic().judge("Violets")
    await Critic().rate("Violets")

    assert ways(provider) == ["json_schema", "json_schema", "json_object", "json_schema", "json_object"]


async def test_when_every_way_is_refused_the_first_refusal_is_told(provider: Provider) -> None:
    provider.enqueue(*(Fault(400, f"refusal {number}") for number in range(1, 9)))

    with pytest.raises(ModelRefused, match="refusal 1"):
        await Critic().judge("Roses")

    assert ways(provider) == ["json_schema", "json_object", "tool", "text"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (CONTEXT_LENGTH, ContextTooLong),
        (CONTENT_POLICY, ModelRefused),
        (INVALID_KEY, ModelRefused),
        (UNKNOWN_MODEL, ModelRefused),
        (Fault(413, "too large"), ModelRefused),
        (Fault(500), ModelUnavailable),
        (Fault(429), ModelUnavailable),
    ],
    ids=["context length", "content policy", "key", "model", "size", "server error", "rate limit"],
)
async def test_another_error_than_a_malformed_request_is_asked_in_no_other_way(
    provider: Provider, fault: Reply, error: type[Exception]
) -> None:
    provider.enqueue(fault, PASS)

    with pytest.raises(error):
        await Critic().judge("Roses")

    assert ways(provider) == ["json_schema"]


@pytest.mark.parametrize("way", WAYS_REFUSED)
async def test_a_format_that_is_refused_with_any_status_is_asked_for_in_the_next_way_and_the_log_says_so_once(
    provider: Provider, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider.enqueue(WAYS_REFUSED[way], PASS, PASS)

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")
    assert await Critic().judge("Violets") == Verdict(verdict="PASS")

    assert ways(provider) == ["json_schema", "json_object", "json_object"]
    [told] = [record.getMessage() for record in caplog.records if "asked for as" in record.getMessage()]
    assert told.startswith("typed answers of openai/any are asked for as json_object from now on")


@pytest.mark.parametrize(
    "message", ["upstream json_schema worker crashed", "not enough memory", "overloaded", "tools are not supported"]
)
async def test_a_server_error_that_refuses_no_format_may_pass(provider: Provider, message: str) -> None:
    provider.enqueue(Fault(500, message))

    with pytest.raises(ModelUnavailable):
        await Critic().judge("Roses")


async def test_a_server_that_knows_no_tools_is_asked_without_them(provider: Provider) -> None:
    provider.refuse("response_format", 500)
    provider.refuse("tools", 500)
    provider.enqueue(PASS)

    assert await Critic().judge("Roses") == Verdict(verdict="PASS")

    assert ways(provider) == ["json_schema", "json_object", "tool", "text"]


@pytest.mark.parametrize("wanted", get_args(Strategy))
async def test_a_strategy_that_the_class_sets_is_used(provider: Provider, wanted: str) -> None:
    agent = type("Setting", (Critic,), {"strategy": wanted})()
    provider.enqueue(BY_TOOL if wanted == "tool" else PASS)

    await agent.judge("Roses")

    assert ways(provider) == [wanted]


async def test_a_strategy_that_the_prompt_sets_goes_before_the_classs(provider: Provider) -> None:
    class Setting(Agent):
        strategy = "text"

        @prompt(strategy="json_object")
        async def judge(self) -> Verdict:
            """Judge."""

    provider.enqueue(PASS)

    await Setting().judge()

    assert ways(provider) == ["json_object"]


async def test_from_a_strategy_that_the_user_set_nothing_steps_down(provider: Provider) -> None:
    class Setting(Critic):
        strategy = "json_schema"

    provider.refuse("json_schema")

    with pytest.raises(ModelRefused, match="json_schema is not supported by this server"):
        await Setting().judge("Roses")

    assert ways(provider) == ["json_schema"]


async def test_an_unknown_strategy_is_an_error_that_names_the_known_ones(provider: Provider) -> None:
    class Setting(Critic):
        strategy = "xml"

    with pytest.raises(SettingInvalid) as caught:
        await Setting().judge("Roses")

    assert str(caught.value) == ("There is no strategy 'xml'; choose one of json_schema, json_object, tool, text.")


@pytest.mark.parametrize("wanted", ["json_object", "text"])
async def test_json_without_a_schema_is_asked_for_in_words(provider: Provider, wanted: str) -> None:
    agent = type("Setting", (Critic,), {"strategy": wanted})()
    provider.enqueue(PASS)

    await agent.judge("Roses")

    system = provider.requests[0].messages[0]["content"]
    assert system.startswith("You are a critic.\n\nWhen you give your final answer, write one JSON object")
    assert json.dumps(Critic.judge.answer.schema) in system


async def test_json_in_a_fence_is_taken(provider: Provider) -> None:
    class Setting(Critic):
        strategy = "text"

    provider.enqueue(Text('Here you are:\n```json\n{"verdict": "PASS"}\n```'))

    assert await Setting().judge("Roses") == Verdict(verdict="PASS")


async def test_instructions_need_no_system_prompt(provider: Provider) -> None:
    agent = type("Setting", (Nameless,), {"strategy": "tool"})()
    provider.enqueue(BY_TOOL)

    await agent.judge("Roses")

    assert [message["role"] for message in provider.requests[0].messages] == ["system", "user"]
    assert "final_answer" in provider.requests[0].messages[0]["content"]


@pytest.mark.parametrize("wanted", get_args(Strategy))
async def test_instructions_do_not_enter_the_conversation(provider: Provider, wanted: str) -> None:
    agent = type("Setting", (Reader,), {"strategy": wanted})()
    provider.enqueue(Text('{"verdict": 1}'), BY_TOOL if wanted == "tool" else PASS)

    await agent.judge("Roses")

    assert [message["role"] for message in agent.conversation][:3] == ["user", "assistant", "user"]
    stored = json.dumps(agent.conversation)
    assert "When you give your final answer" not in stored
    assert "When your work is done" not in stored


def test_the_answer_tools_parameters_are_the_answers_schema() -> None:
    answer = AnswerSchema(list[int], "rate")

    [offered] = way_of_asking("tool", answer).tools

    assert offered["function"]["parameters"] == answer.schema


@pytest.mark.parametrize(("hint", "is_strict"), [(Verdict, True), (dict[str, int], False)], ids=["closed", "open"])
def test_a_schema_is_strict_where_it_can_be(hint: Any, is_strict: bool) -> None:
    answer = AnswerSchema(hint, "judge")

    body = (way_of_asking("json_schema", answer).response_format or {})["json_schema"]

    assert body == {
        "name": "judge",
        "schema": answer.strict_schema if is_strict else answer.schema,
        "strict": is_strict,
    }
