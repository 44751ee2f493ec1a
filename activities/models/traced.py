"""A request to a model as a span, by OpenTelemetry's conventions for generative AI.

What is said is in it only where `spans.CAPTURE` wants it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from activities.contract.spans import Attribute
from activities.errors import AgentError
from activities.measures import spans
from activities.models import model

_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""Names of the conventions for litellm's, where they differ."""

_PARAMETERS = ("temperature", "max_tokens", "top_p", "seed")


@contextmanager
def asking(request: model.ModelRequest, provider: str) -> Iterator[None]:
    """Tell of a request, for as long as the block lasts.

    Args:
        request: What is asked.
        provider: Litellm's name of whom.
    """
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.request.model": request.model,
    }
    for name in _PARAMETERS:
        if isinstance(value := request.parameters.get(name), (int, float)):
            attributes[f"gen_ai.request.{name}"] = value
    if spans.captures_content():
        attributes["gen_ai.input.messages"] = _written(request.messages)
    with spans.request(f"chat {request.model}", **attributes):
        yield


def answered(answer: model.Answer) -> None:
    """Tell what came back of the request that is told of."""
    used = answer.usage
    attributes: dict[str, Attribute] = {
        "gen_ai.response.finish_reasons": [answer.finish_reason],
        "gen_ai.usage.input_tokens": used.prompt_tokens,
        "gen_ai.usage.output_tokens": used.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": used.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": used.cache_write_tokens,
    }
    if used.cost_usd is not None:
        attributes["choreography.cost_usd"] = used.cost_usd
    if spans.captures_content():
        attributes["gen_ai.output.messages"] = _written([answer.message])
    spans.note(**attributes)


async def provider_of(name: str) -> str:
    """Return litellm's name of a model's provider, whatever it may be."""
    try:
        return await model.provider_of(name)
    except AgentError:
        return "unknown"


def _written(messages: Sequence[model.Message]) -> str:
    return json.dumps([{"role": one.get("role"), "parts": _parts(one)} for one in messages], ensure_ascii=False)


def _parts(message: model.Message) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    parts = [{"type": "text", "content": content}] if content else []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": function["name"], "arguments": function["arguments"]}
        )
    return parts
