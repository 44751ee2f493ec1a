r"""Finding the JSON in what a model wrote: alone, in a Markdown fence, or with words around it.

Each way takes time in proportion to the text.

>>> next(candidates('Here you are:\n```JSON\n{"ok": true}\n```'))
'{"ok": true}'
>>> next(candidates('It is {"ok": true}, I think.'))
'{"ok": true}'
"""

from __future__ import annotations

import json
from collections.abc import Iterator

_FENCES = ("```", "~~~")
_MOST_FENCED = 10
_THOUGHTS_END = "</think>"
_decoder = json.JSONDecoder()


def candidates(text: str) -> Iterator[str]:
    """Give the parts of a text that may be meant as its JSON, the likeliest first, each of them once."""
    text = _without_thoughts(text).strip().removeprefix("\ufeff").strip()
    given: set[str] = set()
    for part in _parts(text):
        if part and part not in given and len(given) <= _MOST_FENCED:
            given.add(part)
            yield part


def _parts(text: str) -> Iterator[str]:
    if text.startswith(("{", "[")):
        yield text
        if leading := _leading(text):
            yield leading
        return
    yield from _fenced(text)
    yield from _embedded(text)
    yield text


def _without_thoughts(text: str) -> str:
    """Leave out what a model thought aloud before its answer."""
    if text.lstrip().startswith("<think>"):
        return text.partition(_THOUGHTS_END)[2] or text
    return text


def _fenced(text: str) -> Iterator[str]:
    for fence in _FENCES:
        for inside in text.split(fence)[1 : 2 * _MOST_FENCED : 2]:
            first_line, newline, rest = inside.partition("\n")
            if newline and not first_line.lstrip().startswith(("{", "[")):
                yield rest.strip()
            else:
                yield from _on_one_line(inside.strip())


def _on_one_line(inside: str) -> Iterator[str]:
    if not inside.startswith(("{", "[")):
        starts = [place for place in (inside.find("{"), inside.find("[")) if place > 0]
        if starts:
            yield inside[min(starts) :].strip()
        else:
            yield inside.partition(" ")[2].strip()
    yield inside


def _leading(text: str) -> str | None:
    """Return the JSON that a text begins with, if words and nothing like a second answer follow it."""
    try:
        _, end = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return None if any(mark in text[end:] for mark in "{[") else text[:end]


def _embedded(text: str) -> Iterator[str]:
    """Give what begins at the first brace or bracket; no later one, which would be a part of something broken."""
    places = {text.find(mark) for mark in "{["} - {-1}
    for place in sorted(places):
        if found := _leading(text[place:]):
            yield found
