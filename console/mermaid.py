"""A run as a Mermaid sequence diagram, for a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from console.history import CallSeen, RunSeen
from workflows.shown.progress import counted, used_in_words

MOST_CALLS = 150
"""Calls in one diagram. Renderers refuse a text of more than 50,000 characters, and nobody reads a longer one."""

_LABEL_LENGTH = 80


def sequence_diagram(run: RunSeen) -> str:
    """Draw who was asked what, and what it took; only the first calls of a long run."""
    calls = run.calls[:MOST_CALLS]
    names = {name: f"p{number}" for number, name in enumerate(dict.fromkeys(call.instance for call in calls), 1)}
    lines = ["sequenceDiagram", f"    participant run as {_safe(run.choreography)}"]
    lines += [f"    participant {alias} as {_safe(name)}" for name, alias in names.items()]
    moments = sorted(
        (moment for call in calls for moment in _moments(call, names[call.instance])), key=lambda moment: moment[0]
    )
    lines += [f"    {arrow}" for _, arrow in moments]
    if left_out := len(run.calls) - len(calls):
        lines.append(f"    Note over run: {counted(left_out, 'more call')} of this run not drawn")
    if run.ended:
        lines.append(f"    Note over run: {_safe(run.outcome)}")
    return "\n".join(lines)


def _moments(call: CallSeen, alias: str) -> Iterator[tuple[datetime, str]]:
    asked = f"{call.method.partition('.')[2]} ({call.item})"
    yield call.scheduled, f"run->>+{alias}: {_safe(asked)}"
    if call.ended is None:
        return
    if call.error is not None:
        yield call.ended, f"{alias}--x-run: {_safe(call.error)}"
        return
    yield call.ended, f"{alias}-->>-run: {_safe(', '.join([f'{call.seconds:.1f} s', *used_in_words(call.usage)[1:]]))}"


def _safe(text: str) -> str:
    """Keep a text from ending its line, or from being taken for Mermaid's own words."""
    line = " ".join(text.split())
    line = line if len(line) <= _LABEL_LENGTH else f"{line[: _LABEL_LENGTH - 1]}…"
    return "".join(f"#{ord(letter)};" if letter in "#;%<>" else letter for letter in line)
