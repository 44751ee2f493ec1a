"""How a typed answer is asked for, since models and the servers before them differ in what they take.

`json_schema` has the provider enforce the schema, `json_object` only JSON, `tool` offers a tool whose arguments are
the answer, `text` asks for JSON in words. The first is the best. When a server refuses one, the next is tried, and
what was taken is remembered per model and address.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from activities.errors import ModelRefused, SettingInvalid
from activities.models import model, patience
from activities.models.script_provider import SCRIPTED
from activities.values.schema import ANSWER_TOOL, AnswerSchema, Schema

logger = logging.getLogger(__name__)

Message = dict[str, Any]
Strategy = Literal["json_schema", "json_object", "tool", "text"]

_OPENAI_PROTOCOL = (
    "openai",
    "azure",
    "hosted_vllm",
    "lm_studio",
    "llamafile",
    "openai_like",
    "custom_openai",
)

_taken: dict[tuple[str | bool | None, ...], Strategy] = {}
"""By model, address and whether there are tools; and by these and a schema, as a server may refuse only that one."""


_told: set[tuple[tuple[Any, ...], Strategy]] = set()
"""What the log has of it."""


@dataclass(frozen=True)
class Asking:
    """One way of asking: what goes into the request beside the conversation."""

    strategy: Strategy | None
    instructions: str = ""
    response_format: Schema | None = None
    tools: tuple[Schema, ...] = ()


async def complete(request: model.ModelRequest, answer: AnswerSchema, wanted: str | None) -> model.Answer:
    """Ask for an answer of a type, in the best way that the model's server takes.

    Args:
        request: The conversation and the agent's tools.
        answer: The type.
        wanted: The strategy that the user set; then no other is tried.

    Raises:
        ModelRefused: Every way was refused; tells the first refusal.
        ModelUnavailable: See `model.complete`.
    """
    if answer.is_text or answer.is_none:
        return await patience.complete(request)
    server = (request.model, request.parameters.get("api_base"), bool(request.tools))
    typed = (*server, json.dumps(answer.schema))
    first_refusal: ModelRefused | None = None
    for strategy in await _ladder(request, wanted, _taken.get(typed) or _taken.get(server)):
        try:
            reply = await patience.complete(_shaped(request, way_of_asking(strategy, answer)))
        except ModelRefused as refusal:
            if not refusal.shape_refused or wanted:
                raise
            first_refusal = first_refusal or refusal
            continue
        if first_refusal is not None:
            _tell_once(server, strategy, first_refusal)
        _taken[typed] = strategy
        _taken.setdefault(server, strategy)
        return reply
    assert first_refusal is not None
    raise first_refusal


def _tell_once(server: tuple[Any, ...], strategy: Strategy, refusal: ModelRefused) -> None:
    if (server, strategy) not in _told:
        _told.add((server, strategy))
        where = f" at {server[1]}" if server[1] else ""
        logger.warning(
            "typed answers of %s%s are asked for as %s from now on, as it refused a better way: %s",
            server[0],
            where,
            strategy,
            refusal,
        )


async def _ladder(request: model.ModelRequest, wanted: str | None, taken: Strategy | None) -> Sequence[Strategy]:
    if wanted:
        if wanted not in get_args(Strategy):
            raise SettingInvalid(f"There is no strategy '{wanted}'; choose one of {', '.join(get_args(Strategy))}.")
        return [wanted]  # type: ignore[list-item]
    best_first = list(_best_first(await model.provider_of(request.model), bool(request.tools)))
    return best_first[best_first.index(taken) :] if taken else best_first


def _best_first(provider: str, has_tools: bool) -> Iterator[Strategy]:
    """Order the strategies for a provider.

    Beside tools, the JSON modes of providers outside OpenAI's protocol either forbid tool calls or force one (litellm
    turns a schema into a forced tool for some); there a tool for the answer is the way that works.
    """
    if provider in _OPENAI_PROTOCOL or provider == SCRIPTED or not has_tools:
        yield "json_schema"
        yield "json_object"
        yield "tool"
    else:
        yield "tool"
        yield "json_schema"
        yield "json_object"
    yield "text"


def way_of_asking(strategy: Strategy, answer: AnswerSchema) -> Asking:
    """Return what a strategy adds to a request."""
    in_words = (
        "When you give your final answer, write one JSON object that fits this JSON schema, and nothing else:\n"
        f"{json.dumps(answer.schema, ensure_ascii=False)}"
    )
    if strategy == "json_schema":
        strict = answer.strict_schema
        body = {"name": answer.name, "schema": strict or answer.schema, "strict": strict is not None}
        return Asking(strategy, response_format={"type": "json_schema", "json_schema": body})
    if strategy == "json_object":
        return Asking(strategy, in_words, response_format={"type": "json_object"})
    if strategy == "tool":
        told = f"When your work is done, give your final answer by calling the tool {ANSWER_TOOL}."
        return Asking(strategy, told, tools=(_answer_tool(answer),))
    return Asking(strategy, in_words)


def _answer_tool(answer: AnswerSchema) -> Schema:
    function = {
        "name": ANSWER_TOOL,
        "description": "Give the final answer, once the work is done.",
        "parameters": answer.schema,
    }
    return {"type": "function", "function": function}


def _shaped(request: model.ModelRequest, way: Asking) -> model.ModelRequest:
    return replace(
        request,
        messages=_instructed(request.messages, way.instructions),
        tools=[*request.tools, *way.tools],
        response_format=way.response_format,
    )


def _instructed(messages: Sequence[Message], instructions: str) -> Sequence[Message]:
    """Add instructions to the system prompt of a request; the conversation itself stays as it was."""
    if not instructions:
        return messages
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{instructions}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]
