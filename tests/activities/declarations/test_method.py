"""Agent methods: what is checked when one is declared, and how its arguments are bound and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from activities import Agent, prompt, task, tool
from activities.declarations.method import Method
from activities.errors import ArgumentInvalid, DeclarationError


class Poem(BaseModel):
    title: str
    lines: list[str] = []


@dataclass
class Theme:
    name: str


class Critic(Agent):
    """You are a critic."""

    @prompt
    async def judge(self, poem: Poem, theme: Theme, strictness: int = 3) -> str:
        """Judge {poem}."""

    @prompt
    async def compare(self, poem: "Poem", other: "Later") -> "Later":
        """Compare {poem} to {other.title}."""

    @tool
    def count(self, words: list[str], *, unique: bool = False) -> int:
        """Count words."""
        return len(set(words) if unique else words)


class Later(BaseModel):
    """A type that is defined after the agent which uses it."""

    title: str


def declaration_error(function: Callable[..., Any], decorator: Any = prompt) -> str:
    with pytest.raises(DeclarationError) as caught:
        type("Critic", (Agent,), {function.__name__: decorator(function)})
    return str(caught.value)


def test_a_prompt_without_a_docstring_is_an_error() -> None:
    async def judge(self: Any, poem: str) -> str: ...

    message = declaration_error(judge)

    assert message == "Critic.judge: a prompt needs a docstring: it is the text that the model is asked"


@pytest.mark.parametrize("number", [0, -1, float("nan"), float("inf"), "10", True])
@pytest.mark.parametrize("decorator", [prompt, task])
def test_a_number_of_calls_a_minute_that_is_none_is_refused(decorator: Any, number: Any) -> None:
    async def judge(self: Any, poem: str) -> str:
        """Judge {poem}."""

    message = declaration_error(judge, decorator(per_minute=number))

    assert message.startswith(
        f"Critic.judge: per_minute={number!r}: give the number of calls that may begin in a minute"
    )


def test_a_tool_without_a_docstring_is_an_error() -> None:
    def count(self: Any, words: str) -> int:
        return len(words)

    message = declaration_error(count, tool)

    assert message == "Critic.count: a tool needs a docstring: it is what tells the model when to call it"


def test_a_task_needs_no_docstring() -> None:
    class Author(Agent):
        @task
        def publish(self) -> None: ...

    assert Author.publish.docstring == ""


def test_a_prompt_without_a_return_annotation_is_an_error() -> None:
    async def judge(self, poem: str):  # type: ignore[no-untyped-def]
        """Judge {poem}."""

    assert declaration_error(judge) == (
        "Critic.judge: a prompt needs a return annotation: it is the schema of the answer; write '-> str' for text"
    )


def test_a_prompt_that_is_not_async_is_an_error() -> None:
    def judge(self: Any, poem: str) -> str:
        """Judge {poem}."""

    assert declaration_error(judge) == "Critic.judge: a prompt is awaited; write 'async def judge'"


def variadic(self: Any, *poems: str) -> None:
    """Count them."""


def variadic_by_name(self: Any, **poems: str) -> None:
    """Count them."""


def positional_only(self: Any, poem: str, /) -> None:
    """Count them."""


@pytest.mark.parametrize(
    ("function", "parameter"),
    [(variadic, "*poems"), (variadic_by_name, "**poems"), (positional_only, "poem")],
    ids=["*args", "**kwargs", "positional only"],
)
def test_a_parameter_without_a_single_name_and_type_is_an_error(function: Any, parameter: str) -> None:
    message = declaration_error(function, tool)

    assert message.startswith(f"Critic.{function.__name__}: the parameter '{parameter}")
    assert message.endswith("write plain parameters, or one list or dict")


async def returns_a_constant(self: Any, poem: str) -> str:
    """Judge {poem}."""
    return "good"


async def returns_a_number(self: Any, poem: str) -> int:
    """Judge {poem}."""
    return 1


async def returns_an_argument(self: Any, poem: str) -> str:
    """Judge {poem}."""
    return poem


async def assigns(self: Any, poem: str) -> str:  # type: ignore[return]
    """Judge {poem}."""
    text = 1  # noqa: F841


async def awaits_another(self: Any, poem: str) -> str:
    """Judge {poem}."""
    return str(await self.other(poem))


async def calls(self: Any, poem: str) -> str:  # type: ignore[return]
    """Judge {poem}."""
    print(poem)


async def loops(self: Any, poem: str) -> str:  # type: ignore[return]
    """Judge {poem}."""
    for _ in poem:
        pass


@pytest.mark.parametrize(
    "function",
    [returns_a_constant, returns_a_number, returns_an_argument, assigns, awaits_another, calls, loops],
    ids=lambda function: function.__name__,
)
def test_a_prompt_with_a_body_is_an_error(function: Callable[..., Any]) -> None:
    message = declaration_error(function)

    assert message.startswith(f"Critic.{function.__name__}: a prompt has no body but its docstring")
    assert "write a @task that awaits a prompt" in message


async def nothing(self: Any, poem: str) -> str:
    """Judge {poem}."""


async def dots(self: Any, poem: str) -> str:
    """Judge {poem}."""
    ...


async def raises(self: Any, poem: str) -> str:
    """Judge {poem}."""
    raise NotImplementedError


async def passes(self: Any, poem: str) -> None:
    """Judge {poem}."""
    pass


async def returns_nothing(self: Any, poem: str) -> None:
    """Judge {poem}."""
    return


@pytest.mark.parametrize(
    "function", [nothing, dots, raises, passes, returns_nothing], ids=lambda function: function.__name__
)
def test_a_body_that_does_nothing_is_none(function: Callable[..., Any]) -> None:
    type("Critic", (Agent,), {function.__name__: prompt(function)})


def test_an_error_in_an_inherited_declaration_names_the_class_that_is_defined() -> None:
    class Mixin:
        @prompt
        async def judge(self, poem: str) -> str:
            """Judge {poet}."""

    with pytest.raises(DeclarationError, match=r"^Strict\.judge: the placeholder '\{poet\}' names no parameter"):
        type("Strict", (Mixin, Agent), {})


def test_types_that_are_defined_further_down_are_found_when_they_are_needed() -> None:
    assert Critic.compare.returns is Later
    assert Critic.compare.hints["other"] is Later


def test_a_type_that_can_not_be_found_is_an_error_that_says_where_to_put_it() -> None:
    class Author(Agent):
        @task
        async def publish(self, poem: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
            """Publish it."""

    with pytest.raises(DeclarationError, match=r"Author\.publish: name 'Nowhere' is not defined; .* at its top level"):
        _ = Author.publish.hints


class Unknown:
    """A class that pydantic does not know."""


@pytest.mark.parametrize("returns", [Unknown, list[Callable[[], int]]], ids=["a class", "a function"])
def test_an_answer_that_can_not_be_written_as_json_is_an_error_that_says_what_can(returns: Any) -> None:
    async def write(self: Any) -> Any:
        """Write."""

    write.__annotations__["return"] = returns

    with pytest.raises(DeclarationError, match=r"write: its types can't be written as JSON.*use types that"):
        _ = prompt(write).answer


def test_arguments_are_bound_by_name_with_defaults_applied() -> None:
    poem, theme = Poem(title="a"), Theme("b")

    assert Critic.judge.bind((poem,), {"theme": theme}) == {"poem": poem, "theme": theme, "strictness": 3}


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        ((), {}, "missing a required argument: 'words'"),
        ((["a"], True), {}, "too many positional arguments"),
        ((["a"],), {"loud": True}, "got an unexpected keyword argument 'loud'"),
    ],
    ids=["missing", "too many", "unknown"],
)
def test_arguments_that_do_not_fit_the_signature_are_an_error_that_shows_it(
    args: tuple[Any, ...], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        Critic.count.bind(args, kwargs)

    assert str(caught.value) == f"Critic.count(words: list[str], *, unique: bool = False) -> int: {problem}"


def test_arguments_become_the_types_that_are_declared_for_them() -> None:
    checked = Critic.judge.check({"poem": {"title": "a"}, "theme": {"name": "b"}, "strictness": "4"})

    assert checked == {"poem": Poem(title="a"), "theme": Theme("b"), "strictness": 4}


def test_arguments_of_another_type_are_an_error_that_names_the_parameter() -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        Critic.judge.check({"poem": Poem(title="a"), "theme": Theme("b"), "strictness": "very"})

    assert str(caught.value).startswith("Critic.judge: 'strictness': Input should be a valid integer")


async def test_a_prompt_checks_its_arguments_before_a_model_is_asked() -> None:
    with pytest.raises(ArgumentInvalid, match=r"Critic\.judge: 'poem\.title': Field required"):
        await Critic().judge({}, Theme("b"))  # type: ignore[arg-type]


def test_the_request_message_carries_arguments_as_their_types() -> None:
    method: Method[..., Any] = Critic.judge
    data = method.request(
        instance="critic-1",
        step="1",
        workflow_id="poems",
        run_id="run",
        arguments={"poem": Poem(title="a"), "theme": Theme("b"), "strictness": 4},
    ).model_dump_json()

    decoded = method.request.model_validate_json(data)

    assert decoded.arguments == {"poem": Poem(title="a"), "theme": Theme("b"), "strictness": 4}


@pytest.mark.parametrize("value", [None, "text"])
def test_the_reply_message_tells_none_from_no_result(value: str | None) -> None:
    class Author(Agent):
        @prompt
        async def write(self) -> str | None:
            """Write."""

    data = Author.write.reply(value=value).model_dump_json()

    assert Author.write.reply.model_validate_json(data).value == value
    with pytest.raises(ValueError, match="Field required"):
        Author.write.reply.model_validate_json("{}")
