"""What an instance remembers: a list of entries that is only ever added to, and what a model is shown of it.

An entry is a message of the conversation, in OpenAI's form, or a note. Some notes say how to show what came before:
from where on tool results are shown whole, and what stands for the messages of the middle. Others are for people alone:
what prompts said that were asked inside a call. Both wings use this, so it is plain data.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from activities.border.washing import washed_json

Message = dict[str, Any]
Entry = dict[str, Any]

SHOWN_OF_OLD_RESULTS = 400
"""Characters that are shown of a tool result from before the last `shorten` note."""


def shorten(before: int) -> Entry:
    """Make the note that tool results of entries before a number are to be shown in short."""
    return {"note": "shortened", "before": before}


def summary(until: int, keep: Sequence[int], text: str) -> Entry:
    """Make the note that a summary stands for the entries before a number, but for those that are kept whole."""
    return {"note": "summary", "until": until, "keep": list(keep), "text": text}


def inner(method: str, tool_call: str, said: Sequence[Entry]) -> Entry:
    """Make the note of what a prompt said that was asked inside a call, in a tool call or by the code of a task."""
    where = {"tool_call": tool_call} if tool_call else {}
    return {"note": "inner", "method": method, **where, "entries": list(said)}


def error(text: str) -> Entry:
    """Make the note of why a call, or a prompt inside one, has failed."""
    return {"note": "error", "text": text}


def fallback(model: str, why: str) -> Entry:
    """Make the note that a model was asked in vain before another answered."""
    return {"note": "fallback", "model": model, "text": why}


class Transcript:
    """Entries with their numbers, complete or only those that still matter.

    Attributes:
        numbered: Number and entry, ascending.
        next: The number of the entry that comes next.
    """

    def __init__(self, numbered: Iterable[tuple[int, Entry]] = (), next: int | None = None) -> None:
        self.numbered = list(numbered)
        self.next = next if next is not None else (self.numbered[-1][0] + 1 if self.numbered else 0)

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        for entry in entries:
            self.numbered.append((self.next, entry))
            self.next += 1

    def plus(self, entries: Iterable[Entry]) -> Transcript:
        """Return this with more entries at the end; this one stays as it is."""
        longer = Transcript(self.numbered, self.next)
        longer.add(entries)
        return longer

    def entries(self) -> list[Entry]:
        """Return the entries without their numbers."""
        return [entry for _, entry in self.numbered]

    def messages(self) -> list[Message]:
        """Return what a model is shown: requests that are kept whole, the summary, and what came after it."""
        note, before = self.last_note("summary"), self._shortened_before()
        kept: list[Message] = []
        later: list[Message] = []
        for number, entry in self.live().numbered:
            if "note" not in entry:
                part = kept if note and number < note["until"] else later
                part.append(_shown(entry, in_short=number < before))
        return [*kept, *([_as_message(note)] if note else []), *later]

    def live(self) -> Transcript:
        """Return what is left when entries that no model will be shown again are dropped."""
        note = self.last_note("summary")
        notes = [id(last) for last in (note, self.last_note("shortened")) if last]
        kept = [
            (number, entry)
            for number, entry in self.numbered
            if (id(entry) in notes if "note" in entry else _is_shown(number, note))
        ]
        return Transcript(kept, self.next)

    def since(self, number: int) -> Transcript:
        """Return the entries from a number on."""
        return Transcript(((n, entry) for n, entry in self.numbered if n >= number), self.next)

    def first_request(self) -> int | None:
        """Return the number of the first user message."""
        return next((number for number, entry in self.numbered if entry.get("role") == "user"), None)

    def last_note(self, kind: str) -> Entry | None:
        """Return the last note of a kind: `summary` or `shortened`."""
        return next((entry for _, entry in reversed(self.numbered) if entry.get("note") == kind), None)

    def pack(self) -> str:
        """Write it as compressed text: a conversation is carried on and read often, and says many things twice."""
        data = json.dumps({"next": self.next, "numbered": self.numbered}, ensure_ascii=False, separators=(",", ":"))
        return compressed(data)

    @classmethod
    def unpack(cls, packed: str) -> Transcript:
        """Read what `pack` has written."""
        data = json.loads(decompressed(packed))
        return cls([(number, entry) for number, entry in data["numbered"]], data["next"])

    def _shortened_before(self) -> int:
        note = self.last_note("shortened")
        return note["before"] if note else 0


SENT_OF_LONG_RESULTS = 2_000
"""Characters of a tool result that are sent where, even compressed, all of it would be more than the server takes."""


def with_short_results(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries that are small enough to be sent: of long tool results only head and tail are left."""

    def short(entry: Entry) -> Entry:
        if "entries" in entry:
            return {**entry, "entries": with_short_results(entry["entries"])}
        if entry.get("role") == "tool":
            return {**entry, "content": shortened(entry["content"], SENT_OF_LONG_RESULTS)}
        return entry

    return [short(entry) for entry in entries]


