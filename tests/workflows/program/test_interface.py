"""What crosses on a real server: arguments, results, inputs and answers arrive as they were, or are refused by name."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from activities import Agent, prompt, task, tool
from activities.declarations.person import Person
from tests.conftest import Runs
from tests.provider import Provider, Text
from tests.workflows.histories import failure_of, message_of, refusal_of
from workflows import choreography, continue_with
from workflows.errors import ChoreographyInvalid, InputInvalid

pytestmark = pytest.mark.usefixtures("served")


class Passed(BaseModel):
    reason: str


class Failed(BaseModel):
    reason: str


class Sized(BaseModel):
    size: int = Field(validation_alias="size_in", serialization_alias="size_out")


class SizedByDefault(BaseModel):
    size: int = Field(default=1, validation_alias="size_in", serialization_alias="size_out")


class Detailed(Passed):
    detail: int


class Scored(BaseModel):
    score: float | None


class Right(BaseModel):
    verdict: Literal["right"] = "right"
    reason: str


class Wrong(BaseModel):
    verdict: Literal["wrong"] = "wrong"
    reason: str


class Picture(BaseModel):
    data: bytes


class Binary(Picture):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@dataclass
class Notes:
    seen: list[str] = field(default_factory=list)


class Envoy(Agent):
    """You carry things."""

    state: Notes = Notes()

    @task
    def note(self, word: str) -> list[str]:
        """Keep a word."""
        self.state.seen.append(word)
        return self.state.seen

    @task(retries=0)
    def forget(self, word: str) -> None:
        """Set something that would be lost."""
        self.seen = word

    @task(retries=0)
    def judge(self, reason: str) -> Passed | Failed:
        """Return one of two classes that look alike."""
        return Failed(reason=reason)

    @task
    def tell_apart(self, reason: str) -> Annotated[Right | Wrong, Field(discriminator="verdict")]:
        """Return one of two classes that differ in a field."""
        return Wrong(reason=reason)

    @task
    def measure(self, sized: Sized, other: SizedByDefault) -> tuple[Sized, SizedByDefault]:
        """Return what was given."""
        return sized, other

    @task(retries=0)
    def score(self, score: float) -> Scored:
        """Return a number in a model."""
        return Scored(score=score)

    @task
    def scores(self, scores: dict[str, float | None]) -> dict[str, float | None]:
        """Return numbers."""
        return scores

    @task
    def limited(self, limit: int = Field(default=5, le=10)) -> int:
        """Return the limit."""
        return limit

    @tool
    def look(self, limit: int = Field(default=5, le=10)) -> int:
        """Return the limit."""
        return limit

    @task
    def draw(self, picture: bytes, binary: Binary) -> bytes:
        """Return a picture twice."""
        return picture + binary.data

    @task
    def show(self, picture: Picture) -> int:
        """Return a picture's size."""
        return len(picture.data)

    @task
    def pass_on(self, passed: Passed) -> Passed:
        """Return it."""
        return passed

    @task
    def anything(self, it: Any) -> Any:
        """Return it."""
        return it

    @prompt
    async def size(self) -> SizedByDefault:
        """Say the size."""

    @prompt
    async def use(self) -> str:
        """Use the tool."""


@choreography
async def carry(what: str, envoy: Envoy) -> Any:
    """Have something carried, and tell what arrived."""
    programs: dict[str, Callable[[], Any]] = {
        "alike": lambda: envoy.judge("no"),
        "apart": lambda: envoy.tell_apart("no"),
        "aliases": lambda: envoy.measure(
            Sized.model_validate({"size_in": 5}), SizedByDefault.model_validate({"size_in": 6})
        ),
        "score": lambda: envoy.score(1.5),
        "infinity": lambda: envoy.score(math.inf),
        "nan": lambda: envoy.score(math.nan),
        "scores": lambda: envoy.scores({"a": math.inf, "b": None, "c": math.nan}),
        "limit": lambda: envoy.limited(),
        "tool": lambda: envoy.look(),
        "over": lambda: envoy.limited(11),
        "bytes": lambda: envoy.draw(b"\xff\x00", Binary(data=b"\xfe")),
        "picture": lambda: envoy.show(Picture(data=b"\xff")),
        "subclass": lambda: envoy.pass_on(Detailed(reason="no", detail=1)),
        "set": lambda: envoy.anything({"a": {1}}),
        "keys": lambda: envoy.anything({1: "a"}),
        "secret": lambda: envoy.anything(SecretStr("a")),
        "surrogate": lambda: envoy.anything("\ud800"),
        "forget": lambda: envoy.forget("a"),
        "size": lambda: envoy.size(),
    }
    return repr(await programs[what]())


