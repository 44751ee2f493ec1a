"""Shares of a purse; what runs and their shards make of them is tested with budgets and with sharding."""

from __future__ import annotations

import pytest

from tests.workflows.steering.test_budget import NOON, make_call, purse, used
from workflows.steering.shares import Shares


def test_a_part_gets_a_share_of_what_is_left_and_what_its_calls_cost() -> None:
    whole = purse(usd=1.0, hours=3.0)
    part = Shares(whole).allot("part", 0.5, NOON)
    assert part.limits == {"usd": pytest.approx(0.45), "hours": 3.0}
    assert part.methods["write"].usd == 0.1
    assert Shares(whole).allot("other", 1.0, NOON).limits["usd"] == pytest.approx(0.45)
    assert not whole.has_room("write", NOON)


def test_what_a_part_did_not_spend_is_free_again_when_it_has_ended() -> None:
    whole = purse(usd=1.0)
    part = Shares(whole).allot("part", 1.0, NOON)
    make_call(part, used(0.2))
    Shares(whole).report("part", part, NOON)
    assert not whole.has_room("write", NOON)
    Shares(whole).end("part", NOON)
    assert whole.spent["usd"] == pytest.approx(0.3)
    assert whole.has_room("write", NOON)


def test_a_part_that_has_spent_its_share_gets_more_as_long_as_there_is_some() -> None:
    whole = purse(usd=1.0)
    Shares(whole).allot("part", 0.5, NOON)
    more = Shares(whole).allot_more("part", "write", NOON)
    assert more is not None
    assert more["usd"] == pytest.approx(0.9)
    assert Shares(whole).allot_more("part", "write", NOON) is None


def test_what_is_too_little_for_several_parts_is_given_to_one() -> None:
    whole = purse(usd=0.45)
    for part in ("one", "two"):
        Shares(whole).allot(part, 0.0, NOON)
    given = [Shares(whole).allot_more(part, "write", NOON) for part in ("one", "two", "one")]
    assert [limits and round(limits["usd"], 3) for limits in given] == [0.175, 0.1, None]


def test_a_warning_counts_what_parts_have_spent() -> None:
    whole = purse(usd=1.0)
    part = Shares(whole).allot("part", 1.0, NOON)
    make_call(part, used(0.75))
    assert Shares(whole).report("part", part, NOON) == ["budget: 0.85 of 1.00 USD spent"]
