"""The only door to litellm: ask a model once, say what it used, and sort its errors.

Importing litellm is slow, so it happens on first use, in a thread: a call goes on heartbeating meanwhile.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import logging
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.contract import Usage, clip
from activities.errors import (
    AgentError,
    ContextTooLong,
    ModelRefused,
    ModelUnavailable,
    ScriptExhausted,
    SettingInvalid,
)
from activities.schema import Schema

Message = dict[str, Any]

SCRIPTED = "scripted"
"""Name of the provider that answers from a file: `scripted/examples/textkit.toml`."""

_KEPT_IN_MESSAGES = (
    "role",
    "content",
    "tool_calls",
    "reasoning_content",
    "thinking_blocks",
)


@dataclass(frozen=True)
class Question:
    """One request to a model."""

    model: str
    messages: Sequence[Message]
    tools: Sequence[Schema] = ()
    response_format: Schema | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the model said, as a message of the conversation, and what it used."""

    message: Message
    finish_reason: str
    usage: Usage


async def ask(question: Question) -> Answer:
    """Ask a model once.

    Raises:
        ModelUnavailable: It may answer later.
        ModelRefused: It will not answer this.
        ContextTooLong: The conversation does not fit.
    """
    litellm = await asyncio.to_thread(_litellm)
    parameters = dict(question.parameters)
    if question.tools:
        parameters["tools"] = list(question.tools)
    if question.response_format:
        parameters["response_format"] = question.response_format
    try:
        if question.model.startswith(f"{SCRIPTED}/"):
            _price_script(question.model)
        response = await litellm.acompletion(
            model=question.model, messages=list(question.messages), max_retries=0, num_retries=0, **parameters
        )
    except Exception as error:
        raise _sorted_error(question.model, error) from error
    return _read(question.model, response)


async def provider_of(model: str) -> str:
    """Return litellm's name of the provider that a model string names.

    Raises:
        ModelRefused: There is none.
    """
    litellm = await asyncio.to_thread(_litellm)
    try:
        return str(litellm.get_llm_provider(model)[1])
    except Exception as error:
        raise _sorted_error(model, error) from error


@functools.cache
def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # here, because it takes seconds and most processes never need it

    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).handlers.clear()  # they would write every line a second time
    litellm.custom_provider_map = [{"provider": SCRIPTED, "custom_handler": _scripted_handler(litellm)}]
    litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
    return litellm


