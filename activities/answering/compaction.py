"""Keeping a conversation within the model's context window.

Past a soft limit old tool results are shown in short; past a hard one the middle is summarised by a model call of its
own. Both are notes at the end of the transcript: nothing that was said is rewritten. The first request, the current
one, the last turns and every pair of tool call and result stay whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from activities.contract.usage import Usage
from activities.memory.transcript import Entry, Message, Transcript, shorten, shortened, summary
from activities.models import model, patience
from activities.models.hearing import SILENCE_S
from activities.models.reading import BYTES_OF_A_TOKEN
from activities.values.schema import Schema

SOFT = 0.6
"""Fraction of the context window past which old tool results are shown in short."""

HARD = 0.8
"""Fraction of the context window past which the middle is summarised."""

GAIN = 0.1
"""Fraction of the context window that must be won by showing more results in short: what comes after the first that is
shown otherwise than before is no longer in the provider's cache."""

TURNS_KEPT = 3
"""How many of the last turns stay whole."""

_INSTRUCTIONS = """You compress the working memory of an AI agent. Below is the middle of its conversation. Write what \
it needs to go on as if it remembered everything, under these headings: Goal. Decisions, with their reasons. What was \
verified, and how. Open items. Next steps. Keep names, paths, numbers and signatures exactly as they are. Leave out \
pleasantries and what was superseded."""


@dataclass(frozen=True)
class Window:
    """How large a conversation may be, and who summarises it.

    Attributes:
        model: Who is asked.
        tokens: Its context window.
        summariser: The model that writes summaries.
        parameters: Parameters of its requests.
        silence: Seconds in which nothing may come of a summary that has begun.
    """

    model: str
    tokens: int
    summariser: str
    parameters: dict[str, Any]
    silence: float = SILENCE_S


async def compact(
    transcript: Transcript,
    current: int,
    system: Sequence[Message],
    tools: Sequence[Schema],
    window: Window,
    *,
    force: bool = False,
) -> tuple[list[Entry], Usage]:
    """Return the notes to add to a transcript so that it fits, and what making them used.

    Args:
        transcript: All that a model would be shown.
        current: The number of the request that is being answered.
        system: What goes before it.
        tools: What goes beside it.
        window: The limits.
        force: Whether to summarise whatever the count says, as the provider has refused the length.
    """

    async def size(of: Transcript) -> int:
        return await _tokens(window, [*system, *of.messages()], tools)

    notes: list[Entry] = []
    before = await size(transcript)
    if not force and before <= SOFT * window.tokens:
        return notes, Usage()
    tail = _start_of_last_turns(transcript, current)
    if tail > (transcript.last_note("shortened") or {"before": 0})["before"]:
        notes.append(shorten(tail))
    after = await size(transcript.plus(notes))
    won = (_length(transcript.messages()) - _length(transcript.plus(notes).messages())) / BYTES_OF_A_TOKEN
    is_worth_it = won >= GAIN * window.tokens
    if not force and after <= HARD * window.tokens and (is_worth_it or before <= HARD * window.tokens):
        return (notes if is_worth_it else []), Usage()
    note, usage = await _summarise(transcript, current, tail, window)
    if note is not None:
        notes.append(note)
    if await size(transcript.plus(notes)) > HARD * window.tokens:
        notes.append(shorten(transcript.next))
    return notes, usage


async def _tokens(window: Window, messages: Sequence[Message], tools: Sequence[Schema]) -> int:
    """Count tokens; where the bytes alone are few enough, they will do, as a token has at least one."""
    size = _length([*messages, *tools])
    if size <= SOFT * window.tokens:
        return size
    return await model.count_tokens(window.model, messages, tools)


def _length(said: Sequence[Any]) -> int:
    return len(json.dumps(said, ensure_ascii=False).encode())


def _start_of_last_turns(transcript: Transcript, current: int) -> int:
    """Return the number of the entry with which the last turns begin; never inside a pair of call and result."""
    turns = [number for number, entry in transcript.numbered if entry.get("role") == "assistant"]
    return turns[-TURNS_KEPT:][0] if turns else current


async def _summarise(transcript: Transcript, current: int, tail: int, window: Window) -> tuple[Entry | None, Usage]:
    first = transcript.first_request()
    keep = sorted({number for number in (first, current) if number is not None and number < tail})
    middle = [
        (number, entry)
        for number, entry in transcript.live().numbered
        if number < tail and number not in keep and "note" not in entry
    ]
    earlier = transcript.last_note("summary")
    if not middle:
        return None, Usage()
    told = "\n\n".join(
        [*([f"Summary so far:\n{earlier['text']}"] if earlier else []), *(_in_words(entry) for _, entry in middle)]
    )
    answer = await patience.complete(
        model.ModelRequest(
            model=window.summariser,
            messages=[
                {"role": "system", "content": _INSTRUCTIONS},
                {"role": "user", "content": shortened(told, int(window.tokens * HARD))},
            ],
            parameters=window.parameters,
            silence=window.silence,
        )
    )
    return summary(tail, keep, str(answer.message.get("content") or "")), answer.usage


def _in_words(entry: Entry) -> str:
    calls = "".join(
        f"\n[calls {call['function']['name']}({call['function']['arguments']})]"
        for call in entry.get("tool_calls") or ()
    )
    return f"{entry['role']}: {entry.get('content') or ''}{calls}"
