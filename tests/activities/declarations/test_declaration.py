"""What an agent class may be: what would be lost or shared between calls, or never used, is refused at once."""

from __future__ import annotations

import abc
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from activities import Agent, prompt, task, tool
from activities.answering.toolbox import tool_schema
from activities.declarations.agent import check_served, methods_of, of_a_call
from activities.declarations.person import Person
from activities.errors import ArgumentInvalid, DeclarationError
from activities.workspace.workspace import Workspace
from workflows import choreography


class Login(BaseModel):
    password: SecretStr


class Loose(BaseModel):
    items: list[str] = []


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    items: tuple[str, ...] = ()


def declared(**namespace: Any) -> type[Agent]:
    return type("Coder", (Agent,), {"__module__": __name__, **namespace})


def with_dsn(self: Any, dsn: str, *, timeout: int) -> None: ...
def with_defaults(self: Any, dsn: str = "", *more: Any, **others: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("name", "alice", r"^Coder\.name is not yours to set: .* @choreography\(coder=\['alice'\]\)"),
        ("name", property(lambda self: "alice"), r"^Coder\.name is not yours to set"),
        ("call", None, r"^Coder\.call is not yours to set"),
        ("workspace", Workspace(Path("a")), r"^Coder\.workspace is not yours to set: .*write a property"),
        ("transcript", [], r"^Coder\.transcript is not yours to set"),
        ("__init__", with_dsn, r"^Coder\.__init__ needs dsn, timeout, but the harness makes .* as Coder\(\)"),
        ("seen", [], r"^Coder\.seen would be shared by all calls of all runs in a process.*`state: Notes = Notes\(\)`"),
        ("_seen", {}, r"^Coder\._seen would be shared"),
        ("seen", {1}, r"^Coder\.seen would be shared"),
        ("seen", Loose(), r"^Coder\.seen would be shared"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_an_attribute_that_would_be_shared_or_overrides_the_harness_is_refused(
    name: str, value: Any, problem: str
) -> None:
    with pytest.raises(DeclarationError, match=problem):
        declared(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "openai/any"),
        ("parameters", {"top_p": 0.5}),
        ("COMMANDS", ["a"]),
        ("seen", ("a",)),
        ("seen", frozenset("a")),
        ("seen", Frozen()),
        ("workspace", property(lambda self: Workspace("a"))),
        ("__init__", with_defaults),
        ("helper", staticmethod(len)),
        ("Inner", Loose),
        ("cached", functools.cached_property(lambda self: [])),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_other_attributes_are_an_authors_own(name: str, value: Any) -> None:
    assert declared(**{name: value})


def test_what_is_meant_to_be_shared_is_said_to_be() -> None:
    class Coder(Agent):
        cache: ClassVar[dict[str, int]] = {}

    assert Coder.cache == {}


def test_a_mixin_that_is_no_agent_is_looked_at_as_well() -> None:
    class Seeing:
        seen: list[str] = []  # noqa: RUF012

    with pytest.raises(DeclarationError, match=r"^Coder\.seen would be shared"):

        class Coder(Seeing, Agent):
            pass


def hidden_by_static() -> object:
    class Coder(Agent):
        @staticmethod
        @tool
        def count(self: Any) -> int:
            """Count."""
            return 1

    return Coder


def hidden_by_class() -> object:
    class Coder(Agent):
        @classmethod
        @task
        def count(self: Any) -> int:  # noqa: N804
            return 1

    return Coder


def hidden_by_property() -> object:
    class Coder(Agent):
        @property
        @task
        def count(self) -> int:
            return 1

    return Coder


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


def hidden_by_another() -> object:
    class Coder(Agent):
        @logged
        @tool
        def count(self) -> int:
            """Count."""
            return 1

    return Coder


def above_static() -> object:
    class Coder(Agent):
        @tool
        @staticmethod
        def count(word: str) -> int:
            """Count."""
            return 1

    return Coder


def above_class() -> object:
    class Coder(Agent):
        @task
        @classmethod
        def count(cls) -> int:
            return 1

    return Coder


def without_self() -> object:
    class Coder(Agent):
        @task
        def count(word) -> int:  # noqa: N805
            return 1

    return Coder


def free() -> object:
    @prompt
    async def judge(poem: str) -> str:
        """Judge {poem}."""

    return judge


def free_without_parameters() -> object:
    def publish() -> None: ...

    return task(publish)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (hidden_by_static, r"^Coder\.count: @staticmethod hides the tool; write @tool alone"),
        (hidden_by_class, r"^Coder\.count: @classmethod hides the task"),
        (hidden_by_property, r"^Coder\.count: @property hides the task"),
        (hidden_by_another, r"^Coder\.count: @function hides the tool"),
        (above_static, "^@tool above @staticmethod: a tool is a method of an agent; write it with self"),
        (above_class, "^@task above @classmethod"),
        (without_self, r"Coder\.count: a task is a method of an agent: .* with self as its first parameter"),
        (free, r"judge: a prompt is a method of an agent: write it in a class, `class Coder\(Agent\):`"),
        (free_without_parameters, "publish: a task is a method of an agent"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_method_that_would_never_be_one_is_refused(declare: Callable[[], object], problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        declare()


def test_an_agent_that_is_a_dataclass_is_refused_where_it_is_first_used() -> None:
    @dataclass
    class Coder(Agent):
        seen: list[str] = field(default_factory=list)

        @task
        def see(self) -> None: ...

    async def see(coder: Coder) -> None: ...

    see.__annotations__["coder"] = Coder
    for use in (Coder, lambda: choreography(see), lambda: check_served(Coder)):
        with pytest.raises(
            DeclarationError, match=r"Coder is a dataclass: its fields are gone .* Leave @dataclass out"
        ):
            use()


def test_an_abstract_agent_is_not_served() -> None:
    class Base(Agent, abc.ABC):
        @abc.abstractmethod
        def language(self) -> str: ...

        @task
        def speak(self) -> str:
            return self.language()

    class Coder(Base):
        def language(self) -> str:
            return "Python"

    check_served(Coder)
    with pytest.raises(DeclarationError, match="Base is abstract: write language, or serve the classes made from it"):
        check_served(Base)


# What is set on an agent


class Setting(Agent):
    state: int = 0

    def __init__(self) -> None:
        super().__init__("setting", model="openai/any")
        self.own = 1
        self.limit = 3

    @property
    def limit(self) -> int:
        return int(vars(self)["limit_"])

    @limit.setter
    def limit(self, limit: int) -> None:
        vars(self)["limit_"] = limit

    @functools.cached_property
    def client(self) -> list[str]:
        return []

    @task
    def see(self) -> None:
        self.seen = "a"


def test_what_is_set_in_a_call_and_would_be_lost_is_refused() -> None:
    made: Any = of_a_call(Setting())
    with pytest.raises(
        DeclarationError, match=r"^Setting\.seen is set in a call, .*`state: Notes = Notes\(\)`, or use"
    ):
        made.see()
    for name in ("seen", "_seen", "own"):
        with pytest.raises(DeclarationError, match=rf"^Setting\.{name} is set in a call"):
            setattr(made, name, 1)


def test_state_settings_and_properties_may_be_set_in_a_call() -> None:
    made: Any = of_a_call(Setting())
    made.state += 1
    made.temperature = 0.5
    made.model = "openai/other"
    made.limit = 4
    made.client.append("a")
    assert (made.state, made.temperature, made.model, made.limit, made.client) == (1, 0.5, "openai/other", 4, ["a"])


def test_an_agent_in_ones_own_process_keeps_what_is_set_on_it() -> None:
    made: Any = Setting()
    made.see()
    made.name = "alice"
    assert (made.seen, made.own, made.name, made.model) == ("a", 1, "alice", "openai/any")


# Types


class Reader(Protocol):
    def read(self) -> str: ...


def takes(hint: Any, returns: Any = None) -> Any:
    async def work(self: Any, it: Any) -> Any: ...

    work.__annotations__ = {"it": hint, "return": returns}
    return task(work)


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        (
            takes(Login),
            r"^Coder\.work: the argument 'it\.password' \(SecretStr\) is a secret: .* in the method that uses",
        ),
        (takes(int, SecretStr), r"^Coder\.work: its result \(SecretStr\) is a secret"),
        (takes(int, list[Login]), r"^Coder\.work: its result 'password' \(SecretStr\) is a secret"),
        (takes(int, dict[tuple[int, int], str]), r"^Coder\.work: its result .* has keys that are no text in JSON"),
        (takes(int, Reader), r"^Coder\.work: its result \(Reader\) .* is no data"),
        (takes(int, AsyncIterator[int]), r"^Coder\.work: its result \(AsyncIterator\[int\]\) is read once"),
        (takes(Callable[[], int]), r"^Coder\.work: the argument 'it' .* is code"),
        (takes(Agent), r"^Coder\.work: the argument 'it' \(Agent\) can't be written as JSON"),
    ],
    ids=lambda part: str(part)[:50],
)
def test_types_whose_values_can_not_cross_are_refused_when_the_class_is_defined(method: Any, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        declared(work=method)


def test_a_persons_types_are_looked_at_as_well() -> None:
    with pytest.raises(DeclarationError, match=r"^Owner\.log_in: its result 'password' \(SecretStr\) is a secret"):

        class Owner(Person):
            @prompt
            async def log_in(self) -> Login:
                """Log in."""


class Passed(BaseModel):
    reason: str


class Failed(BaseModel):
    reason: str


class Refused(BaseModel):
    kind: Literal["refused"] = "refused"
    reason: str


def test_an_answer_that_could_never_be_of_a_class_is_refused() -> None:
    async def judge(self: Any) -> Any:
        """Judge."""

    for hint in (Passed | Failed, list[Failed | Passed | None]):
        judge.__annotations__["return"] = hint
        with pytest.raises(DeclarationError, match=r"^Coder\.judge: an answer is never a .*discriminator='kind'"):
            declared(judge=prompt(judge))
    judge.__annotations__["return"] = Passed | Refused
    assert declared(judge=prompt(judge))


def test_a_method_that_yields_is_refused() -> None:
    def numbers(self: Any) -> Iterator[int]:
        yield 1

    async def words(self: Any) -> Any:
        yield "a"

    for method in (numbers, words):
        with pytest.raises(
            DeclarationError, match="a task returns one result, and this one yields; collect that in a list"
        ):
            declared(**{method.__name__: task(method)})


class Missing(Agent):
    @task
    async def publish(self, poem: Poem) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Publish it."""


def test_a_type_that_only_type_checkers_know_is_refused_before_a_worker_serves() -> None:
    with pytest.raises(DeclarationError, match=r"Missing\.publish: name 'Poem' is not defined; .* TYPE_CHECKING"):
        check_served(Missing)


# What models are told


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x" * 78, r"names of at most 64 letters, .* has 78"),
        ("größe", "names of at most 64 letters, digits and underscores"),
    ],
    ids=["long", "not ASCII"],
)
def test_a_tool_whose_name_no_provider_takes_is_refused(name: str, problem: str) -> None:
    def work(self: Any) -> None:
        """Work."""

    work.__name__ = name
    with pytest.raises(DeclarationError, match=problem):
        declared(**{name: tool(work)})


def test_a_prompts_answer_has_a_name_that_providers_take() -> None:
    async def ask(self: Any) -> int:
        """Ask."""

    ask.__name__ = "ä" * 70
    assert vars(declared(**{ask.__name__: prompt(ask)}))[ask.__name__].answer.name == "_" * 64


@pytest.mark.parametrize(
    "docstring",
    ["Args:\n    word: What to count.", "Returns:\n    A number.", ":param word: What to count."],
    ids=["Args", "Returns", ":param"],
)
def test_a_tool_that_is_described_by_sections_only_is_refused(docstring: str) -> None:
    def count(self: Any, word: str) -> int:
        return 1

    count.__doc__ = docstring
    with pytest.raises(DeclarationError, match="begins with a section; write before it what the tool does"):
        declared(count=tool(count))


@pytest.mark.parametrize("docstring", ["Returns the number of words.", "Notes a word.", "Args are counted."])
def test_a_description_may_begin_with_any_word(docstring: str) -> None:
    def count(self: Any, word: str) -> int:
        return 1

    count.__doc__ = docstring
    assert declared(count=tool(count))


# Defaults with bounds


MARKS: Any = Field(default_factory=list)


class Searcher(Agent):
    @task
    def find(self, word: str, limit: int = Field(default=5, le=10), marks: list[str] = MARKS) -> str:
        """Find."""
        marks.append("found")
        return f"{word} {limit} {marks}"

    @tool
    async def look(self, limit: int = Field(5, ge=1, le=10, description="How many")) -> int:
        """Look."""
        return limit

    @prompt
    async def ask(self, limit: int = Field(default=5, le=10)) -> str:
        """Ask {limit} times."""

    @task
    async def must(self, limit: int = Field(le=10)) -> int:
        """Need a limit."""
        return limit


def test_a_default_with_bounds_is_its_value_in_this_process() -> None:
    for _ in range(2):  # a list is made anew each time
        assert Searcher().find("a") == "a 5 ['found']"  # type: ignore[comparison-overlap]
    assert Searcher().find("a", limit=10) == "a 10 ['found']"  # type: ignore[comparison-overlap]


async def test_bounds_hold_in_this_process() -> None:
    assert await Searcher().look() == 5
    assert await Searcher().must(3) == 3
    with pytest.raises(ArgumentInvalid, match=r"Searcher\.look: 'limit': Input should be less than or equal to 10"):
        await Searcher().look(11)
    with pytest.raises(ArgumentInvalid, match="'limit': Input should be greater than or equal to 1"):
        await Searcher().look(limit=0)
    with pytest.raises(ArgumentInvalid, match="missing a required argument: 'limit'"):
        await Searcher().must()


def test_a_default_with_bounds_is_told_to_people_and_models() -> None:
    assert Searcher.ask.bind((), {}) == {"limit": 5}
    assert str(Searcher.look.signature).startswith("(limit: ")
    assert str(Searcher.look.signature).endswith(" = 5) -> 'int'")
    parameters = tool_schema("look", methods_of(Searcher)["look"])["function"]["parameters"]
    assert parameters["properties"]["limit"]["maximum"] == 10
    assert parameters["properties"]["limit"]["description"] == "How many"
    assert "required" not in parameters


def test_a_parameter_without_a_default_after_one_with_is_refused() -> None:
    def find(self: Any, word: str = "", limit: int = Field(le=10)) -> None: ...

    with pytest.raises(DeclarationError, match="non-default argument follows default argument; order the parameters"):
        declared(find=task(find))
