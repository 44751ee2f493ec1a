"""What is heard of a call: each piece once, whoever asks and however often."""

from __future__ import annotations

import pytest

from activities.border.context import CallContext
from activities.calls import in_flight, received
from activities.calls.received import Received
from activities.contract.words import Asked, Saying, SoFar
from activities.memory.transcript import Entry
from activities.models.hearing import Delta

CALL = CallContext("textkit", "run", "coder-1", "Coder.implement", "2")


class Call:
    """A call in flight, and somebody who listens to it."""

    def __init__(self, attempt: str = "a", *entries: Entry) -> None:
        self.received = Received()
        self.entries: list[Entry] = list(entries)
        self.received.begin(CALL, "c", attempt, 1.0, lambda: self.entries)
        self.known = SoFar()

    def say(self, *texts: str, begins: bool = False) -> None:
        for number, text in enumerate(texts):
            self.received.hear(Delta("text", text, begins=begins and not number))

    def said(self, *texts: str) -> None:
        self.entries += [{"role": "assistant", "content": text} for text in texts]
        self.received.forget()

    def told(self) -> Saying | None:
        told = self.received.saying(self.known)
        if told is not None:
            start = told.start if told.words else self.known.characters
            self.known = SoFar(
                attempt=told.attempt,
                entries=told.number + len(told.entries),
                answer=told.answer,
                characters=start + sum(len(one.text) for one in told.words),
                state=told.state,
            )
        return told

    def words(self) -> str:
        told = self.told()
        return "".join(one.text for one in told.words) if told else ""


def test_each_word_is_told_once_and_nothing_where_there_is_nothing_new() -> None:
    call = Call()
    call.say("It ", "rained ")
    assert call.words() == "It rained "
    assert call.told() is None
    call.say("all ")
    call.say("day.")
    assert call.words() == "all day."


def test_what_is_whole_is_told_once_with_what_is_coming_after_it() -> None:
    call = Call("a", {"role": "user", "content": "How was it?"})
    call.say("It rained.")
    call.told()
    call.said("It rained.")
    call.say("And ")
    told = call.told()
    assert told is not None
    assert [entry["content"] for entry in told.entries] == ["It rained."]
    assert (told.number, told.answer, [one.text for one in told.words]) == (1, 2, ["And "])


def test_what_is_not_recorded_yet_is_not_told_beside_its_own_words() -> None:
    call = Call()
    call.say("It rained.")
    call.entries.append({"role": "assistant", "content": "It rained."})
    told = call.told()
    assert told is not None
    assert (told.entries, told.words[0].text) == ([], "It rained.")


def test_an_answer_that_broke_off_is_told_anew() -> None:
    call = Call()
    call.say("It ra", begins=True)
    assert call.words() == "It ra"
    call.say("It ", "rained.", begins=True)
    told = call.told()
    assert told is not None
    assert (told.answer, told.start, told.words[0].text) == (2, 0, "It rained.")


def test_another_attempt_begins_with_what_stands() -> None:
    call = Call("b", {"role": "user", "content": "How?"}, {"role": "assistant", "content": "First."})
    call.say("Sec")
    call.known = SoFar(attempt="a", entries=2, answer=2, characters=3)
    told = call.told()
    assert told is not None
    assert (told.attempt, told.resumed, told.number, told.start) == ("b", 2, 0, 0)


def test_the_beginning_of_a_long_answer_is_left_out() -> None:
    call = Call()
    for number in range(4_000):
        call.received.hear(Delta("tool", f"{number:099} ", "write" if number % 1_000 == 0 else ""))
    told = call.told()
    assert told is not None
    text = "".join(one.text for one in told.words)
    assert text.endswith(f"{3_999:099} ")
    assert len(text) <= 2 * received.KEPT
    assert told.start + len(text) == 400_000
    call.received.hear(Delta("tool", "end"))
    assert call.words() == "end"


def test_no_part_of_a_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_TOKEN", "rain-or-shine-7")
    call, heard = Call(), ""
    for piece in ("it is ra", "in-or", "-shi", "ne-7, or ", "Bearer ab", "cdefgh12345", "6789012 and", " sk-", "x."):
        call.say(piece)
        heard += call.words()
        assert "rain" not in heard
        assert "cdefgh" not in heard
    call.said("all of it")
    assert heard == "it is [secret WEATHER_TOKEN], or Bearer [secret] and sk-x."[: len(heard)]
    assert heard.startswith("it is [secret WEATHER_TOKEN], or Bearer [secret] and")


def test_calls_are_asked_while_they_last_and_a_little_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    call, silent = Call(), Received()
    with in_flight.in_flight("textkit", call.received):
        call.say("It rained.")
        assert [one.step for one in in_flight.said_here(Asked(run="textkit"))] == ["2"]
        assert in_flight.said_here(Asked(run="another")) == []
    assert [one.state for one in in_flight.said_here(Asked(run="textkit"))] == ["ended"]
    monkeypatch.setattr(in_flight, "LINGERS_S", 0.0)
    assert in_flight.said_here(Asked(run="textkit")) == []
    with in_flight.in_flight("textkit", silent):
        pass
    assert "textkit" not in in_flight._calls
