"""What the engine says of a run whose program was changed since, in words: step, expected and found.

Such a run waits: its workflow task fails and is tried again, until a worker serves the version that it was started
with. It can't tell of it itself, as a run that can't be replayed answers no query.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from activities.contract.identity import CallId, step_of
from activities.contract.names import SHARD
from activities.contract.text import clip

CHANGED = "its program was changed: "
"""How it is told that a run's program is not what it was."""

HOW_TO_GO_ON = (
    "Serve the version that it was started with, and it goes on. If nobody changed it, it depends on the clock, on "
    "chance, or on the order of a set."
)

_NONDETERMINISM = "[TMPRL1100] Nondeterminism error: "
_WORDS = 500

_OTHER_ID = re.compile(
    r"(?:id|type) of scheduled event '(?P<expected>.*?)' "
    r"does not match .* command '(?P<found>.*)'"
)
_OTHER_KIND = re.compile(
    r"(?P<machine>[A-Z][\w ]*?) ?[Mm]achine does not handle (?:this event: )?"
    r"HistoryEvent\(id: (?P<event>\d+), (?P<kind>\w+)"
)
_NOTHING = re.compile(r"No command scheduled for event HistoryEvent\(id: (?P<event>\d+), (?P<kind>\w+)")

_FAILS = "a program that fails (a worker's log says how)"

_FOUND = {
    "Activity": "a call",
    "ModifyWorkflowProperties": "a question to a person",
    "Timer": "a wait for some time",
    "Child workflow": "a part of a large scatter",
    "Complete workflow": "the program's end",
    "Fail workflow": _FAILS,
    "Cancel workflow": "a program that is cancelled",
    "Continue as new workflow": "a program that continues as new",
}


def is_change(failure: str) -> bool:
    """Whether a workflow task failed because a run's program is not what it was."""
    return failure.startswith((CHANGED, _NONDETERMINISM))


def change_in_words(failure: str, events: Sequence[HistoryEvent] = (), ends: Any = None) -> str:
    """Say where a program differs from the one that a run was started with.

    Args:
        failure: What the failed workflow task says.
        events: The run's history, if it is at hand.
        ends: The failure with which the program ends now, if it does, and if it is at hand.
    """
    if failure.startswith(CHANGED):
        return failure
    # Where a worker hears of it, the engine's own words are around it.
    where, expected, found = _compared(failure.rpartition(_NONDETERMINISM)[2].partition('", source: ')[0], events)
    if found is _FAILS and ends is not None:
        found = f"{found.partition(' (')[0]}: {clip(ends.message, _WORDS)}"
    return f"{CHANGED}{where} expected {expected}, found {found}. {HOW_TO_GO_ON}"


def _compared(said: str, events: Sequence[HistoryEvent]) -> tuple[str, str, str]:
    if match := _OTHER_ID.search(said):
        event = next((e for e in events if match["expected"] in _ids(e)), None)
        expected, found = CallId.read(match["expected"]), CallId.read(match["found"])
        if event is not None:
            return _where(events, event), _expected(event), _other_call(expected, found)
        if expected is not None:
            return f"step {expected.step}", f"{expected.method} by {expected.instance}", _other_call(expected, found)
    if match := _OTHER_KIND.search(said) or _NOTHING.search(said):
        event = next((e for e in events if e.event_id == int(match["event"])), None)
        machine = match.groupdict().get("machine")
        does = _FOUND.get(machine, f"something else ({machine})") if machine else "a program that waits for less"
        if event is not None:
            return _where(events, event), _expected(event), does
        return f"event {match['event']} of its history", match["kind"], does
    return "the engine", "what its history holds", clip(said, _WORDS)


def _ids(event: HistoryEvent) -> tuple[str, str]:
    child = event.start_child_workflow_execution_initiated_event_attributes
    return event.activity_task_scheduled_event_attributes.activity_id, child.workflow_id


def _step(event: HistoryEvent) -> str:
    """Return the step that an event begins; empty if it begins none."""
    call, child = _ids(event)
    is_shard = event.start_child_workflow_execution_initiated_event_attributes.workflow_type.name == SHARD
    return step_of(call) if call else child.rpartition("/")[2].rpartition("-")[0] if is_shard else ""


def _where(events: Sequence[HistoryEvent], event: HistoryEvent) -> str:
    if step := _step(event):
        return f"step {step}"
    before = [step for e in events if e.event_id < event.event_id and (step := _step(e))]
    return f"after step {before[-1]}" if before else "at its beginning"


def _expected(event: HistoryEvent) -> str:
    """Say what the history has."""
    if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        summary = event.user_metadata.summary.data.decode(errors="replace").strip('"')
        instance, _, item = summary.partition(" · ")
        return f"{event.activity_task_scheduled_event_attributes.activity_type.name} by {instance} ({item})"
    if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
        seconds = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds()
        return f"a wait for {seconds:g} s"
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
        return "a question to a person"
    if _step(event):
        return event.user_metadata.summary.data.decode(errors="replace").strip('"')
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower().replace("_", " ")


def _other_call(expected: CallId | None, found: CallId | None) -> str:
    """Say what call the program makes instead of the expected one."""
    if found is None or expected is None:  # shards
        return "other calls or arguments"
    here = "" if found.step == expected.step else f" at step {found.step}"
    same = here == "" and found[1:3] == expected[1:3]
    return f"{found.method} by {found.instance}{here}{' with other arguments' if same else ''}"