def _scripted_handler(litellm: Any) -> Any:
    from activities import scripted

    class Handler(litellm.CustomLLM):  # type: ignore[misc]
        async def acompletion(self, model: str, messages: list[Message], **_: Any) -> Any:
            reply = _script(model).reply(messages)
            await asyncio.sleep(reply.delay)
            calls = [
                {
                    "id": f"call_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": text},
                }
                for number, call in enumerate(reply.tool_calls)
                for text in [litellm.utils.json.dumps(call.arguments)]
            ]
            message = {"role": "assistant", "content": reply.content, "tool_calls": calls or None}
            prompt, completion = scripted.prompt_tokens(messages), reply.tokens
            return litellm.ModelResponse(
                model=model,
                choices=[{"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}],
                usage=litellm.Usage(
                    prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
                ),
            )

    return Handler()


@functools.cache
def _script(path: str) -> Any:
    from activities.scripted import Script

    return Script.load(path)


@functools.cache
def _price_script(model: str) -> None:
    price = _script(model.removeprefix(f"{SCRIPTED}/")).price
    _litellm().register_model(
        {
            model: {
                "litellm_provider": SCRIPTED,
                "mode": "chat",
                "input_cost_per_token": price.input_per_million / 1e6,
                "output_cost_per_token": price.output_per_million / 1e6,
                "cache_creation_input_token_cost": 0.0,
                "cache_read_input_token_cost": 0.0,
                "supports_function_calling": True,
                "supports_response_schema": True,
            }
        }
    )


def _read(model: str, response: Any) -> Answer:
    if not response.choices:
        raise ModelUnavailable(f"{model} answered without any choice. {_AGAIN}")
    choice = response.choices[0]
    if choice.finish_reason == "content_filter":
        raise ModelRefused(f"{model}'s content filter withheld the answer. Change the prompt, the input or the model.")
    said = choice.message.model_dump(exclude_none=True)
    fields = {name: value for name, value in said.pop("provider_specific_fields", {}).items() if value}
    if refusal := fields.pop("refusal", None):
        raise ModelRefused(
            f"{model} refused to answer: {clip(refusal, 600)} Change the prompt, the input or the model."
        )
    message = {key: said[key] for key in _KEPT_IN_MESSAGES if said.get(key)}
    if fields:  # Gemini's signatures, which it wants back; strict servers refuse a message that has such a key
        message["provider_specific_fields"] = fields
    # Without tool calls, OpenAI takes a text only, if need be an empty one.
    content = None if "tool_calls" in message else ""
    return Answer(
        message={"role": "assistant", "content": content, **message},
        finish_reason=choice.finish_reason or "stop",
        usage=_usage(model, response),
    )


def _usage(model: str, response: Any) -> Usage:
    usage = getattr(response, "usage", None)
    return Usage(
        models=[model],
        model_calls=1,
        prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
        completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
        cost_usd=getattr(response, "_hidden_params", {}).get("response_cost"),
    )


def _sorted_error(model: str, error: Exception) -> AgentError:
    """Decide whether an error may pass, and say what to do about it."""
    return _raised_by_us(error) or _refusal(model, error) or _unavailable(model, error)


def _refusal(model: str, error: Exception) -> ModelRefused | None:
    """Return what is to be said of an error that comes again however often the model is asked.

    litellm matches phrases before it looks at the status, and a missing key is an internal server error to it; so
    the status that the provider really sent decides, where there is one.
    """
    litellm, said, status = _litellm(), _words(error), _status(error)
    if isinstance(error, litellm.ContextWindowExceededError):
        return ContextTooLong(
            f"{model}: the conversation is longer than its context window: {said}. "
            "Give it less to read, or use a model with a larger window."
        )
    if isinstance(error, litellm.ContentPolicyViolationError):
        return ModelRefused(f"{model} refused the content: {said}. Change the prompt, the input or the model.")
    if "LLM Provider NOT provided" in str(error):
        return ModelRefused(
            f"'{model}' names no provider that litellm knows. Write provider/model, such as openai/gpt-4o-mini; "
            "a server of your own that speaks OpenAI's protocol is openai/<its model> with api_base set."
        )
    if _LACKS_KEY.search(said):
        return ModelRefused(f"{model} has no API key: {said}. Set {_key_names(model)} for the worker.")
    if status == 401 or isinstance(error, litellm.AuthenticationError):
        return ModelRefused(f"{model} did not take the API key: {said}. Set {_key_names(model)} for the worker.")
    if _has_no_credit(error):
        return ModelRefused(f"{model}: the account has no credit left: {said}. Top it up, or use another key.")
    if advice := _ADVICE.get(status or 0):
        return ModelRefused(f"{model}: {said} (HTTP {status}). {advice}", shape_refused=status in (400, 422))
    if isinstance(error, _final_errors(litellm)):
        return ModelRefused(f"{model}: {said}. Check the model's name and the request's parameters.")
    return None


def _unavailable(model: str, error: Exception) -> ModelUnavailable:
    litellm, said, status, delay = _litellm(), _words(error), _status(error), _retry_after(error)
    again = _AGAIN if delay is None else f"The provider asks to wait {delay:.0f} seconds. {_AGAIN}"
    if isinstance(error, litellm.RateLimitError):
        message = f"{model} is limiting the rate: {said}. {again} Fewer calls at a time (--concurrency) would help."
    elif isinstance(error, litellm.Timeout):
        message = f"{model} did not answer in time: {said}. {again} Set request_timeout if it needs longer."
    elif not _came_from_the_provider(error):
        message = (
            f"{model} gave no answer that can be read: {said}. {again} Check api_base and the network if it goes on."
        )
    else:
        message = f"{model} could not answer (HTTP {status}): {said}. {again}"
    return ModelUnavailable(message, retry_after=delay)


_AGAIN = "This may pass: a run asks again by itself."

_LACKS_KEY = re.compile(r"missing [\w ]{0,40}(credentials|api[_ ]key)", re.IGNORECASE)

_ADVICE = {
    400: "The provider takes the request for malformed: check the model's name and parameters.",
    402: "The account is not paid up: top it up, or use another key.",
    403: "The API key may not use this model: ask for access, or use another model or key.",
    404: "There is no such model at this address: check the model's name and api_base.",
    405: "The address is not that of a chat-completions endpoint: check api_base.",
    413: "The request is larger than the provider takes: send less.",
    422: "The provider can't process the request: check the model's name and parameters.",
}


def _final_errors(litellm: Any) -> tuple[type[Exception], ...]:
    names = (
        "BadRequestError",
        "NotFoundError",
        "PermissionDeniedError",
        "UnprocessableEntityError",
        "BudgetExceededError",
        "GuardrailRaisedException",
        "BlockedPiiEntityError",
        "ModelNotMappedError",
        "ModifyResponseException",
        "SensitiveDataRouteException",
        "InvalidRequestError",
    )
    return tuple(getattr(litellm.exceptions, name) for name in names if hasattr(litellm.exceptions, name))


def _status(error: Exception) -> int | None:
    found = getattr(error.__context__, "status_code", None) or getattr(error, "status_code", None)
    return found if isinstance(found, int) else None


def _came_from_the_provider(error: Exception) -> bool:
    """Tell a provider's own 500 from the one that litellm makes of a broken connection or of an unreadable answer."""
    status = _status(error)
    sent = getattr(error, "body", None) or getattr(error, "litellm_response_headers", None)
    return status not in (None, 200) and (status != 500 or bool(sent))


def _raised_by_us(error: Exception) -> AgentError | None:
    """Return what the scripted model raised; any other error of ours in the chain is one that the caller handles."""
    return next((cause for cause in _chain(error) if isinstance(cause, (ScriptExhausted, SettingInvalid))), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: Exception) -> str:
    """Return what was said, without the names that litellm and the SDKs put before it, in one short line."""
    said = _LABELS.sub("", str(getattr(error, "message", None) or error).split("Traceback (most recent call last)")[0])
    if said == "Connection error.":
        said = next((str(cause) for cause in _chain(error) if type(cause).__module__.startswith("httpx")), said)
    said = _message_in(said) or re.sub(r" ssl:(<[^>]*>|\S+)", "", said)
    return clip(" ".join(said.split()), 600).rstrip(".")


_LABELS = re.compile(
    r"^((litellm\.)?[A-Za-z ]*(Error|Exception|Timeout): )*([A-Za-z_]+(Exception|Error)( APIError)? - )?"
)


def _message_in(said: str) -> str | None:
    """Return the message of an error in OpenAI's form."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return None


def _has_no_credit(error: Exception) -> bool:
    body = getattr(error, "body", None)
    return (isinstance(body, dict) and body.get("code") == "insufficient_quota") or "insufficient_quota" in str(error)


def _key_names(model: str) -> str:
    missing = _litellm().validate_environment(model).get("missing_keys") or ["the right key"]
    return (" or " if all(name.endswith("KEY") for name in missing) else " and ").join(missing)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    return max(0.0, seconds) if seconds < _LONGEST_WAIT_S else None


_LONGEST_WAIT_S = 7 * 24 * 3600.0
"""What is longer, or no number, is no sensible wait."""


def _seconds_until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return math.nan


def default_model() -> str:
    """Return the model that this process is set to use.

    Raises:
        SettingInvalid: MODEL is not set.
    """
    model = os.environ.get("MODEL")
    if not model:
        raise SettingInvalid(
            "No model is set. Start the worker with MODEL=openai/gpt-4o-mini (any litellm model string; its key in the "
            "environment), set `model` on the agent class, or name it in the run's options."
        )
    return model
