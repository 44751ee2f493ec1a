"""The model boundary, over real HTTP: what is sent, what is read, and how every error is sorted and told."""

import email.utils
import inspect
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import litellm
import pytest

from activities import Agent, prompt, task
from activities.errors import AgentError, AnswerInvalid, ContextTooLong, ModelRefused, ModelUnavailable, ScriptExhausted
from activities.models.model import ModelRequest, complete, provider_of
from activities.models.model_errors import sort_error
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
    Slow,
    Text,
    ToolCall,
    Tools,
)

ROOT = Path(__file__).parents[3]
AGAIN = "This may pass: a run asks again by itself."
HELLO = [{"role": "user", "content": "hello"}]


def question(model: str = "openai/any", **parameters: Any) -> ModelRequest:
    return ModelRequest(model, HELLO, parameters=parameters)


def completion(choice: dict[str, Any], **more: Any) -> Garbage:
    """Return an answer whose only choice is made by hand."""
    choices = [{"index": 0, "finish_reason": "stop", **choice}]
    return Garbage(json.dumps({"id": "x", "object": "chat.completion", "model": "any", "choices": choices, **more}))


async def error_from(provider: Provider, reply: Reply, **parameters: Any) -> AgentError:
    """Return the error of one request; it must have been only one."""
    provider.enqueue(reply, reply, reply)
    with pytest.raises(AgentError) as caught:
        await complete(question(**parameters))
    assert len(provider.requests) == 1
    return caught.value


# Answers


async def test_an_answer_is_a_message_of_the_conversation(provider: Provider) -> None:
    provider.enqueue(Text("Hello!"))

    answer = await complete(question())

    assert answer.message == {"role": "assistant", "content": "Hello!"}
    assert answer.finish_reason == "stop"
    assert (answer.usage.model_calls, answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 10, 5)


async def test_tool_calls_are_kept_as_the_provider_sent_them(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("read", '{"path": ', "1"), ToolCall("read", {"path": "a"}, "2")), content="Hm."))

    answer = await complete(question())

    assert answer.message == {
        "role": "assistant",
        "content": "Hm.",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"path": '}},
            {"id": "2", "type": "function", "function": {"name": "read", "arguments": '{"path": "a"}'}},
        ],
    }


async def test_an_answer_without_words_or_tool_calls_has_an_empty_text(provider: Provider) -> None:
    provider.enqueue(Text(None))

    assert (await complete(question())).message == {"role": "assistant", "content": ""}


async def test_what_comes_back_goes_out_again_with_nothing_that_the_protocol_does_not_know(provider: Provider) -> None:
    made = Tools((ToolCall("read", {"path": "a"}, "1"),))
    provider.enqueue(made, Text("fine"))
    message = (await complete(question())).message

    result = {"role": "tool", "tool_call_id": "1", "content": "text"}
    await complete(ModelRequest("openai/any", [*HELLO, message, result]))

    sent = provider.requests[1].messages[1]
    assert set(sent) <= {"role", "content", "tool_calls"}
    assert set(sent["tool_calls"][0]) == {"id", "type", "function"}


async def test_asking_leaves_the_conversation_as_it_was(provider: Provider) -> None:
    provider.enqueue(Text("fine"))
    call = {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are."},
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "1", "content": "text"},
    ]
    before = json.dumps(messages)

    await complete(ModelRequest("openai/any", messages))

    assert json.dumps(messages) == before


async def test_what_an_answer_without_usage_used_is_estimated_by_its_length_and_marked(provider: Provider) -> None:
    provider.enqueue(completion({"message": {"role": "assistant", "content": "word " * 1_000}}))

    usage = (await complete(question())).usage

    assert (usage.model_calls, usage.estimated) == (1, 1)
    assert 1 <= usage.prompt_tokens <= 20
    assert 1_000 <= usage.completion_tokens <= 1_500