READ_OF_INNER_BYTES = 400_000
"""Bytes of all that prompts inside one call have said, from which on less of each message is kept to be read."""


def readable(notes: Sequence[Entry]) -> list[Entry]:
    """Return notes of what was said inside a call, in so few bytes that they can be sent along with the call's own."""
    for limit in (None, 2_000, 200):
        kept = [_in_short(note, limit) for note in notes] if limit else list(notes)
        if len(json.dumps(kept)) <= READ_OF_INNER_BYTES:
            return kept
    return [error(f"{len(notes)} prompts were asked inside, and said too much to be kept here.")]


READ_BY_PEOPLE = 4_000
"""Characters of each text of an entry that people are shown who look on while it is said."""


def for_people(entry: Entry) -> Entry:
    """Return an entry in short, with its content as one text."""
    content = entry.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        entry = {**entry, "content": "".join(text for text in parts if isinstance(text, str))}
    return _in_short(entry, READ_BY_PEOPLE)


def _in_short(entry: Entry, limit: int) -> Entry:
    short: Entry = {key: shortened(value, limit) for key, value in entry.items() if isinstance(value, str)}
    if "entries" in entry:
        short["entries"] = [_in_short(one, limit) for one in entry["entries"]]
    if calls := entry.get("tool_calls"):
        short["tool_calls"] = [{**call, "function": _in_short(call["function"], limit)} for call in calls]
    return short


def compressed(text: str) -> str:
    """Return a JSON text in fewer characters, fit for JSON: nobody finds a secret in it afterwards.

    Nor does anybody find what only looks like one: of the characters that are in every shape of a key, none is used.
    """
    return base64.b64encode(zlib.compress(washed_json(text).encode(), 6)).translate(_WITHOUT_A).decode()


def decompressed(text: str) -> bytes:
    """Return what `compressed` was given."""
    return zlib.decompress(base64.b64decode(text.encode().translate(_WITH_A)))


_WITHOUT_A, _WITH_A = bytes.maketrans(b"A", b"!"), bytes.maketrans(b"!", b"A")


def shift(entries: Sequence[Entry], base: int, by: int) -> list[Entry]:
    """Move the numbers that notes refer to, as far as they are entries from `base` on."""

    def moved(number: int) -> int:
        return number + by if number >= base else number

    def with_moved(entry: Entry) -> Entry:
        if "note" not in entry:
            return entry
        numbers: Entry = {key: moved(entry[key]) for key in ("before", "until") if key in entry}
        if "keep" in entry:
            numbers["keep"] = [moved(number) for number in entry["keep"]]
        return {**entry, **numbers}

    return [with_moved(entry) for entry in entries] if by else list(entries)


def shortened(text: str, limit: int) -> str:
    """Return head and tail of a text that is longer than a number of characters, and say what is missing."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n[… {len(text) - head - tail} characters left out …]\n{text[-tail:]}"


def _is_shown(number: int, note: Entry | None) -> bool:
    return note is None or number >= note["until"] or number in note["keep"]


def _shown(entry: Entry, *, in_short: bool) -> Message:
    message = {key: value for key, value in entry.items() if key != "told"}
    if in_short and entry["role"] == "tool":
        message["content"] = shortened(entry["content"], SHOWN_OF_OLD_RESULTS)
    return message


def _as_message(note: Entry) -> Message:
    return {"role": "user", "content": f"Summary of what you have said and done since:\n\n{note['text']}"}
