"""The only door to litellm: ask a model once, and say what it used.

Importing litellm is slow, so it happens in a thread, at a worker's start or on first use: calls go on heartbeating.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from activities.border.washing import said, washed_json, washed_tree
from activities.contract.usage import Usage
from activities.errors import (
    AgentError,
    ModelRefused,
    ModelUnavailable,
    SettingInvalid,
)
from activities.models import inside, script_provider
from activities.models.asking import apart
from activities.models.caching import marked, wants_marks
from activities.models.completion import is_object, regular_message, sensible_cost, sensible_tokens
from activities.models.hearing import SILENCE_S, Hearing, count
from activities.models.model_errors import AGAIN, Shape, sort_error
from activities.models.rates import key_of
from activities.models.script_provider import SCRIPTED
from activities.models.wire import bounded
from activities.values.schema import Schema

Message = dict[str, Any]

UNKNOWN_WINDOW = 128_000
"""Tokens in the context window of a model that litellm's table lacks; `Agent.context_window` says otherwise."""

DEFAULT_TIMEOUT = 600.0
"""Seconds that a request may take in all, where neither the agent nor its parameters say so."""

BYTES_OF_A_TOKEN = 4
"""By which tokens are estimated where a provider does not count them."""

_KEPT_IN_MESSAGES = (
    "role",
    "content",
    "tool_calls",
    "reasoning_content",
    "thinking_blocks",
)


@dataclass(frozen=True)
class ModelRequest:
    """One request to a model.

    Attributes:
        model: By litellm's name.
        messages: The conversation.
        tools: What the model may call.
        response_format: The form of its answer.
        parameters: Any others of litellm's `acompletion`.
        goes_on: Whether another request will begin with all of this, so that it is worth keeping at the provider's.
        cached: Whether the provider is told what to keep.
        waits: Whether to wait for the model where it is not to be had.
        silence: Seconds without a sign of life after which an answer is given up that has begun; 0 asks for it at once.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[Schema] = ()
    response_format: Schema | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    goes_on: bool = False
    cached: bool = True
    waits: bool = True
    silence: float = SILENCE_S

    @property
    def shapes(self) -> list[Shape]:
        """What it asks for that not every server knows."""
        asked: dict[Shape, Any] = {"response_format": self.response_format, "tools": self.tools}
        return [shape for shape, what in asked.items() if what]


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes:
        message: As a message of the conversation.
        finish_reason: Why it ended, by OpenAI's word.
        usage: What it used.
        first_token_s: Seconds from the question to the first piece of the answer; None where it came at once.
        told: What the provider's headers tell of its limits.
    """

    message: Message
    finish_reason: str
    usage: Usage
    first_token_s: float | None = None
    told: Mapping[str, str] = field(default_factory=dict)


async def complete(request: ModelRequest) -> Answer:
    """Ask a model once.

    Raises:
        ModelUnavailable: It may answer later.
        ModelRefused: It will not answer this.
        ContextTooLong: The conversation does not fit.
    """
    litellm = await _loaded()
    hearing = Hearing(request.silence)
    try:
        return await apart(_complete(litellm, request, hearing))
    finally:
        if hearing.broke_off:
            count(_used_in_vain(litellm, request, hearing))


async def _complete(litellm: Any, request: ModelRequest, hearing: Hearing) -> Answer:
    parameters = dict(request.parameters)
    try:
        if request.model.startswith(f"{SCRIPTED}/"):
            script_provider.price(litellm, request.model)
        messages, tools = [fit_to_send(message) for message in request.messages], list(request.tools)
        if request.cached and _wants_marks(request.model):
            messages, tools = marked(messages, tools, goes_on=request.goes_on)
        if tools:
            parameters["tools"] = tools
        if request.response_format:
            parameters["response_format"] = request.response_format
        of_openai = _provider(request.model) == "openai"
        if of_openai and (headers := inside.headers_of(parameters)):
            parameters["extra_headers"] = {**headers, **(parameters.get("extra_headers") or {})}
        seconds = request.parameters.get("timeout")
        limit = seconds if isinstance(seconds, (int, float)) else DEFAULT_TIMEOUT
        at_once = inside.prepared_at_once() if of_openai else nullcontext()
        with bounded(request.model, hearing, limit, wants_key=of_openai), inside.told_to_nobody(litellm), at_once:
            response = await litellm.acompletion(
                model=request.model, messages=messages, max_retries=0, num_retries=0, **parameters
            )
        return replace(_read(litellm, request, response), first_token_s=hearing.first_s, told=hearing.told)
    except AgentError:
        raise
    except Exception as error:
        raise sort_error(litellm, request.model, error, request.shapes) from error