async def test_litellm_knows_the_price_of_well_known_models_only(provider: Provider) -> None:
    provider.enqueue(Text("fine"), Text("fine"))

    known, unknown = await complete(question("openai/gpt-4o-mini")), await complete(question("openai/any"))

    assert known.usage.cost_usd == pytest.approx(10 * 0.15e-6 + 5 * 0.60e-6)
    assert unknown.usage.cost_usd is None


@pytest.mark.parametrize(
    ("model", "expected"), [("openai/any", "openai"), ("mistral/any", "mistral"), ("scripted/x.toml", "scripted")]
)
async def test_the_provider_of_a_model_string_is_known(model: str, expected: str) -> None:
    assert await provider_of(model) == expected


# Errors


REFUSED = [
    (
        Fault(400, "no such field"),
        "openai/any: no such field (HTTP 400). The provider takes the request for malformed: ",
    ),
    (INVALID_KEY, "openai/any did not take the API key: Incorrect API key provided: sk-no. Set the right key for "),
    (
        Fault(401, "who are you"),
        "openai/any did not take the API key: who are you. Set the right key for the worker.",
    ),
    (
        Fault(402),
        "openai/any: The provider failed on demand (HTTP 402). The account is not paid up: top it up, or use ",
    ),
    (
        Fault(403),
        "openai/any: The provider failed on demand (HTTP 403). The API key may not use this model: ask for ac",
    ),
    (
        UNKNOWN_MODEL,
        "openai/any: The model `nobody` does not exist (HTTP 404). There is no such model at this address: ",
    ),
    (
        Fault(404, "not here"),
        "openai/any: not here (HTTP 404). There is no such model at this address: check the model",
    ),
    (
        Fault(405),
        "openai/any: The provider failed on demand (HTTP 405). The address is not that of a chat-completions ",
    ),
    (Fault(413), "openai/any: The provider failed on demand (HTTP 413). The request is larger than the provider takes"),
    (Fault(413, "Request too large"), "openai/any: Request too large (HTTP 413). The request is larger than the provi"),
    (Fault(422), "openai/any: The provider failed on demand (HTTP 422). The provider can't process the request: check"),
    (Fault(400, "rate limit: no such field"), "openai/any: rate limit: no such field (HTTP 400). The provider takes "),
    (
        NO_QUOTA,
        "openai/any: the account has no credit left: You exceeded your current quota. Top it up, or use another",
    ),
    (
        CONTENT_POLICY,
        "openai/any refused the content: Your request was rejected by our safety system. Change the promp",
    ),
    (
        Text(None, finish_reason="content_filter"),
        "openai/any's content filter withheld the answer. Change the prompt, the input or the model.",
    ),
    (
        completion({"message": {"role": "assistant", "content": None, "refusal": "I can't help with that."}}),
        "openai/any refused to answer: I can't help with that. Change the prompt, the input or the model.",
    ),
]


def name_of(value: object) -> str | None:
    """Name a parameter by what tells it apart; pytest makes up the others."""
    if isinstance(value, Fault):
        return f"{value.status} {value.code or value.message}"
    return type(value).__name__ if isinstance(value, Text | Garbage | Cut) else ""


@pytest.mark.parametrize(("reply", "message"), REFUSED, ids=name_of)
async def test_what_will_not_pass_is_refused_after_one_request(provider: Provider, reply: Reply, message: str) -> None:
    error = await error_from(provider, reply)

    assert type(error) is ModelRefused
    assert str(error).startswith(message)


@pytest.mark.parametrize("status", [400, 422])
async def test_only_a_malformed_request_may_be_asked_in_another_way(provider: Provider, status: int) -> None:
    error = await error_from(provider, Fault(status))

    assert isinstance(error, ModelRefused)
    assert error.shape_refused


