from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.models.turns import Bucket, Turns


def had_of(turns: Turns[str], times: int, amount: float = 1.0) -> list[str]:
    """Let the next ones have something; return whose runs they are."""
    order = []
    for _ in range(times):
        turn = turns.next()
        assert turn is not None
        run, number, _ = turn
        turns.leave(run, number)
        turns.has(run, amount)
        order.append(run)
    return order


def test_runs_take_turns_however_long_their_lines_are() -> None:
    turns = Turns[str]()
    for number in range(100):
        turns.join("many", f"many {number}")
    for number in range(5):
        turns.join("few", f"few {number}")
    assert had_of(turns, 10).count("few") == 5


def test_a_run_has_its_share() -> None:
    turns = Turns[str]()
    for run in ("a", "b"):
        for number in range(100):
            turns.join(run, str(number))
    turns.weigh({"a": 300, "b": 100})
    assert had_of(turns, 40).count("a") == pytest.approx(30, abs=1)


def test_a_run_that_comes_later_does_not_catch_up() -> None:
    turns = Turns[str]()
    for number in range(100):
        turns.join("early", str(number))
    had_of(turns, 50)
    for number in range(100):
        turns.join("late", str(number))
    assert 9 <= had_of(turns, 20).count("early") <= 11


def test_within_a_run_the_first_who_came_is_the_first() -> None:
    turns = Turns[str]()
    numbers = [turns.join("a", who) for who in ("one", "two", "three")]
    turns.leave("a", numbers[1])
    assert [who for _, who in [(0, "one"), (0, "three")]] == list(turns.waiting()["a"])
    assert len(turns) == 2


@given(st.floats(0.1, 1000), st.lists(st.tuples(st.floats(0, 5), st.floats(0, 300)), max_size=40))
def test_a_bucket_gives_no_more_than_its_rate_and_little_at_once(rate: float, asked: list[tuple[float, float]]) -> None:
    bucket, now, taken, largest = Bucket(1.0), 0.0, 0.0, 0.0
    bucket.fill(now, rate)
    for pause, amount in asked:
        now += pause
        bucket.fill(now, rate)
        if bucket.seconds_until_some() == 0:
            bucket.take(amount)
            taken, largest = taken + amount, max(largest, amount)
        assert taken <= rate * now + bucket.size + largest + 1e-6


def test_a_bucket_says_when_there_is_enough() -> None:
    bucket = Bucket(1.0)
    bucket.fill(0.0, 2.0)
    bucket.take(1)
    assert bucket.seconds_until_some() == 0.5
    bucket.fill(0.5, 2.0)
    assert bucket.seconds_until_some() == 0
    bucket.fill(0.5, 0.0)
    bucket.take(1)
    assert bucket.seconds_until_some() == math.inf
    bucket.fill(1.0, None)
    assert bucket.seconds_until_some() == 0
