"""Prompt caching: each turn sends its beginning again, and what the provider still has of it costs a tenth.

Tools, system prompt and what was said come first, and stay as they are until a conversation is compacted. Most
providers find by themselves what they had before. Anthropic's models, there and elsewhere, keep what is marked: the
system prompt, which all calls of a class share, the end of the request before this one, to be found again, and of this.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.contract.text import clip
from activities.values.schema import Schema

logger = logging.getLogger(__name__)

Message = dict[str, Any]

MARK = {"cache_control": {"type": "ephemeral"}}
"""In a message or a tool: what goes before it, and it, is to be kept. Providers take four at most."""

_SELL_CLAUDE = ("vertex_ai", "azure_ai")
"""Providers of many models, of which Anthropic's want marks, and others know none."""


def wants_marks(provider: str, model: str, *, known_to_cache: bool) -> bool:
    """Tell whether what is to be kept has to be marked.

    Args:
        provider: Who is asked, by litellm's name.
        model: Which model, by litellm's name.
        known_to_cache: Whether litellm's table says that it caches prompts.
    """
    if provider == "anthropic":
        return True
    is_theirs = provider in _SELL_CLAUDE and "claude" in model.lower()
    return known_to_cache and (is_theirs or provider.startswith("bedrock"))  # which refuses marks for other models


def marked(
    messages: Sequence[Message], tools: Sequence[Schema], *, goes_on: bool
) -> tuple[list[Message], list[Schema]]:
    """Return a request with its marks.

    Args:
        messages: The conversation.
        tools: What goes before it.
        goes_on: Whether another request will begin with all of this; to keep it costs a quarter more than to read it.
    """
    places = {_end_of(messages, _opening(messages))}
    if goes_on:
        answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        places |= {_end_of(messages, len(messages)), _end_of(messages, answers[-1] if answers else 0)}
    made = [{**message, **MARK} if place in places else message for place, message in enumerate(messages)]
    shown = list(tools)
    if shown and _opening(messages) == 0:
        shown[-1] = {**shown[-1], **MARK}
    return made, shown


def _opening(messages: Sequence[Message]) -> int:
    """Return how many messages are the system prompt's."""
    return next((place for place, message in enumerate(messages) if message["role"] != "system"), len(messages))


def _end_of(messages: Sequence[Message], until: int) -> int | None:
    """Return the place of the last message before one that can be marked: an empty one can't, nor an answer."""
    for place in reversed(range(until)):
        if messages[place]["role"] != "assistant" and messages[place]["content"]:
            return place
    return None


@dataclass(frozen=True)
class Beginning:
    """What every request of a kind begins with.

    Attributes:
        system: The system prompt.
        tools: What the model may call, in order.
        parameters: What else is asked for.
    """

    system: str
    tools: Sequence[Schema]
    parameters: Mapping[str, Any]

    def parts(self) -> dict[str, str]:
        """Return each part by what it is called."""
        names = [str(tool["function"]["name"]) for tool in self.tools]
        tools = {f"the tool {name}": json.dumps(tool) for name, tool in zip(names, self.tools, strict=True)}
        sent = {name: value for name, value in self.parameters.items() if name not in _OF_THE_CLIENT}
        others = {f"the parameter {name}": repr(value) for name, value in sent.items()}
        return {"the system prompt": self.system, "the order of the tools": ", ".join(names), **tools, **others}


_OF_THE_CLIENT = ("timeout", "api_base", "api_key", "metadata")


class Watch:
    """Looks whether requests begin as the last one of their kind did, and says once what does not."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], Beginning] = {}
        self._told: set[tuple[str, str]] = set()

    def look(self, kind: str, model: str, beginning: Beginning) -> None:
        """Look at a request.

        Args:
            kind: The method whose requests are to begin alike, with its module and class.
            model: Who is asked.
            beginning: What it begins with.
        """
        before = self._last.get((kind, model))
        self._last[kind, model] = beginning
        if before is None or before == beginning:
            return
        old, new = before.parts(), beginning.parts()
        what = next((part for part in {**new, **old} if old.get(part) != new.get(part)), None)
        if what is not None and (kind, what) not in self._told:
            self._told.add((kind, what))
            logger.warning(
                "%s: %s changed from one request to the next, so the provider's cache is of no use, and all of the "
                "prompt is paid in full. Put what changes into the arguments. %s",
                kind,
                what,
                _difference(old.get(what, ""), new.get(what, "")),
            )


_AROUND = 30


def _difference(before: str, now: str) -> str:
    """Say where two texts differ first.

    >>> _difference("You work on Monday.", "You work on Friday.")
    "Before: 'You work on Monday.', now: 'You work on Friday.'"
    """
    alike = next((place for place, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), 0)
    start = max(alike - _AROUND, 0)
    one, other = (clip(text[start : alike + _AROUND], 2 * _AROUND) for text in (before, now))
    return f"Before: {one!r}, now: {other!r}"


WATCH = Watch()
