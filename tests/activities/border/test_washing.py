"""Whatever is said can be kept, sent and shown, and telling of a failure can't fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from activities.border.washing import name_of, said, stack_of, washed, washed_json, washed_tree, words_of
from activities.errors import AgentError
from activities.values.converter import CAUSES_TOLD, data_converter
from workflows.errors import tell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("café 😀", "café 😀"),
        ("a\ud800b", "a�b"),
        ("\udc00", "�"),
        ("end\ud83d", "end�"),
        ("\ud800\ud800", "��"),
        ("\ud83d\ude00", "😀"),
        ("\udc80\udcff from a file name", "�� from a file name"),
        ("a\0b", "a�b"),
    ],
)
def test_each_half_of_a_character_is_replaced_once(text: str, expected: str) -> None:
    assert washed(text) == expected


@given(st.text(st.characters(codec=None, categories=None)))
def test_any_washed_text_is_utf8_and_stays_as_it_is_when_washed_again(text: str) -> None:
    washed(text).encode()
    assert washed(washed(text)) == washed(text)
    assert "\0" not in washed(text)


def test_a_tree_is_washed_in_keys_and_values_and_is_never_too_deep_to_be_sent() -> None:
    assert washed_tree({"a\ud800": ["\udc00", 1, None, ("\0",)]}) == {"a�": ["�", 1, None, ["�"]]}
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    assert to_json(washed_tree(deep))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"a": "\ud800"}', {"a": "�"}),
        (r'{"a": "\uD83D\uDE00"}', {"a": "😀"}),
        (r'{"a": "\\ud800"}', {"a": r"\ud800"}),
        (r'{"a": "\u0000"}', {"a": "\0"}),
        ('{"a": "\ud800"}', {"a": "�"}),
    ],
)
def test_halves_in_json_are_replaced_where_they_are_escaped_too(text: str, expected: Any) -> None:
    assert json.loads(washed_json(text)) == expected


def test_json_that_is_none_is_left_to_whoever_reads_it() -> None:
    assert washed_json(r'{"a": "\ud800') == r'{"a": "\ud800'


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Empty(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Halting(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class Long(Exception):
    def __str__(self) -> str:
        return "x" * 10_000_000


class Text(str):
    def __len__(self) -> int:
        raise KeyError

    def __str__(self) -> str:
        return self


def circle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def chain(length: int) -> Exception:
    error = ValueError("the last")
    for number in range(length):
        outer = ValueError(f"number {number}")
        outer.__cause__ = error
        error = outer
    return error


def nested_groups() -> BaseException:
    error: Exception = ValueError("inmost")
    for _ in range(500):
        error = ExceptionGroup("group", [error])
    return error


ODD: dict[str, BaseException] = {
    "its words raise": Mute(),
    "its words are None": Empty(),
    "its words end the process": Halting(),
    "no words": ValueError(),
    "long": Long(),
    "half a character": ValueError("a\ud800b"),
    "a NUL": ValueError("a\0b"),
    "a text of its own class": ValueError(Text("x")),
    "bytes": ValueError(b"\xff"),
    "a long name": type("N" * 100_000, (Exception,), {})("said"),
    "a group": ExceptionGroup("group", [ValueError("one"), Mute()]),
    "a large group": ExceptionGroup("group", [ValueError(str(number)) for number in range(50_000)]),
    "nested groups": nested_groups(),
    "causes in a circle": circle(),
    "a long chain of causes": chain(5_000),
    "details that can't be written": ApplicationError("said", object(), "\ud800"),
    "a wait that is none": ApplicationError("said", next_retry_delay="soon"),  # type: ignore[arg-type]
    "a type that is no text": ApplicationError("said", type=7),  # type: ignore[arg-type]
    "one of ours that has none": type("Own", (AgentError,), {"__str__": Mute.__str__})(),
    "no exception": KeyboardInterrupt(),
    "a note with half a character": ValueError("said"),
}
ODD["a note with half a character"].add_note("\ud800")


@pytest.mark.parametrize("kind", ODD)
def test_an_error_is_told_however_odd_it_is(kind: str) -> None:
    error = ODD[kind]
    for text in (name_of(error), words_of(error), stack_of(error), tell(error)):
        text.encode()
        assert len(text) <= 25_000


@pytest.mark.parametrize("kind", ODD)
def test_a_failure_is_sent_however_odd_its_error_is(kind: str) -> None:
    failure = Failure()

    data_converter.failure_converter.to_failure(ODD[kind], data_converter.payload_converter, failure)

    sent = Failure.FromString(failure.SerializeToString())
    assert len(failure.SerializeToString()) < 200_000
    assert sent.application_failure_info.type or isinstance(ODD[kind], ApplicationError)
    causes = 0
    while sent.HasField("cause"):
        sent, causes = sent.cause, causes + 1
    assert causes <= CAUSES_TOLD


def test_a_groups_words_are_those_of_what_is_in_it() -> None:
    group = ExceptionGroup("two things", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])

    assert words_of(group) == "ValueError: one (no line); KeyError: 'two' (no line)"


def test_what_moves_a_terminals_cursor_is_not_shown() -> None:
    assert said("a\x1b[2Jb\nc\td") == "a�[2Jb\nc\td"
