"""What was said, in Markdown: what the Web UI shows of a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from activities.memory.transcript import Entry

_SHOWN_INSIDE = 6
"""How many of the entries of a prompt that was asked inside are shown, or of a call that has failed."""

_SHOWN_OF_ONE = 500
"""Characters of a message that are shown."""


def in_markdown(entry: Entry) -> str:
    """Return an entry of a conversation for a person to read."""
    if note := entry.get("note"):
        return _note_in_markdown(note, entry)
    calls = ", ".join(f"`{call['function']['name']}`" for call in entry.get("tool_calls") or ())
    said = _clipped(str(entry.get("content") or ""))
    return f"**{entry['role']}**{' calls ' + calls if calls else ''}: {said}"


def _note_in_markdown(note: str, entry: Entry) -> str:
    match note:
        case "inner":
            return _quoted(f"*asked inside: {entry.get('method', '')}*", entry.get("entries", ()))
        case "failed":
            title = "*A call that has failed. The agent does not remember it:*"
            return _quoted(title, entry.get("entries", ()))
        case "fallback":
            return f"*asked in vain: {entry.get('model', '')}: {_clipped(entry.get('text', ''))}*"
        case "error":
            return f"*failed: {_clipped(entry.get('text', ''))}*"
        case _:
            return f"*{note}: {_clipped(entry.get('text', ''))}*"


def _quoted(title: str, entries: Sequence[Entry]) -> str:
    left_out = len(entries) - _SHOWN_INSIDE
    shown = [*([f"*… {left_out} more*"] if left_out > 0 else []), *map(in_markdown, entries[-_SHOWN_INSIDE:])]
    return "\n>\n".join([f"> {title}", *("\n".join(f"> {line}" for line in text.splitlines()) for text in shown)])


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN_OF_ONE else f"{text[:_SHOWN_OF_ONE]}…"
