"""What both wings agree on: how usage adds up, how texts are cut, and how problems are told."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, field_validator

from activities.contract.limits import MESSAGE_LIMIT
from activities.contract.text import clip, explain
from activities.contract.usage import Usage


def test_usage_adds_up() -> None:
    one = Usage(models=["a"], model_calls=1, prompt_tokens=10, completion_tokens=5, cost_usd=0.5)
    two = Usage(models=["b", "a"], model_calls=2, prompt_tokens=1, completion_tokens=2, cost_usd=0.25)

    assert one + two == Usage(models=["a", "b"], model_calls=3, prompt_tokens=11, completion_tokens=7, cost_usd=0.75)


def test_a_cost_that_is_unknown_in_part_is_unknown() -> None:
    assert (Usage(cost_usd=0.5) + Usage(cost_usd=None)).cost_usd is None
    assert (Usage(cost_usd=None) + Usage(cost_usd=0.5)).cost_usd is None


def test_no_usage_changes_nothing() -> None:
    used = Usage(models=["a"], model_calls=1, prompt_tokens=10, completion_tokens=5, cost_usd=0.5)

    assert Usage() + used == used


@given(st.text(), st.integers(400, 1000))
def test_a_cut_text_keeps_within_its_limit(text: str, limit: int) -> None:
    long = text * 1000

    assert len(clip(long, limit)) <= limit


@given(st.text(max_size=200))
def test_a_short_text_is_not_cut(text: str) -> None:
    assert clip(text, 200) == text


def test_a_cut_text_shows_its_head_its_tail_and_how_much_is_missing() -> None:
    text = clip("head" + "x" * 10_000 + "tail")

    assert text.startswith("head")
    assert text.endswith("tail")
    assert len(text) <= MESSAGE_LIMIT
    kept = len(text.replace(" … ", "").split("[")[0]) + len(text.split("]")[1].replace(" … ", ""))
    assert f"[{10_008 - kept} characters cut]" in text


class Inner(BaseModel):
    points: list[int]


class Review(BaseModel):
    verdict: Literal["PASS", "NEEDS_FIXES"]
    inner: Inner | None = None

    @field_validator("verdict")
    @classmethod
    def _not_today(cls, verdict: str) -> str:
        if verdict == "PASS":
            raise ValueError("nothing passes today")
        return verdict


def error_of(data: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Review.model_validate(data)
    return caught.value


def test_a_problem_is_told_by_its_place() -> None:
    error = error_of({"verdict": "MAYBE", "inner": {"points": [1, "two"]}})

    assert explain(error) == (
        "'verdict': Input should be 'PASS' or 'NEEDS_FIXES'; "
        "'inner.points.1': Input should be a valid integer, unable to parse string as an integer"
    )


def test_a_validators_own_words_are_told_as_they_are() -> None:
    assert explain(error_of({"verdict": "PASS"})) == "'verdict': nothing passes today"


def test_leading_parts_of_a_place_can_be_left_out() -> None:
    error = error_of({"verdict": "NEEDS_FIXES", "inner": {"points": ["two"]}})

    assert explain(error, skip=("inner", "points")).startswith("'0': ")


def test_a_problem_with_the_whole_has_no_place() -> None:
    assert explain(error_of(3)).startswith("Input should be a valid dictionary")
