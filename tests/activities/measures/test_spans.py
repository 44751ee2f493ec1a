from __future__ import annotations

import pytest

from activities.contract.spans import Place, Span
from activities.measures.spans import call_is_over, is_traced, note, part, request, tracing

CALL = Place.of_run("march", "run-1").below("call", "1")


def test_a_place_is_the_same_wherever_it_is_looked_for() -> None:
    assert Place.read(CALL.write()) == CALL
    assert Place.in_headers(CALL.onto({})) == CALL
    assert CALL.below("turn", 1) == CALL.below("turn", 1) != CALL.below("turn", 2)
    assert CALL.below("turn", 1).trace == CALL.trace
    assert Place.of_run("march", "run-1") != Place.of_run("march", "run-2")


@pytest.mark.parametrize(
    "written", ["", "00-0-0-01", "01-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"]
)
def test_what_is_no_place_is_none(written: str) -> None:
    assert Place.read(written) is None


def test_nothing_is_told_where_nobody_wants_to_know() -> None:
    told: list[Span] = []
    with tracing(told.append, None), part("turn", 1), request("chat any"):
        note(any=1)
        assert not is_traced()
    assert told == []


def test_a_part_is_told_after_what_is_in_it_with_what_was_noted() -> None:
    told: list[Span] = []
    with tracing(told.append, CALL), part("turn", "turn", 1, choreography__turn=1):
        with request("chat any"):
            note(**{"gen_ai.usage.input_tokens": 5})
        note(last="word")
    [chat, turn] = told
    assert (chat.parent, turn.parent, turn.place) == (turn.place, CALL, CALL.below("turn", 1))
    assert chat.attributes == {"gen_ai.usage.input_tokens": 5}
    assert turn.attributes == {"choreography.turn": 1, "last": "word"}


@pytest.mark.parametrize("well", [True, False])
def test_a_part_that_an_error_has_ended_is_told_when_there_is_no_other_attempt(well: bool) -> None:
    told: list[Span] = []
    with tracing(told.append, CALL):
        with pytest.raises(KeyError), part("turn", "turn", 1):
            raise KeyError
        assert told == []
        call_is_over(well=well)
        call_is_over(well=well)
    [turn] = told
    assert turn.error == ("" if well else "KeyError")