@pytest.mark.parametrize(
    ("what", "arrived"),
    [
        ("apart", "Wrong(verdict='wrong', reason='no')"),
        ("aliases", "(Sized(size=5), SizedByDefault(size=6))"),
        ("score", "Scored(score=1.5)"),
        ("scores", "{'a': inf, 'b': None, 'c': nan}"),
        ("limit", "5"),
        ("tool", "5"),
        ("bytes", r"b'\xff\x00\xfe'"),
    ],
)
async def test_what_a_call_carries_arrives_as_it_was(runs: Runs, what: str, arrived: str) -> None:
    assert await runs.execute(carry, what) == arrived


@pytest.mark.parametrize(
    ("what", "kind", "problem"),
    [
        (
            "alike",
            "CallFailed",
            "ResultInvalid: Envoy.judge returned what would not arrive as it is: Failed(reason='no')",
        ),
        ("infinity", "CallFailed", "Envoy.score returned what would not arrive as it is: 'score': float inf"),
        ("nan", "CallFailed", "'score': float nan would arrive as None; JSON has no such number"),
        ("over", "ArgumentInvalid", "Envoy.limited: 'limit': Input should be less than or equal to 10"),
        ("picture", "ArgumentInvalid", "Envoy.show: 'picture.data': bytes that are no text can't be written"),
        (
            "subclass",
            "ArgumentInvalid",
            "Envoy.pass_on: 'passed': Detailed(reason='no', detail=1) would arrive as Passed",
        ),
        ("set", "ArgumentInvalid", "Envoy.anything: 'it.a': set {1} would arrive as list [1]"),
        ("keys", "ArgumentInvalid", "Envoy.anything: 'it': dict {1: 'a'} would arrive as dict {'1': 'a'}; the key 1"),
        ("secret", "ArgumentInvalid", "Envoy.anything: 'it': SecretStr"),
        ("surrogate", "ArgumentInvalid", "Envoy.anything: 'it': text with half a character"),
        ("forget", "CallFailed", "DeclarationError: Envoy.seen is set in a call"),
    ],
)
async def test_what_would_not_arrive_as_it_is_fails_where_it_was_to_be_sent(
    runs: Runs, what: str, kind: str, problem: str
) -> None:
    failure = await failure_of(await runs.start(carry, what))
    assert failure.type == kind
    assert problem in failure.message
    assert "same code" not in failure.message
    assert "versions" not in failure.message


async def test_an_answer_whose_field_has_two_aliases_is_kept(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Text('{"size_in": 7}'))
    assert await runs.execute(carry, "size") == "SizedByDefault(size=7)"


@choreography
async def take_notes(words: list[str], envoy: Envoy) -> list[str]:
    """Keep words in several calls; return what is kept at last."""
    kept: list[str] = []
    for word in words:
        kept = await envoy.note(word)
    return kept


async def test_a_dataclass_as_state_is_kept_from_call_to_call_and_shared_with_no_other_run(runs: Runs) -> None:
    assert await runs.execute(take_notes, ["a", "b"]) == ["a", "b"]
    assert await runs.execute(take_notes, ["c"]) == ["c"]


# Results and inputs

SIZED = SizedByDefault()
WORDS: Any = Field(default_factory=list)


@choreography
async def give(what: str, envoy: Envoy) -> int:
    """Return something, of the declared type or not."""
    if what == "call":
        return envoy.limited()  # type: ignore[return-value]
    given: dict[str, Any] = {"text": "text", "digits": "7", "none": None, "fraction": 1.5}
    return given[what]  # type: ignore[no-any-return]


