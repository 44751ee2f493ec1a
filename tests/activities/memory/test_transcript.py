from __future__ import annotations

import json
import random
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.border.secrets import without_secrets
from activities.memory.transcript import (
    READ_OF_INNER_BYTES,
    SHOWN_OF_OLD_RESULTS,
    Entry,
    Transcript,
    compressed,
    decompressed,
    error,
    inner,
    readable,
    shift,
    shorten,
    shortened,
    summary,
)


def user(text: str) -> Entry:
    return {"role": "user", "content": text}


def turn(*calls: str, results: int = 20) -> list[Entry]:
    """Return an assistant's message with its tool calls, and their results."""
    asked = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls]
    message: Entry = {"role": "assistant", "content": "hm", **({"tool_calls": asked} if asked else {})}
    return [message, *({"role": "tool", "tool_call_id": call, "content": call * results} for call in calls)]


def unpaired(messages: list[dict[str, Any]]) -> set[str]:
    """Return the ids of tool calls without a result, and of results without their call before them."""
    open_calls: set[str] = set()
    lone: set[str] = set()
    for message in messages:
        open_calls |= {call["id"] for call in message.get("tool_calls") or ()}
        if message["role"] == "tool":
            if message["tool_call_id"] in open_calls:
                open_calls.remove(message["tool_call_id"])
            else:
                lone.add(message["tool_call_id"])
    return open_calls | lone


@st.composite
def talks(draw: st.DrawFn) -> Transcript:
    """Draw a conversation of several calls, compacted now and then as `compact` does it: at the start of a turn."""
    made = Transcript()
    ids = iter(range(10_000))
    for request in range(draw(st.integers(1, 5))):
        current = made.next
        made.add([user(f"request {request}")])
        for _ in range(draw(st.integers(1, 4))):
            size = draw(st.sampled_from([1, 200]))
            made.add(turn(*(f"c{next(ids)}-" for _ in range(draw(st.integers(0, 3)))), results=size))
            starts = [number for number, entry in made.numbered if entry.get("role") == "assistant"]
            match draw(st.sampled_from(["nothing", "nothing", "shorten", "summary"])):
                case "shorten":
                    made.add([shorten(draw(st.sampled_from(starts)))])
                case "summary":
                    tail = draw(st.sampled_from(starts))
                    first = made.first_request()
                    keep = [number for number in {first, current} if number is not None and number < tail]
                    made.add([summary(tail, keep, "what happened")])
                case _:
                    pass
    return made


@given(talks())
def test_no_model_is_ever_shown_half_of_a_tool_call(talk: Transcript) -> None:
    assert unpaired(talk.messages()) == set()


@given(talks())
def test_the_first_request_and_the_last_turn_are_always_shown_whole(talk: Transcript) -> None:
    shown = talk.messages()
    assert shown[0] == user("request 0")
    last = [entry for _, entry in talk.numbered if entry.get("role") == "assistant"][-1]
    assert last in shown


@given(talks())
def test_dropping_what_is_no_longer_shown_changes_nothing_that_is(talk: Transcript) -> None:
    assert talk.live().messages() == talk.messages()
    assert talk.live().next == talk.next


@given(talks())
def test_a_packed_transcript_is_the_same_unpacked(talk: Transcript) -> None:
    again = Transcript.unpack(talk.pack())
    assert (again.numbered, again.next) == (talk.numbered, talk.next)


@given(talks(), st.integers(0, 50))
def test_entries_moved_to_another_place_are_shown_the_same(talk: Transcript, by: int) -> None:
    entries = shift([entry for _, entry in talk.numbered], 0, by)
    moved = Transcript([], by)
    moved.add(entries)
    assert moved.messages() == talk.messages()


def test_old_tool_results_are_shown_with_head_and_tail() -> None:
    talk = Transcript()
    talk.add([user("go"), *turn("a", results=5_000), *turn("b", results=5_000), shorten(3)])
    old, new = (message["content"] for message in talk.messages() if message["role"] == "tool")
    assert len(old) < SHOWN_OF_OLD_RESULTS + 60
    assert "characters left out" in old
    assert new == "b" * 5_000


@given(st.text(), st.integers(3, 50))
def test_a_shortened_text_keeps_its_ends_and_says_how_much_is_missing(text: str, limit: int) -> None:
    short = shortened(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        head, tail = limit * 2 // 3, limit // 3
        assert short.startswith(text[:head])
        assert short.endswith(text[len(text) - tail :])
        assert str(len(text) - head - tail) in short


# What was said inside


def told(letters: int) -> Entry:
    """Return the note of a prompt that said much: in its request, in a tool call and its result, and deeper."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "a" * letters}}
    said: list[Entry] = [
        {"role": "user", "content": "u" * letters},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "t" * letters},
    ]
    return inner("Other.send", "c1", [*said, inner("Deeper.send", "", said), error("e" * letters)])


def test_what_was_said_inside_is_kept_whole_where_it_is_not_much() -> None:
    assert readable([told(100)]) == [told(100)]


@pytest.mark.parametrize(("notes", "letters"), [(5, 100_000), (200, 5_000), (5_000, 5_000)])
def test_however_much_was_said_inside_it_can_be_sent_with_the_call(notes: int, letters: int) -> None:
    kept = readable([told(letters)] * notes)
    assert 0 < len(json.dumps(kept)) <= READ_OF_INNER_BYTES


def test_much_that_was_said_inside_is_kept_in_short_with_who_said_it() -> None:
    [note, *_] = readable([told(100_000)] * 5)
    assert (note["note"], note["method"], note["tool_call"]) == ("inner", "Other.send", "c1")
    user, assistant, tool, deeper, why = note["entries"]
    assert "characters left out" in user["content"]
    assert assistant["tool_calls"][0]["function"]["name"] == "f"
    assert "characters left out" in assistant["tool_calls"][0]["function"]["arguments"]
    assert tool["tool_call_id"] == "c"
    assert deeper["method"] == "Deeper.send"
    assert "characters left out" in why["text"]


def test_no_note_of_what_was_said_inside_is_shown_to_a_model_or_carried_on() -> None:
    transcript = Transcript()
    transcript.add([{"role": "user", "content": "do"}, told(10), {"role": "assistant", "content": "done"}, error("x")])
    assert [message["content"] for message in transcript.messages()] == ["do", "done"]
    assert [entry["content"] for entry in transcript.live().entries()] == ["do", "done"]


def test_what_is_compressed_has_no_character_that_a_shape_of_a_key_needs() -> None:
    text = json.dumps("".join(random.Random(1).choices(string.printable, k=300_000)))
    packed = compressed(text)
    assert not set("A_-. ") & set(packed)
    assert without_secrets(packed) == packed
    assert decompressed(packed).decode() == text
