from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from activities import Agent, tool
from activities.contract.envelope import Approval
from activities.declarations.agent import tools_of
from console.board.forms import Form, NotFilledIn
from workflows.people.changing import Changeable


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


# Arguments of a tool that is to be approved


class Press(Agent):
    @tool(approve=True)
    def print_out(
        self,
        title: str,
        copies: int = 1,
        paper: Literal["white", "grey"] = "white",
        places: list[Place] | None = None,
        text: str = "",
    ) -> str:
        """Print."""
        return title


MADE = {"title": "Roses\n<b>", "places": [{"street": "x"}], "text": "cut"}


def form() -> Form:
    changeable = Changeable(tools_of(Press)["print_out"], lambda: json.dumps(MADE), 10_000)
    return Form.of(changeable.schema(), MADE, ["text"])


def sent(**changed: str) -> dict[str, str]:
    """Return what a browser sends of a form in which something was changed."""
    fields = {one.name: one.value.replace("\n", "\r\n") for one in form().changes}
    return {**fields, "answer.approve": "true", **{f"answer.arguments.{name}": text for name, text in changed.items()}}


def test_arguments_are_in_the_form_as_they_are_and_sent_only_where_they_are_changed() -> None:
    fields = {one.label: one for one in form().changes}
    assert {name: (one.kind, one.value) for name, one in fields.items()} == {
        "title": ("long", "Roses\n<b>"),
        "copies": ("number", "1"),
        "paper": ("choice", '"white"'),
        "places": ("json", '[\n  {\n    "street": "x"\n  }\n]'),
        "text": ("long", ""),
    }
    assert fields["text"].cut
    assert form().answer(sent()) == {"approve": True}
    assert form().answer(sent(title="Li\r\nlies", copies="2"))["arguments"] == {"title": "Li\nlies", "copies": 2}
    assert form().answer(sent(paper='"grey"', text="all anew"))["arguments"] == {"paper": "grey", "text": "all anew"}
    assert form().answer(sent(title="", copies="", places=""))["arguments"] == {
        "title": "",
        "copies": 1,
        "places": None,
    }
    assert form().answer({**sent(title="Lilies"), "answer.approve": "false"}) == {"approve": False}


def test_each_argument_that_does_not_fit_is_named() -> None:
    with pytest.raises(NotFilledIn) as wrong:
        form().answer(sent(copies="many", places="[", title="Lilies"))
    assert set(wrong.value.places) == {"answer.arguments.copies", "answer.arguments.places"}


def test_a_tool_that_the_run_does_not_know_is_approved_as_it_is() -> None:
    assert Form.of(Changeable(None, str, 10_000).schema(), MADE).changes == ()