async def provider_of(model: str) -> str:
    """Return litellm's name of the provider that a model string names.

    Raises:
        ModelRefused: There is none.
    """
    litellm = await _loaded()
    try:
        return _provider(model)
    except Exception as error:
        raise sort_error(litellm, model, error) from error


@functools.cache
def _provider(model: str) -> str:
    return str(_litellm().get_llm_provider(model)[1])


@functools.cache
def _wants_marks(model: str) -> bool:
    known = bool(_litellm().utils.supports_prompt_caching(model))
    return wants_marks(_provider(model), model, known_to_cache=known)


async def name_with_key(request: ModelRequest) -> str:
    """Return the name of a request's model, with a digest of the key and the address that it goes by.

    Raises:
        ModelRefused: No provider is known by the model's name.
    """
    return f"{request.model}/{key_of(await provider_of(request.model), request.parameters)}"


def estimated_tokens(request: ModelRequest) -> int:
    """Return how many tokens a request has by its size."""
    return _tokens_in([*request.messages, *request.tools])


async def count_tokens(model: str, messages: Sequence[Message], tools: Sequence[Schema]) -> int:
    """Return how many tokens a request has, by litellm's counter for the model."""
    litellm = await _loaded()
    counted: int = await asyncio.to_thread(
        litellm.token_counter, model=model, messages=list(messages), tools=list(tools) or None
    )
    return counted


async def context_window(model: str) -> int:
    """Return a model's context window in tokens, by litellm's table; a small one where it is not known."""
    await _loaded()
    return _window_in_table(model)


@functools.cache
def _window_in_table(model: str) -> int:
    try:
        return int(_litellm().get_model_info(model)["max_input_tokens"] or UNKNOWN_WINDOW)
    except Exception:  # litellm raises several things for a model that it does not know
        return UNKNOWN_WINDOW


def load() -> None:
    """Import litellm and what it would import at its first request, so that the first request need not wait for it."""
    with _loading:
        _litellm()
        scripted_only = os.environ.get("MODEL", "").startswith(f"{SCRIPTED}/")
        for name in (
            inside.NEEDED_AT_FIRST_USE if scripted_only else (*inside.NEEDED_AT_FIRST_USE, *inside.NEEDED_BY_CLIENTS)
        ):
            with suppress(ImportError):  # of another version, which may not need it
                importlib.import_module(name)


async def _loaded() -> Any:
    """Return litellm; only the import needs a thread."""
    if not _litellm.cache_info().currsize:
        await asyncio.to_thread(load)
    return _litellm()


_loading = threading.Lock()


@functools.cache
def _litellm() -> Any:
    inside.set_up()
    with _without_collections():
        import litellm  # here, because it takes seconds and most processes never need it

    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True  # counting tokens would look for a tokenizer on the network
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).handlers.clear()  # they would write every line a second time
    litellm.custom_provider_map = [{"provider": SCRIPTED, "custom_handler": script_provider.handler(litellm)}]
    litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
    inside.guard_litellm()
    return litellm


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep the garbage collector from going through a million new objects again and again: a fifth of the import.

    Nor does it later: they stay for as long as the process, and each time would take a quarter of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _read(litellm: Any, request: ModelRequest, response: Any) -> Answer:
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
        prompt = prompt or _tokens_in([*request.messages, *request.tools])
        completion = completion or _tokens_in(_spoken(message))
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


def _used_in_vain(litellm: Any, request: ModelRequest, hearing: Hearing) -> Usage:
    """Estimate what an answer has used that has broken off."""
    prompt = _tokens_in([*request.messages, *request.tools])
    completion = hearing.characters // BYTES_OF_A_TOKEN + 1
    return Usage(
        models=[request.model],
        model_calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=_price(litellm, request.model, prompt, completion),
        estimated=1,
    )


def _tokens_in(value: Any) -> int:
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


def fit_to_send(message: Message) -> Message:
    """Return a message of the conversation as every server takes it back.

    Some parse the arguments of tool calls that they get back, and refuse the whole request for what they can't parse.
    """
    sent: Message = washed_tree(message)
    for call in sent.get("tool_calls") or ():
        function = call["function"]
        function["arguments"] = _object_of(washed_json(function["arguments"]))
    return sent


def _object_of(arguments: str) -> str:
    if is_object(arguments):
        return arguments
    return "{}" if arguments.strip() in ("", "null") else json.dumps({"not_valid": arguments})


def default_fallbacks() -> Sequence[str]:
    """Return the models that this process is set to use where its own is not to be had."""
    return [name for name in (part.strip() for part in os.environ.get("MODEL_FALLBACKS", "").split(",")) if name]


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