@choreography
async def give_passed(what: str, envoy: Envoy) -> list[Passed | Failed]:
    """Return models, of the declared type or not."""
    given: dict[str, Any] = {
        "right": [Passed(reason="a")],
        "subclass": [Passed(reason="a"), Detailed(reason="b", detail=1)],
        "alike": [Failed(reason="a")],
        "other": [Scored(score=1.0)],
    }
    return given[what]  # type: ignore[no-any-return]


@choreography
async def give_nothing(envoy: Envoy) -> None:
    """Return what is not declared."""
    return 1  # type: ignore[return-value]


@choreography
async def give_anything(what: str, envoy: Envoy):  # type: ignore[no-untyped-def]
    """Return what nobody declared."""
    return envoy.limited() if what == "call" else {"model": [Passed(reason="a")], "tuple": (1, 2)}[what]


@pytest.mark.parametrize(
    ("program", "inputs", "problem"),
    [
        (give, ["text"], "give: the result is something else than is declared: Input should be a valid integer"),
        (give, ["call"], "never awaited"),
        (give, ["none"], "the result is something else than is declared"),
        (give, ["fraction"], "the result is something else than is declared"),
        (give_passed, ["subclass"], "the result would not arrive as it is: '1': Detailed"),
        (
            give_passed,
            ["alike"],
            "the result would not arrive as it is: '0': Failed(reason='a') would arrive as Passed",
        ),
        (give_passed, ["other"], "the result is something else than is declared: '0."),
        (give_nothing, [], "the result is something else than is declared: Input should be None"),
        (give_anything, ["call"], "never awaited"),
    ],
)
async def test_a_result_that_is_not_of_its_declared_type_fails_the_run(
    runs: Runs, program: Any, inputs: list[Any], problem: str
) -> None:
    failure = await failure_of(await runs.start(program, *inputs))
    assert problem in failure.message


@pytest.mark.parametrize(
    ("program", "inputs", "result"),
    [
        (give, ["digits"], 7),
        (give_passed, ["right"], [{"reason": "a"}]),
        (give_anything, ["model"], [{"reason": "a"}]),
        (give_anything, ["tuple"], [1, 2]),
    ],
)
async def test_a_result_of_its_declared_type_is_given(runs: Runs, program: Any, inputs: list[Any], result: Any) -> None:
    assert await runs.execute(program, *inputs) == result


@choreography
async def tell(
    envoy: Envoy,
    scores: dict[str, float | None],
    sized: SizedByDefault = SIZED,
    limit: int = Field(default=5, le=10),
    words: list[str] = WORDS,
) -> str:
    """Tell the inputs as they arrive."""
    words.append("told")
    return f"{scores}, {sized!r}, {limit}, {words}"


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([{"a": 1.5, "b": None}], "{'a': 1.5, 'b': None}, SizedByDefault(size=1), 5, ['told']"),
        ([{}, {"size_in": 3}, 10, ["a"]], "{}, SizedByDefault(size=3), 10, ['a', 'told']"),
        ([{"a": "NaN"}, {"size": 3}], "{'a': nan}, SizedByDefault(size=3), 5, ['told']"),
    ],
)
async def test_inputs_arrive_by_alias_and_by_name_and_with_bounds(runs: Runs, inputs: list[Any], told: str) -> None:
    assert await runs.execute(tell, *inputs) == told


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([{"a": math.nan}], "the input 'scores' holds NaN or an infinity, which JSON does not have"),
        (
            [RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b'{"a": 1e999}'))],
            "the input 'scores' holds NaN",
        ),
        ([{}, {"size_in": 1}, 11], "the input 'limit' does not fit: Input should be less than or equal to 10"),
        ([{}, {"size_in": 1}, 1, [math.inf]], "the input 'words' holds NaN or an infinity"),
    ],
)
async def test_an_input_that_json_does_not_have_is_refused_by_its_name(
    runs: Runs, inputs: list[Any], problem: str
) -> None:
    assert problem in await message_of(await runs.start(tell, *inputs))


async def test_a_choreography_in_ones_own_process_gets_the_values_of_its_defaults() -> None:
    for _ in range(2):
        assert await tell(Envoy(), {}) == "{}, SizedByDefault(size=1), 5, ['told']"


