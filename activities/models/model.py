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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from activities.border.washing import washed_json, washed_tree
from activities.errors import AgentError, SettingInvalid
from activities.models import inside, script_provider, short_way
from activities.models.asking import apart
from activities.models.caching import marked, wants_marks
from activities.models.completion import is_object
from activities.models.hearing import Hearing, count
from activities.models.model_errors import sort_error
from activities.models.question import Answer as Answer
from activities.models.question import Message as Message
from activities.models.question import ModelRequest as ModelRequest
from activities.models.rates import key_of
from activities.models.reading import read, tokens_in, used_in_vain
from activities.models.script_provider import SCRIPTED
from activities.models.wire import bounded
from activities.values.schema import Schema

UNKNOWN_WINDOW = 128_000
"""Tokens in the context window of a model that litellm's table lacks; `Agent.context_window` says otherwise."""

DEFAULT_TIMEOUT = 600.0
"""Seconds that a request may take in all, where neither the agent nor its parameters say so."""


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
            count(used_in_vain(litellm, request, hearing))


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
        kind = short_way.kind_of(litellm, request.model, messages, parameters) if of_openai else None
        with bounded(request.model, hearing, limit, wants_key=of_openai) as bounds:
            response = await short_way.ask(kind, messages, bounds)
            if response is None:
                at_once = inside.prepared_at_once() if of_openai else nullcontext()
                with inside.told_to_nobody(litellm), at_once:
                    response = await litellm.acompletion(
                        model=request.model, messages=messages, max_retries=0, num_retries=0, **parameters
                    )
                short_way.learn(kind, messages, bounds)
        return replace(read(litellm, request, response), first_token_s=hearing.first_s, told=hearing.told)
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
    return tokens_in([*request.messages, *request.tools])


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
