"""The only door to litellm: ask a model once, say what it used, and sort its errors.

Importing litellm is slow, so it happens on first use, in a thread: a call goes on heartbeating meanwhile.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.contract import Usage, clip
from activities.errors import AgentError, ContextTooLong, ModelRefused, ModelUnavailable, SettingInvalid
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
    "provider_specific_fields",
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


@dataclass(frozen=True)
class Abilities:
    """What litellm knows that a model can do. False means that it is not known."""

    json_schema: bool
    tools: bool
    provider: str


async def abilities(model: str) -> Abilities:
    """Look a model up in litellm's tables."""
    litellm = await asyncio.to_thread(_litellm)
    try:
        provider = litellm.get_llm_provider(model)[1]
    except Exception as error:
        raise _sorted_error(model, error) from error
    return Abilities(
        json_schema=litellm.supports_response_schema(model=model),
        tools=litellm.supports_function_calling(model=model),
        provider=provider,
    )


@functools.cache
def _litellm() -> Any:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # here, because it takes seconds and most processes never need it

    litellm.suppress_debug_info = True
    litellm.telemetry = False
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
        raise ModelUnavailable(f"{model} answered without any choice; it is asked again.")
    choice = response.choices[0]
    if choice.finish_reason == "content_filter":
        raise ModelRefused(f"{model}'s content filter withheld the answer. Change the prompt or the model.")
    said = choice.message.model_dump(exclude_none=True)
    message = {key: said[key] for key in _KEPT_IN_MESSAGES if said.get(key)}
    return Answer(
        message={"role": "assistant", "content": None, **message},
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
    """Decide whether an error may pass, and say what to do about it.

    litellm matches phrases before it looks at the status, and a missing key is an internal server error to it; so
    the status that the provider really sent decides, where there is one.
    """
    if ours := _raised_by_us(error):
        return ours
    litellm = _litellm()
    said = _words(error)
    status = getattr(error.__context__, "status_code", None) or getattr(error, "status_code", None)
    if isinstance(error, litellm.ContextWindowExceededError):
        return ContextTooLong(f"{model}: the conversation is longer than its context window: {said}")
    if isinstance(error, litellm.ContentPolicyViolationError):
        return ModelRefused(f"{model} refused the content: {said}. Change the prompt, the input or the model.")
    if _lacks_key(error):
        return ModelRefused(f"{model} has no API key: {said}. Set {_key_names(model)} for the worker.")
    if _code(error) == "insufficient_quota":
        return ModelRefused(f"{model}: the account has no credit left: {said}. Top it up, or use another key.")
    if advice := _ADVICE.get(status or 0):
        return ModelRefused(f"{model}: {said} (HTTP {status}). {advice}", shape_refused=status in (400, 422))
    if isinstance(error, litellm.RateLimitError):
        return ModelUnavailable(f"{model} is limiting the rate: {said}", retry_after=_retry_after(error))
    if isinstance(error, _final_errors(litellm)):
        return ModelRefused(f"{model}: {said}. Check the model's name and the request's parameters.")
    return ModelUnavailable(
        f"{model} could not answer (HTTP {status or 'none'}): {said}", retry_after=_retry_after(error)
    )


_ADVICE = {
    400: "The provider takes the request for malformed: check the model's name and parameters.",
    401: "The API key is not valid: set the right one for the worker.",
    402: "The account is not paid up.",
    403: "The API key may not use this model.",
    404: "There is no such model at this address: check the model's name and api_base.",
    405: "The address is not that of a chat-completions endpoint: check api_base.",
    413: "The request is larger than the provider takes: send less.",
    422: "The provider can't process the request: check the parameters.",
}


def _final_errors(litellm: Any) -> tuple[type[Exception], ...]:
    names = (
        "BadRequestError",
        "AuthenticationError",
        "NotFoundError",
        "PermissionDeniedError",
        "UnprocessableEntityError",
        "BudgetExceededError",
        "GuardrailRaisedException",
        "BlockedPiiEntityError",
        "ModelNotMappedError",
        "InvalidRequestError",
    )
    return tuple(getattr(litellm.exceptions, name) for name in names if hasattr(litellm.exceptions, name))


def _raised_by_us(error: BaseException | None) -> AgentError | None:
    while error is not None:
        if isinstance(error, AgentError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _words(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).split("Traceback (most recent call last)")[0]
    return clip(" ".join(text.split()), 600)


def _code(error: Exception) -> str | None:
    body = getattr(error, "body", None)
    return body.get("code") if isinstance(body, dict) else None


def _lacks_key(error: Exception) -> bool:
    text = str(error)
    return "Missing credentials" in text or ("Missing" in text and "API" in text and "ey" in text)


def _key_names(model: str) -> str:
    missing = _litellm().validate_environment(model).get("missing_keys") or ["the provider's key"]
    return " or ".join(missing)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


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