@pytest.mark.parametrize(
    "reply",
    [INVALID_KEY, UNKNOWN_MODEL, NO_QUOTA, CONTENT_POLICY, CONTEXT_LENGTH, Fault(402), Fault(403), Fault(413)],
    ids=name_of,
)
async def test_other_refusals_may_not(provider: Provider, reply: Reply) -> None:
    error = await error_from(provider, reply)

    assert isinstance(error, ModelRefused)
    assert not error.shape_refused


async def test_a_conversation_that_is_too_long_is_told_apart(provider: Provider) -> None:
    error = await error_from(provider, CONTEXT_LENGTH)

    assert type(error) is ContextTooLong
    assert str(error) == (
        "openai/any: the conversation is longer than its context window: This model's maximum context length is "
        "128000 tokens. Give it less to read, or use a model with a larger window."
    )


UNREADABLE = "openai/any gave no answer that can be read: "
UNAVAILABLE = [
    (
        Fault(408),
        f"openai/any did not answer in time: The provider failed on demand. {AGAIN} Set request_timeout if it",
    ),
    (Fault(409), f"openai/any could not answer (HTTP 409): The provider failed on demand. {AGAIN}"),
    (
        Fault(429),
        f"openai/any is limiting the rate: The provider failed on demand. {AGAIN} Fewer calls at a time (--co",
    ),
    (Fault(500), f"openai/any could not answer (HTTP 500): The provider failed on demand. {AGAIN}"),
    (Fault(501), f"openai/any could not answer (HTTP 501): The provider failed on demand. {AGAIN}"),
    (Fault(502), f"openai/any could not answer (HTTP 502): The provider failed on demand. {AGAIN}"),
    (Fault(503), f"openai/any could not answer (HTTP 503): The provider failed on demand. {AGAIN}"),
    (
        Fault(504),
        f"openai/any did not answer in time: The provider failed on demand. {AGAIN} Set request_timeout if it",
    ),
    (Fault(529), f"openai/any could not answer (HTTP 529): The provider failed on demand. {AGAIN}"),
    (Cut(), f"{UNREADABLE}Response payload is not completed"),
    (Garbage(), f"{UNREADABLE}Expecting property name enclosed in double quotes"),
    (Garbage(""), f"{UNREADABLE}Expecting value"),
    (Garbage("null"), f"{UNREADABLE}Empty or invalid response"),
    (Garbage("[]"), f"{UNREADABLE}Empty or invalid response"),
    (Garbage("{}"), UNREADABLE),
    (Garbage('{"choices": null}'), UNREADABLE),
    (
        Garbage('{"choices": [{"message": null}]}'),
        f"{UNREADABLE}Invalid response object. {AGAIN} Check api_base and th",
    ),
    (Garbage('{"choices": []}'), f"openai/any answered without any choice. {AGAIN}"),
    (Garbage('{"error": {"message": "upstream", "code": 502}}'), "openai/any could not answer (HTTP 502): upstream. "),
]


@pytest.mark.parametrize(("reply", "message"), UNAVAILABLE, ids=name_of)
async def test_what_may_pass_is_unavailable_after_one_request(provider: Provider, reply: Reply, message: str) -> None:
    error = await error_from(provider, reply)

    assert isinstance(error, ModelUnavailable)
    assert str(error).startswith(message)
    assert AGAIN in str(error)
    assert error.retry_after is None


async def test_a_request_that_takes_too_long_is_ended(provider: Provider) -> None:
    error = await error_from(provider, Slow(20, Text("late")), timeout=0.1)

    assert isinstance(error, ModelUnavailable)
    assert str(error).startswith("openai/any did not answer in time: Request timed out.")


async def test_a_server_that_is_not_there_is_named(provider: Provider) -> None:
    with pytest.raises(
        ModelUnavailable, match=r"Cannot connect to host 127\.0\.0\.1:1 .* Check api_base and the network"
    ):
        await complete(question(api_base="http://127.0.0.1:1/v1"))


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_the_wait_that_a_provider_asks_for_in_seconds_is_kept(provider: Provider, status: int) -> None:
    error = await error_from(provider, Fault(status, retry_after=7))

    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == 7
    assert "The provider asks to wait 7 seconds." in str(error)


