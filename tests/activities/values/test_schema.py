"""Types and signatures as JSON schema: what a model is told, and how its answer becomes the type again."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NotRequired, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from activities import Agent, prompt, tool
from activities.answering.toolbox import tool_schema
from activities.values.schema import AnswerSchema, Schema, description_of, example, strict


class Verdict(BaseModel):
    verdict: Literal["PASS", "NEEDS_FIXES"]
    feedback: str = ""


class Score(BaseModel):
    points: int


class Review(BaseModel):
    verdict: Verdict = Field(description="What was decided")
    scores: dict[str, int] = {}
    previous: Verdict | None = Field(None, description="The one before")


class Nested(BaseModel):
    verdict: Verdict = Field(description="What was decided")
    scores: list[Score] = Field(default_factory=list, max_length=3)
    previous: Verdict | None = Field(None, description="The one before")


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []


class Aliased(BaseModel):
    kind: str = Field(alias="class")


class Empty(BaseModel):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Awkward(BaseModel):
    """Field names that are words of JSON schema."""

    properties: str
    default: int
    format: list[str]
    required: Literal["type"]


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Answer(BaseModel):
    """A model that looks like the wrapper."""

    answer: str


@dataclass
class Point:
    x: int
    y: float = 0.0


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

TYPES: dict[str, tuple[Any, Any]] = {
    "str or None": (Optional[str], "text"),  # noqa: UP045
    "int": (int, 42),
    "float": (float, 0.5),
    "bool": (bool, True),
    "list of models": (list[Score], [Score(points=1), Score(points=2)]),
    "literal": (Literal["a", "b"], "b"),
    "union of models": (Verdict | Score, Score(points=3)),
    "discriminated union": (Pet, Dog(kind="dog")),
    "model": (Verdict, Verdict(verdict="PASS")),
    "nested model": (Nested, Nested(verdict=Verdict(verdict="PASS"), scores=[Score(points=1)], previous=None)),
    "recursive model": (Tree, Tree(name="a", children=[Tree(name="b")])),
    "model with aliases": (Aliased, Aliased(**{"class": "x"})),
    "model with awkward names": (Awkward, Awkward(properties="p", default=1, format=["f"], required="type")),
    "model without fields": (Empty, Empty()),
    "model like the wrapper": (Answer, Answer(answer="yes")),
    "dataclass": (Point, Point(1, 2.5)),
    "typed dict": (Options, {"depth": 1}),
    "datetime": (datetime, datetime(2024, 2, 29, 12, tzinfo=UTC)),
    "tuple": (tuple[int, str], (1, "a")),
    "dict": (dict[str, int], {"a": 1}),
    "dict of models": (dict[str, Score], {"a": Score(points=1)}),
    "list of anything": (list[Any], [1, "a", None]),
    "None": (None, None),
}
OPEN = {"tuple", "dict", "dict of models", "list of anything"}

every_type = pytest.mark.parametrize(("hint", "value"), TYPES.values(), ids=TYPES)


def as_json(answer: AnswerSchema, value: Any, *, wrapped: bool) -> str:
    data = json.loads(answer.adapter.dump_json(value, by_alias=True, round_trip=True))
    return json.dumps({"answer": data} if wrapped else data)


@every_type
def test_the_root_of_every_schema_is_an_object_with_named_properties(hint: Any, value: Any) -> None:
    schema = AnswerSchema(hint, "judge").schema

    assert schema["type"] == "object"
    assert "properties" in schema


@every_type
def test_every_reference_in_a_schema_leads_somewhere(hint: Any, value: Any) -> None:
    schema = AnswerSchema(hint, "judge").schema

    names = {node["$ref"].removeprefix("#/$defs/") for node in objects_in(schema) if "$ref" in node}

    assert names <= set(schema.get("$defs", {}))


@every_type
def test_an_answer_as_the_schema_asks_for_it_comes_back_as_its_type(hint: Any, value: Any) -> None:
    answer = AnswerSchema(hint, "judge")

    parsed = answer.parse(as_json(answer, value, wrapped=answer.wrapped))

    assert parsed == value
    assert type(parsed) is type(value)


@every_type
def test_an_answer_that_was_not_wrapped_is_taken_as_well(hint: Any, value: Any) -> None:
    answer = AnswerSchema(hint, "judge")

    assert answer.parse(as_json(answer, value, wrapped=False)) == value


def objects_in(node: Any) -> list[Schema]:
    """Return every JSON object within a schema."""
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return ([node] if isinstance(node, dict) else []) + [found for value in inside for found in objects_in(value)]


@pytest.mark.parametrize("name", [name for name in TYPES if name not in OPEN])
def test_a_strict_schema_closes_every_object_and_requires_every_property(name: str) -> None:
    schema = AnswerSchema(TYPES[name][0], "judge").strict_schema

    assert schema is not None
    objects = [node for node in objects_in(schema) if node.get("type") == "object"]
    assert objects
    for node in objects:
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])


@pytest.mark.parametrize("hint", [*(TYPES[name][0] for name in sorted(OPEN)), Open, Review, Any], ids=str)
def test_a_schema_with_something_open_in_it_has_no_strict_form(hint: Any) -> None:
    assert AnswerSchema(hint, "judge").strict_schema is None


def test_a_reference_stands_alone_in_a_strict_schema_and_keeps_its_description() -> None:
    schema = AnswerSchema(Nested, "judge").strict_schema

    assert schema is not None
    assert all(set(node) == {"$ref"} for node in objects_in(schema) if "$ref" in node)
    assert schema["properties"]["verdict"]["description"] == "What was decided"


def test_a_strict_schema_leaves_out_what_strict_modes_do_not_know() -> None:
    class Limited(BaseModel):
        at: datetime
        words: list[str] = Field(["a"], min_length=1, examples=[{}])
        pet: Pet

    schema = AnswerSchema(Limited, "judge").strict_schema

    assert schema is not None
    unknown = {"default", "examples", "format", "minItems", "oneOf", "discriminator"}
    assert not [node for node in objects_in(schema["properties"]) if unknown & set(node)]


def test_making_a_schema_strict_leaves_the_schema_itself_alone() -> None:
    schema = AnswerSchema(Nested, "judge").schema
    before = json.dumps(schema)

    strict(schema)

    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    "text",
    [
        '{"points": 3}',
        '\n {"points": 3}\n',
        '```json\n{"points": 3}\n```',
        '```\n{"points": 3}\n```',
        'Here it is:\n```json\n{"points": 3}\n```\nAnything else?',
    ],
    ids=["plain", "with space around", "fenced", "fenced without a language", "fenced between words"],
)
def test_json_is_found_in_the_text_around_it(text: str) -> None:
    assert AnswerSchema(Score, "judge").parse(text) == Score(points=3)


def test_a_fence_inside_an_answer_is_part_of_it() -> None:
    feedback = "Write:\n```json\n{}\n```\n"
    text = json.dumps({"verdict": "PASS", "feedback": feedback})

    assert AnswerSchema(Verdict, "judge").parse(text).feedback == feedback
    assert AnswerSchema(Verdict, "judge").parse(f"```json\n{text}\n```").feedback == feedback


@pytest.mark.parametrize("hint", [Verdict, list[Score], int], ids=["model", "list", "int"])
@pytest.mark.parametrize("text", ["", "no JSON", '{"answer": ', '{"answer": "no"}', "{}", "null"])
def test_what_does_not_fit_is_a_value_error(hint: Any, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        AnswerSchema(hint, "judge").parse(text)


def test_what_is_wrong_is_told_by_its_place_in_the_answer() -> None:
    with pytest.raises(ValidationError) as caught:
        AnswerSchema(list[Score], "judge").parse('{"answer": [{"points": 1}, {"points": "many"}]}')

    assert caught.value.errors()[0]["loc"] == ("answer", 1, "points")


def test_only_str_is_text_and_only_none_is_none() -> None:
    assert AnswerSchema(str, "judge").is_text
    assert AnswerSchema(None, "judge").is_none
    assert AnswerSchema(type(None), "judge").is_none
    assert not any(
        AnswerSchema(hint, "judge").is_text or AnswerSchema(hint, "judge").is_none for hint in (int, Verdict)
    )


texts = st.text(st.characters(codec="utf-8"))
verdicts = st.builds(Verdict, feedback=texts)
trees = st.recursive(
    st.builds(Tree, name=texts),
    lambda children: st.builds(Tree, name=texts, children=st.lists(children, max_size=3)),
    max_leaves=5,
)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "str or None": (str | None, st.none() | texts),
    "int": (int, st.integers(-(2**63), 2**63)),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (bool, st.booleans()),
    "list of models": (list[Verdict], st.lists(verdicts)),
    "literal": (Literal["a", "b"], st.sampled_from(["a", "b"])),
    "union of models": (Verdict | Score, verdicts | st.builds(Score)),
    "model": (Verdict, verdicts),
    "nested model": (Review, st.builds(Review)),
    "recursive model": (Tree, trees),
    "dataclass": (Point, st.builds(Point, y=st.floats(allow_nan=False, allow_infinity=False))),
    "typed dict": (Options, st.fixed_dictionaries({"depth": st.integers()}, optional={"label": texts})),
    "datetime": (datetime, st.datetimes(timezones=st.just(UTC))),
    "tuple": (tuple[int, str], st.tuples(st.integers(), texts)),
    "dict": (dict[str, int], st.dictionaries(texts, st.integers())),
}


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_survives_the_way_to_json_and_back(name: str, data: st.DataObject) -> None:
    hint, values = VALUES[name]
    value = data.draw(values)
    answer = AnswerSchema(hint, "judge")

    assert answer.parse(as_json(answer, value, wrapped=answer.wrapped)) == value


class Librarian(Agent):
    """You are a librarian."""

    @tool
    def search(
        self,
        query: str,
        kind: Annotated[str, Field(description="Novel or essay")],
        limit: int = 10,
        *,
        filters: dict[str, str] | None = None,
    ) -> list[str]:
        """Search the catalogue.

        Titles come first.

        Args:
            query: What to look for.
                It may be several words.
            kind: Said in two places; the annotation counts.
            limit: The most results.

        Returns:
            Titles.

        Raises:
            ValueError: The query is empty.
        """
        return [query, kind, *(filters or {})][:limit]

    @tool
    def export(self, json: bool, copy: int, schema: str, model_config: str = "") -> str:
        """Export the catalogue."""
        return f"{json} {copy} {schema} {model_config}"

    @tool
    def close(self) -> None:
        """Close the library."""

    @tool
    @prompt
    async def summarise(self, book: Tree) -> str:
        """Summarise {book}.

        Args:
            book: The book.
        """


def described(name: str) -> Schema:
    method = getattr(Librarian, name)
    function: Schema = tool_schema(name, method)["function"]
    return function


def test_a_tool_is_described_by_its_name_and_its_docstring_without_sections() -> None:
    assert described("search")["name"] == "search"
    assert described("search")["description"] == "Search the catalogue.\n\nTitles come first."


@pytest.mark.parametrize(
    ("docstring", "description"),
    [
        ("Run it.", "Run it."),
        ("Run it.\n\nArgs:\n    path: It.\n\n    more\n\nReturns:\n    Text.\n", "Run it."),
        ("Run it.\n\nArgs:\n    path: It.\n\nThen stop.", "Run it.\n\nThen stop."),
        ('Run it.\n\nExample:\n    run("a")\n\nArgs:\n    path: It.', 'Run it.\n\nExample:\n    run("a")'),
        ("Run it.\n\n:param path: It.", "Run it."),
        ("Run it.\n\nParameters\n----------\npath : str\n    It.", "Run it."),
    ],
    ids=["no section", "sections", "text after", "example", "reST", "numpy"],
)
def test_a_description_is_all_that_is_not_about_parameters_and_results(docstring: str, description: str) -> None:
    assert description_of(docstring) == description


def test_parameters_are_described_by_the_docstring_or_by_their_annotation() -> None:
    properties = described("search")["parameters"]["properties"]

    assert properties["query"]["description"] == "What to look for.\nIt may be several words."
    assert properties["kind"]["description"] == "Novel or essay"
    assert "description" not in properties["filters"]


def test_parameters_with_a_default_are_optional() -> None:
    assert described("search")["parameters"]["required"] == ["query", "kind"]


def test_a_tools_parameters_are_an_object_that_takes_no_others() -> None:
    parameters = described("close")["parameters"]

    assert parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_a_parameter_may_have_any_name() -> None:
    assert described("export")["parameters"]["required"] == ["json", "copy", "schema"]
    arguments = Librarian.export.arguments.validate_json(
        '{"json": true, "copy": 2, "schema": "s", "model_config": "m"}'
    )
    assert arguments == {"json": True, "copy": 2, "schema": "s", "model_config": "m"}


def test_a_prompt_that_is_offered_is_described_like_a_tool() -> None:
    assert described("summarise")["description"] == "Summarise {book}."
    assert described("summarise")["parameters"]["properties"]["book"]["description"] == "The book."
    assert "Tree" in described("summarise")["parameters"]["$defs"]


class Node(BaseModel):
    kind: Literal["leaf", "branch"]
    weight: float | None
    children: list["Node"]
    left: "Node"
    note: str = ""


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, "…"),
        (Literal["yes", "no"], "yes"),
        (list[int], []),
        (int | None, 1),
        (None, None),
        (Node, {"kind": "leaf", "weight": 1.0, "children": [], "left": None}),
    ],
    ids=str,
)
def test_an_example_has_what_a_schema_asks_for(hint: Any, expected: Any) -> None:
    assert example(TypeAdapter(hint).json_schema()) == expected
