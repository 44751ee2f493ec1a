"""An answer, read: what was said, as a message of the conversation, and what it used."""

from __future__ import annotations

import json
from typing import Any

from activities.border.washing import said, washed_tree
from activities.contract.usage import Usage
from activities.errors import ModelRefused, ModelUnavailable
from activities.models.completion import regular_message, sensible_cost, sensible_tokens
from activities.models.hearing import Hearing
from activities.models.model_errors import AGAIN
from activities.models.question import Answer, Message, ModelRequest

BYTES_OF_A_TOKEN = 4
"""By which tokens are estimated where a provider does not count them."""

_KEPT_IN_MESSAGES = (
    "role",
    "content",
    "tool_calls",
    "reasoning_content",
    "thinking_blocks",
)


def read(litellm: Any, request: ModelRequest, response: Any) -> Answer:
    """Return what litellm's answer says.

    Raises:
        ModelUnavailable: It says nothing.
        ModelRefused: The model, or its filter, will not answer this.
    """
    model = request.model
    if not response.choices:
        raise ModelUnavailable(f"{model} answered without any choice. {AGAIN}")
    choice = response.choices[0]
    if choice.finish_reason == "content_filter":
        raise ModelRefused(f"{model}'s content filter withheld the answer. Change the prompt, the input or the model.")
    dumped = choice.message.model_dump(exclude_none=True)
    fields = {name: value for name, value in (dumped.pop("provider_specific_fields", None) or {}).items() if value}
    if refusal := fields.pop("refusal", None):
        raise ModelRefused(
            f"{model} refused to answer: {said(refusal, 600)} Change the prompt, the input or the model."
        )
    whole = washed_tree(regular_message(dumped))
    message = {key: whole[key] for key in _KEPT_IN_MESSAGES if whole.get(key)}
    if fields:  # Gemini's signatures, which it wants back; strict servers refuse a message that has such a key
        message["provider_specific_fields"] = washed_tree(fields)
    # Without tool calls, OpenAI takes a text only, if need be an empty one.
    content = None if "tool_calls" in message else ""
    message = {"role": "assistant", "content": content, **message}
    return Answer(
        message=message,
        finish_reason=choice.finish_reason or "stop",
        usage=_usage(litellm, request, message, response),
    )


def _usage(litellm: Any, request: ModelRequest, message: Message, response: Any) -> Usage:
    """Return what an answer used, as far as the provider tells; what it does not, or what can't be true, by size."""
    usage = getattr(response, "usage", None)
    prompt = sensible_tokens(getattr(usage, "prompt_tokens", None))
    completion = sensible_tokens(getattr(usage, "completion_tokens", None))
    cost = sensible_cost(getattr(response, "_hidden_params", {}).get("response_cost"))
    is_empty = not (message["content"] or message.get("tool_calls"))
    estimated = not prompt or not (completion or is_empty)
    if estimated:
        prompt = prompt or tokens_in([*request.messages, *request.tools])
        completion = completion or tokens_in(_spoken(message))
        cost = _price(litellm, request.model, prompt, completion)
    details = getattr(usage, "prompt_tokens_details", None)
    read = min(sensible_tokens(getattr(details, "cached_tokens", None)) or 0, prompt or 0)
    written = min(sensible_tokens(getattr(details, "cache_creation_tokens", None)) or 0, (prompt or 0) - read)
    return Usage(
        models=[request.model],
        model_calls=1,
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cost_usd=cost,
        estimated=int(estimated),
    )


def used_in_vain(litellm: Any, request: ModelRequest, hearing: Hearing) -> Usage:
    """Estimate what an answer has used that has broken off."""
    prompt = tokens_in([*request.messages, *request.tools])
    completion = hearing.characters // BYTES_OF_A_TOKEN + 1
    return Usage(
        models=[request.model],
        model_calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=_price(litellm, request.model, prompt, completion),
        estimated=1,
    )


def tokens_in(value: Any) -> int:
    """Return how many tokens something has, by its size."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return len(text.encode(errors="replace")) // BYTES_OF_A_TOKEN + 1


def _spoken(message: Message) -> str:
    called = [f"{call['function']['name']}{call['function']['arguments']}" for call in message.get("tool_calls") or ()]
    return "".join([message["content"] or "", str(message.get("reasoning_content") or ""), *called])


def _price(litellm: Any, model: str, prompt: int, completion: int) -> float | None:
    try:
        costs = litellm.cost_per_token(model=model, prompt_tokens=prompt, completion_tokens=completion)
        return sensible_cost(sum(costs))
    except Exception:  # litellm raises several things for a model that it does not know
        return None