async def test_the_wait_that_a_provider_asks_for_as_a_date_is_kept(provider: Provider) -> None:
    error = await error_from(provider, Fault(429, retry_after=email.utils.formatdate(time.time() + 60, usegmt=True)))

    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("Tue, 24 Nov 2020 11:18:36 GMT", 0.0), ("-3", 0.0), ("soon", None), ("nan", None), ("inf", None), ("1e99", None)],
)
async def test_a_wait_that_makes_no_sense_is_none_or_at_once(
    provider: Provider, value: str, expected: float | None
) -> None:
    error = await error_from(provider, Fault(429, retry_after=value))

    assert isinstance(error, ModelUnavailable)
    assert error.retry_after == expected


@pytest.mark.parametrize("model", ["mistral/any", "groq/any", "hosted_vllm/any", "deepseek/any"])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Fault(401), ModelRefused),
        (NO_QUOTA, ModelRefused),
        (CONTEXT_LENGTH, ContextTooLong),
        (Fault(503), ModelUnavailable),
        (Cut(), ModelUnavailable),
        (Garbage(), ModelUnavailable),
    ],
    ids=name_of,
)
async def test_other_providers_errors_are_sorted_alike(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, model: str, reply: Reply, expected: type[AgentError]
) -> None:
    for name in ("MISTRAL", "GROQ", "DEEPSEEK"):
        monkeypatch.setenv(f"{name}_API_KEY", "any")

    provider.enqueue(reply, reply)
    with pytest.raises(AgentError) as caught:
        await complete(question(model, api_base=provider.url))

    assert type(caught.value) is expected
    assert len(provider.requests) == 1
    assert '"error"' not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.5-pro", "GOOGLE_API_KEY or GEMINI_API_KEY"),
    ],
)
async def test_a_missing_key_is_refused_and_named(monkeypatch: pytest.MonkeyPatch, model: str, names: str) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(ModelRefused, match=rf"^{model} has no API key: .* Set {names} for the worker\.$"):
        await complete(question(model))


