"""The scripted model as one of litellm's providers, so that it is asked by the way of any other."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Sequence
from typing import Any

from activities.models.hearing import Delta
from activities.models.scripted import Message, Reply, Script, prompt_tokens
from activities.models.wire import hearing_now

SCRIPTED = "scripted"
"""Name of the provider that answers from a file: `scripted/examples/textkit.toml`."""

_BETWEEN_PIECES_S = 0.05


def handler(litellm: Any) -> Any:
    """Return what litellm asks for an answer of the scripted model."""

    class Handler(litellm.CustomLLM):  # type: ignore[misc]
        async def acompletion(self, model: str, messages: list[Message], **_: Any) -> Any:
            reply = _script(model).reply(messages)
            await _say(reply)
            calls = [
                {"id": f"call_{number}", "type": "function", "function": {"name": call.name, "arguments": text}}
                for number, call in enumerate(reply.tool_calls)
                for text in [json.dumps(call.arguments)]
            ]
            message = {"role": "assistant", "content": reply.content, "tool_calls": calls or None}
            prompt, completion = prompt_tokens(messages), reply.tokens
            return litellm.ModelResponse(
                model=model,
                choices=[{"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}],
                usage=litellm.Usage(
                    prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
                ),
            )

    return Handler()


async def _say(reply: Reply) -> None:
    """Take the time that the answer takes, and tell it in pieces meanwhile, as if it were streamed."""
    hearing = hearing_now()
    if hearing is None or not hearing.silence:
        await asyncio.sleep(reply.delay)
        return
    pieces = _pieces(reply, most=int(reply.delay / _BETWEEN_PIECES_S) or 1)
    for piece in pieces:
        await asyncio.sleep(reply.delay / len(pieces))
        hearing.hear(piece)
    hearing.whole = True


def _pieces(reply: Reply, most: int) -> Sequence[Delta]:
    words = re.findall(r"\s*\S+", reply.content or "")
    size = -(-len(words) // most) or 1
    said = ["".join(words[start : start + size]) for start in range(0, len(words), size)]
    calls = [Delta("tool", json.dumps(call.arguments), call.name) for call in reply.tool_calls]
    return [*(Delta("text", text) for text in said), *calls] or [Delta("text", "")]


@functools.cache
def _script(path: str) -> Script:
    return Script.load(path)


@functools.cache
def price(litellm: Any, model: str) -> None:
    """Tell litellm what the scripted model pretends to cost."""
    cost = _script(model.removeprefix(f"{SCRIPTED}/")).price
    litellm.register_model(
        {
            model: {
                "litellm_provider": SCRIPTED,
                "mode": "chat",
                "input_cost_per_token": cost.input_per_million / 1e6,
                "output_cost_per_token": cost.output_per_million / 1e6,
                "cache_creation_input_token_cost": 0.0,
                "cache_read_input_token_cost": 0.0,
                "supports_function_calling": True,
                "supports_response_schema": True,
            }
        }
    )