@choreography
async def go_on(envoy: Envoy, sized: SizedByDefault, score: float, what: str = "") -> str:
    """Begin afresh with other inputs, once."""
    if what:
        return f"{sized!r}, {score}"
    return continue_with(SizedByDefault.model_validate({"size_in": 7}), score=-math.inf, what="told")


@choreography
async def go_on_wrongly(what: str, envoy: Envoy, passed: Passed | None = None) -> str:
    """Begin afresh with what would not arrive."""
    given: dict[str, Any] = {"subclass": Detailed(reason="a", detail=1), "text": "a"}
    return continue_with("", given[what])


async def test_a_run_begins_afresh_with_the_inputs_that_it_was_told(runs: Runs) -> None:
    assert await runs.execute(go_on, {"size_in": 1}, 1.5) == "SizedByDefault(size=7), -inf"


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("subclass", "continue_with: 'passed' would not arrive as it is: Detailed"),
        ("text", "continue_with: 'passed' does not fit: "),
    ],
)
async def test_inputs_to_begin_afresh_with_that_would_not_arrive_are_refused(
    runs: Runs, what: str, problem: str
) -> None:
    failure = await failure_of(await runs.start(go_on_wrongly, what))
    assert failure.type == InputInvalid.__name__
    assert problem in failure.message


# Declarations


async def with_secret(envoy: Envoy, token: SecretStr) -> None: ...
async def with_pairs(envoy: Envoy, pairs: dict[tuple[int, int], str]) -> None: ...
async def giving_a_secret(envoy: Envoy) -> dict[str, SecretStr]: ...
async def giving_a_stream(envoy: Envoy) -> AsyncIterator[int]: ...
async def giving_code(envoy: Envoy) -> Callable[[], int]: ...
async def giving_an_agent(envoy: Envoy) -> Envoy: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (with_secret, r"the input 'token' can't be given as JSON: it \(SecretStr\) is a secret"),
        (with_pairs, "the input 'pairs' can't be given as JSON: it .* has keys that are no text"),
        (giving_a_secret, r"the result can't be given as JSON: it \(SecretStr\) is a secret"),
        (giving_a_stream, "the result can't be given as JSON: it .* is read once"),
        (giving_code, "the result can't be given as JSON: it .* is code"),
        (giving_an_agent, r"the result can't be given as JSON: it \(Envoy\)"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_choreography_whose_values_can_not_cross_is_refused_when_it_is_declared(function: Any, problem: str) -> None:
    with pytest.raises(ChoreographyInvalid, match=problem):
        choreography(function)


# People


class Owner(Person):
    """Who pays."""

    @prompt
    async def estimate(self, sizes: dict[str, float], picture: bytes = b"") -> SizedByDefault:
        """How large is it? {sizes}"""

    @prompt(deadline=0.05, default=SizedByDefault.model_validate({"size_in": 8}))
    async def guess(self) -> SizedByDefault:
        """How large may it be?"""


@choreography
async def ask_owner(what: str, owner: Owner) -> str:
    """Ask a person."""
    if what == "estimate":
        return repr(await owner.estimate({"a": math.inf}, b"\xff"))
    return repr(await owner.guess())


async def answer(runs: Runs, text: Any, *inputs: Any) -> Any:
    run = await runs.start(ask_owner, *inputs)
    while not (questions := await run.query("questions")):
        pass
    return run, await run.execute_update("answer", {"question": questions[0]["id"], "answer": text})


@pytest.mark.parametrize("text", [{"size_in": 7}, {"size": 7}], ids=str)
async def test_a_persons_answer_arrives_as_it_was_given(runs: Runs, text: Any) -> None:
    run, _ = await answer(runs, text, "estimate")
    assert await run.result() == "SizedByDefault(size=7)"


async def test_an_answer_that_does_not_fit_is_refused_by_its_field(runs: Runs) -> None:
    run = await runs.start(ask_owner, "estimate")
    while not (questions := await run.query("questions")):
        pass
    refused = await refusal_of(run, "answer", {"question": questions[0]["id"], "answer": {"size_in": "x"}})
    assert "does not fit: 'size_in': Input should be a valid integer" in refused


async def test_the_answer_for_the_deadline_arrives_as_it_is(runs: Runs) -> None:
    assert await runs.execute(ask_owner, "guess") == "SizedByDefault(size=8)"