async def test_a_missing_key_that_only_the_provider_notices_is_named(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    provider.enqueue(Fault(401, "no key"))

    with pytest.raises(ModelRefused, match=r"^mistral/any did not take the API key: no key\. Set MISTRAL_API_KEY for "):
        await complete(question("mistral/any", api_base=provider.url))


@pytest.mark.parametrize("model", ["nonsense", "nonsense/x"])
async def test_a_model_string_without_a_known_provider_is_refused_with_an_example(model: str) -> None:
    with pytest.raises(ModelRefused, match=rf"^'{model}' names no provider .* such as openai/gpt-4o-mini"):
        await complete(question(model))
    with pytest.raises(ModelRefused, match=rf"^'{model}' names no provider"):
        await provider_of(model)


async def test_running_out_of_scripted_answers_is_told_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text('[[entry]]\nwhen = "hello"\nturns = [{ answer = "Hello!" }]\n')

    assert (await complete(question(f"scripted/{script}"))).message["content"] == "Hello!"
    with pytest.raises(ScriptExhausted, match="no entry fits"):
        await complete(ModelRequest(f"scripted/{script}", [{"role": "user", "content": "goodbye"}]))


class Critic(Agent):
    """You are a critic."""

    max_reasks = 0

    @prompt
    async def rate(self, poem: str) -> int:
        """Rate {poem}."""

    @task
    async def rate_or_describe(self, poem: str) -> str:
        """Rate a poem, or describe it."""
        try:
            return str(await self.rate(poem))
        except AnswerInvalid:
            return await self.describe(poem)

    @prompt
    async def describe(self, poem: str) -> str:
        """Describe {poem}."""


async def test_an_error_that_the_caller_is_handling_is_not_taken_for_the_one_that_came(provider: Provider) -> None:
    provider.enqueue(Text("no number"), Fault(503))

    with pytest.raises(ModelUnavailable):
        await Critic().rate_or_describe("Roses")


# Every exception of litellm's

MEND = re.compile(
    r"\b(a run asks again|check|change|set|top it up|give it less|write provider/model|ask for|send less)\b", re.I
)

SORTED: dict[str, type[AgentError]] = {
    "APIConnectionError": ModelUnavailable,
    "APIError": ModelUnavailable,
    "APIResponseValidationError": ModelUnavailable,
    "AuthenticationError": ModelRefused,
    "BadGatewayError": ModelUnavailable,
    "BadRequestError": ModelRefused,
    "BlockedPiiEntityError": ModelRefused,
    "BudgetExceededError": ModelRefused,
    "ContentPolicyViolationError": ModelRefused,
    "ContextWindowExceededError": ContextTooLong,
    "GuardrailRaisedException": ModelRefused,
    "ImageFetchError": ModelRefused,
    "InternalServerError": ModelUnavailable,
    "InvalidRequestError": ModelRefused,
    "JSONSchemaValidationError": ModelUnavailable,
    "LiteLLMUnknownProvider": ModelRefused,
    "MidStreamFallbackError": ModelUnavailable,
    "MockException": ModelUnavailable,
    "ModelNotMappedError": ModelRefused,
    "ModifyResponseException": ModelRefused,
    "NotFoundError": ModelRefused,
    "OpenAIError": ModelUnavailable,
    "PaymentRequiredError": ModelRefused,
    "PermissionDeniedError": ModelRefused,
    "RateLimitError": ModelUnavailable,
    "RejectedRequestError": ModelRefused,
    "SensitiveDataRouteException": ModelRefused,
    "ServiceUnavailableError": ModelUnavailable,
    "Timeout": ModelUnavailable,
    "UnprocessableEntityError": ModelRefused,
    "UnsupportedParamsError": ModelRefused,
    "VectorStoreSearchError": ModelRefused,
}


def exceptions() -> dict[str, type[Exception]]:
    return {
        name: value
        for name, value in vars(litellm.exceptions).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == litellm.exceptions.__name__
    }


def made(kind: type[Exception]) -> Exception:
    """Make an exception of a kind with something for each of its arguments."""
    import httpx

    given = {
        "message": "it went wrong",
        "status_code": 500,
        "response": httpx.Response(418, request=httpx.Request("POST", "http://provider")),
        "request_data": {},
        "failures": [],
        "current_cost": 2.0,
        "max_budget": 1.0,
    }
    parameters = inspect.signature(kind.__init__).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    return kind(**{p.name: given.get(p.name, "any") for p in named if p.default is p.empty})


def test_every_exception_class_of_litellms_is_known() -> None:
    assert set(exceptions()) == set(SORTED)


@pytest.mark.parametrize("name", SORTED)
def test_every_exception_of_litellms_is_sorted_and_says_what_to_do(name: str) -> None:
    error = sort_error(litellm, "openai/any", made(exceptions()[name]))

    assert type(error) is SORTED[name]
    assert "openai/any" in str(error)
    assert MEND.search(str(error)), str(error)


def test_an_error_of_the_harness_itself_is_sorted_too() -> None:
    error = sort_error(litellm, "openai/any", RuntimeError("loop closed"))

    assert isinstance(error, ModelUnavailable)
    assert "loop closed" in str(error)


# Imports


@pytest.mark.parametrize(
    "modules",
    [
        "activities, activities.calls.activity, activities.answering.answer, activities.models.model",
        "activities.build_team",
        "workflows, workflows.build_project, workflows.serving.workers",
        "worker",
    ],
)
def test_importing_the_project_does_not_import_litellm(modules: str) -> None:
    heavy = "litellm", "openai", "aiohttp"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"

    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"
