"""What a provider has of the prompts that it was sent before, told truthfully: by looking at what it was sent.

Anthropic keeps the beginning of a prompt up to each mark, and finds it again up to twenty blocks before a mark. OpenAI
keeps every beginning by itself. Both have it for minutes, and neither bothers with a short one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

CHARACTERS_OF_A_TOKEN = 4
LEAST_TOKENS = 1_024
"""A shorter beginning is not kept."""

_STEP = 128
"""In such steps OpenAI reads from its cache."""

_LOOKED_AT = 20
"""Blocks before a mark, itself among them, that Anthropic looks at."""

_MOST_MARKS = 4


@dataclass(frozen=True)
class CacheUse:
    """Where the tokens of a prompt came from.

    Attributes:
        read: From the cache.
        written: Read anew, and kept.
        fresh: Read anew.
    """

    read: int = 0
    written: int = 0
    fresh: int = 0

    @property
    def tokens(self) -> int:
        """All of the prompt's."""
        return self.read + self.written + self.fresh


class PromptCache:
    """The prompts that a provider still has.

    Attributes:
        uses: What became of each prompt, in the order in which they came.
    """

    def __init__(self, seconds: float = 300.0, least: int = LEAST_TOKENS) -> None:
        """Begin with none.

        Args:
            seconds: How long one is kept after it was used last.
            least: Tokens of the shortest beginning that is kept.
        """
        self.uses: list[CacheUse] = []
        self._seconds = seconds
        self._least = least
        self._kept: dict[str, float] = {}
        self._lock = threading.Lock()

    def by_itself(self, body: Mapping[str, Any]) -> CacheUse:
        """Take a request in OpenAI's form, and tell what was known of it."""
        text = "".join(json.dumps(part, sort_keys=True) for part in _parts(body))
        with self._lock:
            read = max((_shared(text, kept) for kept in self._fresh_enough()), default=0)
            read = read if read >= self._least else 0
            self._kept[text] = time.monotonic()
            return self._noted(CacheUse(read, 0, _tokens(text) - read))

    def by_marks(self, body: Mapping[str, Any]) -> CacheUse:
        """Take a request in Anthropic's form, and tell what was known of it and what is kept.

        Raises:
            ValueError: It has more marks than four, or one where none may be.
        """
        prefixes: list[tuple[str, int, bool]] = []  # of each block: a digest up to it, the tokens, whether it is marked
        digest, tokens = sha256(), 0
        for block in _blocks(body):
            marked = "cache_control" in block
            if marked and block.get("text") == "":
                raise ValueError("cache_control cannot be set for empty text blocks")
            text = json.dumps({key: value for key, value in block.items() if key != "cache_control"}, sort_keys=True)
            digest.update(text.encode())
            tokens += _tokens(text)
            prefixes.append((digest.hexdigest(), tokens, marked))
        marks = [place for place, (_, up_to, marked) in enumerate(prefixes) if marked and up_to >= self._least]
        if sum(marked for *_, marked in prefixes) > _MOST_MARKS:
            raise ValueError(f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided.")
        with self._lock:
            kept = self._fresh_enough()
            near = {place for mark in marks for place in range(max(mark - _LOOKED_AT + 1, 0), mark + 1)}
            found = max((place for place in near if prefixes[place][0] in kept), default=None)
            read = prefixes[found][1] if found is not None else 0
            for mark in marks:
                self._kept[prefixes[mark][0]] = time.monotonic()
            written = max(prefixes[marks[-1]][1] - read, 0) if marks else 0
            return self._noted(CacheUse(read, written, tokens - read - written))

    def _fresh_enough(self) -> dict[str, float]:
        since = time.monotonic() - self._seconds
        self._kept = {kept: at for kept, at in self._kept.items() if at >= since}
        return self._kept

    def _noted(self, use: CacheUse) -> CacheUse:
        self.uses.append(use)
        return use


def _parts(body: Mapping[str, Any]) -> Iterator[Any]:
    yield from body.get("tools") or ()
    yield body.get("response_format")
    yield from body["messages"]


def _blocks(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through what Anthropic's prompts are made of, in the order in which they are read."""
    yield from body.get("tools") or ()
    yield from _as_blocks(body.get("system") or ())
    for message in body["messages"]:
        for block in _as_blocks(message["content"]):
            yield {"role": message["role"], **block}


def _as_blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _shared(one: str, other: str) -> int:
    """Return how many tokens two texts begin with alike, in whole steps."""
    size, place = _STEP * CHARACTERS_OF_A_TOKEN, 0
    while len(one) >= place + size and one[place : place + size] == other[place : place + size]:
        place += size
    return place // CHARACTERS_OF_A_TOKEN


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_OF_A_TOKEN)
