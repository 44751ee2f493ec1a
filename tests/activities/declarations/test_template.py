"""Prompt templates: what placeholders may say, and how values are written for a model to read."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from activities.declarations.template import as_text, check, render
from activities.errors import ArgumentInvalid, DeclarationError


class Author(BaseModel):
    name: str

    @property
    def initials(self) -> str:
        return self.name[:1]


class Module(BaseModel):
    path: str
    author: Author | None = None


@dataclass
class Theme:
    name: str


class Options(TypedDict):
    depth: int


HINTS = {"module": Module, "maybe": Module | None, "theme": Theme, "options": Options, "anything": Any}


def problem(template: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        check("Coder.write", template, HINTS, HINTS)
    return str(caught.value)


def test_text_stands_as_it_is_and_none_as_a_word() -> None:
    assert render("Review {path}: {notes}", {"path": "a.py", "notes": None}) == "Review a.py: none"


def test_anything_else_stands_as_indented_json() -> None:
    assert render("{module}", {"module": Module(path="ä.py")}) == '{\n  "path": "ä.py",\n  "author": null\n}'
    assert render("{days}", {"days": [date(2024, 2, 29)]}) == '[\n  "2024-02-29"\n]'


def test_a_field_of_a_model_a_dataclass_or_a_dict_can_be_named() -> None:
    arguments = {
        "module": Module(path="a.py", author=Author(name="Ada")),
        "theme": Theme("sea"),
        "options": {"depth": 2},
    }

    text = render("{module.path} {module.author.name} {module.author.initials} {theme.name} {options.depth}", arguments)

    assert text == "a.py Ada A sea 2"


def test_a_field_of_none_is_none() -> None:
    assert render("{module.author.name}", {"module": Module(path="a.py")}) == "none"


def test_doubled_braces_are_braces() -> None:
    assert render('{{"path": "{path}"}}', {"path": "a.py"}) == '{"path": "a.py"}'


@given(st.text())
def test_braces_in_a_value_are_left_alone(value: str) -> None:
    assert render("<{value}>", {"value": value}) == f"<{value}>"


def test_a_value_is_written_with_its_aliases() -> None:
    class Aliased(BaseModel):
        kind: str = Field(alias="class")

    assert as_text(Aliased(**{"class": "x"})) == '{\n  "class": "x"\n}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("inf"), "Infinity"),
        ([float("nan"), None], "[\n  NaN,\n  null\n]"),
        (b"text", '"text"'),
        ({(1, 2): {3}}, '{\n  "1,2": [\n    3\n  ]\n}'),
    ],
    ids=str,
)
def test_a_value_that_json_does_not_have_is_written_nevertheless(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_bytes_that_are_no_text_are_refused_by_the_placeholders_name() -> None:
    with pytest.raises(ArgumentInvalid, match=r"'picture' can't be written into the prompt: .*invalid utf-8"):
        render("Describe {picture}", {"picture": [b"\xff"]})


def test_a_value_that_is_no_data_is_written_as_python_writes_it() -> None:
    class Note:
        def __str__(self) -> str:
            return "a note"

    assert as_text({"note": Note()}) == '{\n  "note": "a note"\n}'


@pytest.mark.parametrize(
    "template",
    [
        "{module} {module.path} {module.author.name} {module.author.initials}",
        "{maybe.path} {theme.name} {options.depth} {anything.whatever}",
        "{{neither}} {{module.nofield}}",
        "no placeholder at all",
    ],
)
def test_placeholders_that_name_a_parameter_or_its_field_are_fine(template: str) -> None:
    check("Coder.write", template, HINTS, HINTS)


@pytest.mark.parametrize("placeholder", ["nobody", "nobody.path", "", "0", "module[0]", '"json"'])
def test_a_placeholder_that_names_no_parameter_is_an_error(placeholder: str) -> None:
    message = problem(f"Write {{{placeholder}}}")

    assert message.startswith(f"Coder.write: the placeholder '{{{placeholder}}}' names no parameter")
    assert "(there are: module, maybe, theme, options, anything)" in message
    assert "correct the name, or write '{{' and '}}' for braces that are meant" in message


@pytest.mark.parametrize(
    ("placeholder", "owner", "fields"),
    [
        ("module.nofield", "Module", "path, author"),
        ("maybe.nofield", "Module", "path, author"),
        ("module.author.nofield", "Author", "name"),
        ("theme.nofield", "Theme", "name"),
        ("options.nofield", "Options", "depth"),
    ],
)
def test_a_placeholder_that_names_no_field_is_an_error(placeholder: str, owner: str, fields: str) -> None:
    assert problem(f"Write {{{placeholder}}}") == (
        f"Coder.write: the placeholder '{{{placeholder}}}': {owner} has no field 'nofield' "
        f"(it has: {fields}); correct the name"
    )


@pytest.mark.parametrize("template", ["Write {module", "Write module}", "Write {", '{"a": {module}'])
def test_unbalanced_braces_are_an_error(template: str) -> None:
    message = problem(template)

    assert message.startswith("Coder.write: ")
    assert "for a brace that is meant" in message or "for braces that are meant" in message


@pytest.mark.parametrize("placeholder", ["{module!r}", "{module:>10}"])
def test_a_placeholder_that_formats_is_an_error(placeholder: str) -> None:
    assert problem(placeholder) == (
        "Coder.write: the placeholder '{module}' can't be formatted further; write the name alone"
    )
