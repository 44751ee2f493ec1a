from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from activities.contract.envelope import Approval
from console.board.forms import Form, NotFilledIn


class Place(BaseModel):
    street: str


class Plan(BaseModel):
    verdict: Literal["go", "stop"]
    pages: int
    price: float = 1.5
    note: str | None = Field(default=None, description="What to add")
    places: list[Place] = []
    home: Place | None = None


@pytest.mark.parametrize(
    ("kind", "filled", "answer"),
    [
        (str, "<b>yes</b>", "<b>yes</b>"),
        (str, '"quoted"', '"quoted"'),
        (bool, "true", True),
        (int, "3", 3),
        (float, "2.5", 2.5),
        (Literal["go", "stop"], '"go"', "go"),
        (int | None, "7", 7),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
    ],
)
def test_what_is_filled_in_is_the_answer_as_its_type(kind: Any, filled: str, answer: Any) -> None:
    assert Form.of(TypeAdapter(kind).json_schema()).answer({"answer": filled}) == answer


def test_an_object_has_a_field_for_each_part() -> None:
    form = Form.of(Plan.model_json_schema())
    assert {field.label: field.kind for field in form.fields} == {
        "verdict": "choice",
        "pages": "number",
        "price": "number",
        "note": "long",
        "places": "json",
        "home": "json",
    }
    filled = {"answer.verdict": '"go"', "answer.pages": "3", "answer.price": "", "answer.places": '[{"street": "x"}]'}
    assert Plan.model_validate(form.answer(filled)) == Plan(verdict="go", pages=3, places=[Place(street="x")])


def test_an_approval_takes_a_reason_or_none() -> None:
    form = Form.of(Approval.model_json_schema())
    assert form.answer({"answer.approve": "true", "answer.reason": ""}) == {"approve": True}
    assert form.answer({"answer.approve": "false", "answer.reason": "no"}) == {"approve": False, "reason": "no"}


@pytest.mark.parametrize(("kind", "filled"), [(int, "three"), (list[int], "1, 2"), (bool, "maybe"), (int, "")])
def test_what_does_not_fit_is_named(kind: Any, filled: str) -> None:
    with pytest.raises(NotFilledIn, match="'answer' wants"):
        Form.of(TypeAdapter(kind).json_schema()).answer({"answer": filled})


@pytest.mark.parametrize("schema", [{}, {"$ref": "#/$defs/Lost"}, {"anyOf": []}, {"$ref": "#/$defs/A", "$defs": {}}])
def test_a_schema_that_says_nothing_takes_json(schema: dict[str, Any]) -> None:
    assert Form.of(schema).answer({"answer": '{"x": [1]}'}) == {"x": [1]}
