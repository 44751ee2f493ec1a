"""Values that cross: what arrives is what was sent, in types and contents, or an error says which part is not kept."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar, Union
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
)
from typing_extensions import TypedDict

from activities.values.declared import is_sure
from activities.values.values import NotKept, Outside, Values, enveloped

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Kind(enum.StrEnum):
    FAST = "fast"


class Passed(BaseModel):
    reason: str


class Failed(BaseModel):
    reason: str


class Failure(Passed):
    """A subclass with nothing new."""


class Detailed(Passed):
    detail: int = 0


class Good(BaseModel):
    verdict: Literal["good"] = "good"
    reason: str


class Bad(BaseModel):
    verdict: Literal["bad"] = "bad"
    reason: str


class Aliased(BaseModel):
    size: int = Field(validation_alias="size_in", serialization_alias="size_out")


class AliasedWithDefault(BaseModel):
    size: int = Field(default=1, validation_alias="size_in", serialization_alias="size_out")
    other: int = Field(default=2, validation_alias=AliasChoices("a", "b"))


class Crossed(BaseModel):
    """Each field has the other one's name in JSON."""

    a: int = Field(default=0, alias="b")
    b: int = Field(default=0, alias="a")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    when: datetime.datetime
    tags: tuple[str, ...] = ()
    id: uuid.UUID


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str


class Odd(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64", val_json_bytes="base64")

    score: float
    picture: bytes = b""


class Plain(BaseModel):
    score: float | None = None
    picture: bytes = b""


class Hidden(BaseModel):
    shown: int = 0
    hidden: int = Field(default=0, exclude=True)


class Rounding(BaseModel):
    amount: float

    @field_serializer("amount")
    def rounded(self, amount: float) -> float:
        return round(amount)


class Hurt(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def has_no_b(cls, name: str) -> str:
        return {"a": name}[name]


class Private(BaseModel):
    name: str
    _seen: int = PrivateAttr(default=0)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


class Computed(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2

    @cached_property
    def perimeter(self) -> int:
        return 4 * self.side


class Box(BaseModel, Generic[T]):
    value: T


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Word(RootModel[str]):
    pass


@dataclass
class Spot:
    x: int
    y: float = 0.0
    seen: list[str] = field(default_factory=list)


@dataclass
class Late:
    x: int
    y: int = field(init=False, default=0)


class Pair(NamedTuple):
    left: int
    right: str = ""


class Change(TypedDict):
    title: NotRequired[str | None]
    count: int


class Uncertain(TypedDict):
    whatever: Any


MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 1, 5)


def arriving(hint: Any, value: Any, carrier: Any = None) -> Any:
    values: Values[Any] = Values(hint, carrier) if carrier else Values(hint)
    return values.read(enveloped(values.write(values.check(value))))


KEPT: list[tuple[Any, Any]] = [
    (Aliased, Aliased.model_validate({"size_in": 5})),
    (AliasedWithDefault, AliasedWithDefault.model_validate({"size_in": 5, "b": 7})),
    (list[AliasedWithDefault], [AliasedWithDefault.model_validate({"size_in": 5})]),
    (Crossed, Crossed(a=1, b=2)),
    (Annotated[Good | Bad, Field(discriminator="verdict")], Bad(reason="no")),
    (Good | Bad, Bad(reason="no")),
    (Passed | Failed, Passed(reason="yes")),
    (int | str, "1"),
    (int | float, 1.0),
    (float, math.inf),
    (dict[str, float | None], {"a": -math.inf, "b": None, "c": 1.5}),
    (list[float], [math.inf, -0.0, 1e-320]),
    (Odd, Odd(score=-math.inf, picture=b"\xff\x00")),
    (Plain, Plain(score=None, picture=b"text")),
    (bytes, b"\xff\xfe"),
    (dict[str, bytes], {"a": bytes(range(256))}),
    (Strict, Strict(when=MOMENT, tags=("a",), id=uuid.UUID(int=7))),
    (Open, Open.model_validate({"name": "a", "more": {"b": [1, None]}})),
    (Hidden, Hidden(shown=3)),
    (Box[int], Box[int](value=3)),
    (Box[list[Spot]], Box[list[Spot]](value=[Spot(1)])),
    (Tree, Tree(name="a", children=[Tree(name="b", children=[Tree(name="c")])])),
    (Word, Word("word")),
    (Spot, Spot(1, 2)),
    (Pair, Pair(1, "b")),
    (list[Pair], [Pair(1)]),
    (Change, {"count": 1}),
    (Change, {"count": 1, "title": None}),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (dict[Kind, Color], {Kind.FAST: Color.RED}),
    (dict[int, str], {1: "a"}),
    (dict[datetime.date, int], {datetime.date(2024, 2, 29): 1}),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (datetime.datetime, MOMENT),
    (datetime.datetime, MOMENT.replace(tzinfo=datetime.UTC)),
    (datetime.datetime, MOMENT.replace(tzinfo=ZoneInfo("Europe/Berlin"))),
    (datetime.timedelta, datetime.timedelta(days=-1, microseconds=3)),
    (datetime.time, datetime.time(1, 2, 3, 4)),
    (uuid.UUID, uuid.UUID(int=3)),
    (Path, Path("a/b")),
    (HttpUrl, HttpUrl("http://a.b/c")),
    (complex, 1 + 2j),
    (set[str], {"a", "b"}),
    (frozenset[Level], frozenset({Level.LOW})),
    (tuple[int, str], (1, "a")),
    (deque[int], deque([1, 2])),
    (Any, {"a": [1, 2.5, None, True, {"b": "c"}]}),
    (object, [1]),
    (dict, {"a": 1}),
    (list, ["a"]),
    (int, 10**40),
    (str, "\x00 \u2028 😀"),
    (None, None),
]


def ids(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    """Name cases alike in every process."""
    return [
        f"{number} {str(hint).replace('tests.activities.values.test_values.', '')[:40]}"
        for number, (hint, *_) in enumerate(cases)
    ]


@pytest.mark.parametrize(("hint", "value"), KEPT, ids=ids(KEPT))
def test_a_value_arrives_as_it_was_sent(hint: Any, value: Any) -> None:
    arrived = arriving(hint, value)
    assert type(arrived) is type(value)
    assert arrived == value


@pytest.mark.parametrize("value", [math.nan, {"a": math.nan}, [math.nan, 1.0]], ids=repr)
def test_what_is_not_a_number_arrives_as_that(value: Any) -> None:
    assert repr(arriving(float | dict[str, float] | list[float], value)) == repr(value)


def test_a_private_attribute_that_nothing_is_kept_in_is_no_part_of_a_value() -> None:
    assert arriving(Private, Private(name="a")).name == "a"


def test_a_cached_property_is_no_part_of_a_value() -> None:
    computed = Computed(side=2)
    assert computed.perimeter == 8
    assert arriving(Computed, computed).side == 2


def test_where_a_type_leaves_the_container_open_another_one_may_arrive() -> None:
    assert arriving(Sequence[int], (1, 2)) == [1, 2]
    assert arriving(Mapping[str, Sequence[str]], OrderedDict(a=("b",))) == {"a": ["b"]}


@pytest.mark.parametrize(
    ("hint", "value", "text"),
    [
        (Any, [Passed(reason="a")], '[{"reason":"a"}]'),
        (dict[str, Any], {"a": (1, {2}), "b": Kind.FAST}, '{"a":[1,[2]],"b":"fast"}'),
        (Any, {1: MOMENT}, '{"1":"2024-02-29T12:30:01.000005"}'),
        (list[Any], [Spot(1)], '[{"x":1,"y":0.0,"seen":[]}]'),
        (Any, math.inf, '"Infinity"'),
        (list[Any], [ValueError("no luck")], '["no luck"]'),
    ],
    ids=str,
)
def test_who_has_only_the_json_of_a_value_gets_that_where_its_type_is_open(hint: Any, value: Any, text: str) -> None:
    values: Values[Any] = Values(hint, Outside, as_json=True)
    assert values.write(values.check(value)) == text


@pytest.mark.parametrize(
    ("hint", "value", "problem"),
    [
        (Passed | Failed, Failed(reason="a"), "would arrive as Passed"),
        (list[Passed], [Detailed(reason="a")], "would arrive as Passed"),
        (Plain, Plain(score=math.inf), "would arrive as None"),
        (Any, [SecretStr("a")], "read secrets"),
        (Any, len, "is no data"),
    ],
    ids=["union", "subclass", "infinity", "secret", "function"],
)
def test_who_has_only_the_json_of_a_value_loses_nothing_of_it(hint: Any, value: Any, problem: str) -> None:
    values: Values[Any] = Values(hint, Outside, as_json=True)
    with pytest.raises(NotKept, match=problem):
        values.write(values.check(value))


class Unknown:
    pass


def with_private() -> Private:
    made = Private(name="a")
    made._seen = 3
    return made


def with_another_type() -> Passed:
    made = Passed(reason="a")
    made.reason = 5  # type: ignore[assignment]
    return made


def late() -> Late:
    made = Late(1)
    made.y = 2
    return made


def loop() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


REFUSED: list[tuple[Any, Any, str]] = [
    (
        Union[Passed, Failed],  # noqa: UP007
        Failed(reason="no"),
        r"^Failed\(reason='no'\) would arrive as Passed\(reason='no'\); .*discriminator='kind'",
    ),
    (dict[str, list[Passed | Failed]], {"a": [Failed(reason="no")]}, r"^'a\.0': Failed\(.*discriminator"),
    (Passed, Detailed(reason="no", detail=2), "declare Detailed, or a union of the two with a discriminator"),
    (
        list[Passed],
        [Passed(reason="a"), Failure(reason="b")],
        "^'1': Failure.* would arrive as Passed.*declare Failure",
    ),
    (Plain, Plain(score=math.inf), r"^'score': float inf would arrive as None; .*ser_json_inf_nan='strings'"),
    (list[Plain], [Plain(), Plain(score=math.nan)], r"^'1\.score': float nan would arrive as None"),
    (Plain, Plain(picture=b"\xff"), r"^'picture': bytes that are no text .*val_json_bytes='base64'"),
    (Rounding, Rounding(amount=1.5), r"^'amount': float 1.5 would arrive as float 2.0; it is written otherwise"),
    (Hidden, Hidden(hidden=3), r"^'hidden': int 3 would arrive as int 0; .*exclude"),
    (Private, with_private(), "^'_seen': int 3 would arrive as int 0; .* make it a field"),
    (Passed, with_another_type(), r"can't be read back .*'reason': Input should be a valid string"),
    (Hurt, Hurt.model_construct(name="b"), "can't be read back as its type: KeyError: 'b'"),
    (Late, late(), r"^'y': int 2 would arrive as int 0; .*init=False"),
    (Any, {1: "a"}, r"the key 1 is not kept: declare the type of the keys"),
    (Any, {"a": [(1, 2)]}, r"^'a\.0': tuple \(1, 2\) would arrive as list"),
    (Any, {"a", "b"}, "set .* would arrive as list"),
    (Any, b"text", "bytes b'text' would arrive as str"),
    (Any, decimal.Decimal("1.1"), r"Decimal .* would arrive as str"),
    (Any, MOMENT, "datetime .* would arrive as str"),
    (Any, Kind.FAST, "Kind .* would arrive as str"),
    (Any, Passed(reason="a"), "Passed.* would arrive as dict"),
    (Any, math.inf, "float inf would arrive as str"),
    (Any, Counter("a"), "Counter .* would arrive as dict"),
    (dict[str, Any], {"a": defaultdict(int)}, "^'a': defaultdict .* would arrive as dict"),
    (Any, {"token": SecretStr("x")}, "^'token': SecretStr .* read secrets in the method that uses them"),
    (Any, {"a": [Unknown()]}, r"^'a\.0': Unknown .* is no data"),
    (Any, lambda: 1, "function .* is no data"),
    (Any, loop(), "is no data: .*[Cc]ircular"),
    (Any, nested(300), "no data|nested|can't be read"),
    (str, "\ud800", "half a character"),
    (list[str], ["a", "b\udfff"], "^'1': text with half a character"),
    (float | str, math.nan, "float nan would arrive as str"),
    (decimal.Decimal, decimal.Decimal("NaN"), "can't be read back|finite number"),
]


@pytest.mark.parametrize(("hint", "value", "problem"), REFUSED, ids=ids(REFUSED))
def test_what_would_not_arrive_is_refused_with_its_place_and_a_mend(hint: Any, value: Any, problem: str) -> None:
    with pytest.raises(ValueError if "finite number" in problem else NotKept, match=problem):  # noqa: PT012
        values: Values[Any] = Values(hint)
        values.write(values.check(value))


def test_a_secret_is_not_told_in_what_refuses_it() -> None:
    values: Values[Any] = Values(Any)
    with pytest.raises(NotKept) as refused:
        values.write({"token": SecretStr("pssst")})
    assert "pssst" not in str(refused.value)


def test_people_write_bytes_as_text() -> None:
    values: Values[bytes] = Values(bytes, Outside)
    assert values.write(b"text") == '"text"'
    with pytest.raises(NotKept, match="bytes that are no text"):
        values.write(b"\xff")


@pytest.mark.parametrize(
    ("hint", "sure"),
    [
        (str, True),
        (list[dict[str, int | None]], True),
        (tuple[float, ...], True),
        (Annotated[int, Field(ge=1, description="a number")], True),
        (Literal["a", "b"], True),
        (None, True),
        (Change, True),
        (Uncertain, False),
        (Any, False),
        (Passed, False),
        (dict[int, str], False),
        (int | str, False),
        (Literal[1, True], False),
        (set[str], False),
        (Annotated[str, AfterValidator(str.upper)], False),
        (Annotated[float, Field(strict=True)], False),
    ],
)
def test_only_values_of_types_that_keep_them_all_are_not_looked_at(hint: Any, sure: bool) -> None:
    assert is_sure(hint) is sure


# Random types and values


def same(one: Any, other: Any) -> bool:
    """Compare deeply and by types, in another way than the code does."""
    return _told(one) == _told(other)


def _told(value: Any) -> str:
    if isinstance(value, BaseModel):
        inner = [f"{name}={_told(getattr(value, name))}" for name in type(value).model_fields]
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [f"{one.name}={_told(getattr(value, one.name))}" for one in fields(value)]
    elif isinstance(value, dict):
        inner = [f"{_told(key)}:{_told(one)}" for key, one in value.items()]
    elif isinstance(value, (set, frozenset)):
        inner = sorted(map(_told, value))
    elif isinstance(value, (list, tuple)):
        inner = [_told(one) for one in value]
    elif isinstance(value, datetime.datetime):
        inner = [value.isoformat()]
    else:
        inner = [repr(value)]
    return f"{type(value).__qualname__}({', '.join(inner)})"


TEXT = st.text(max_size=5)
NUMBERS = st.floats() | st.integers() | st.booleans()

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (str, TEXT),
    (bool, st.booleans()),
    (float, st.floats()),
    (bytes, st.binary(max_size=4)),
    (None, st.none()),
    (decimal.Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (datetime.datetime, st.datetimes(timezones=st.none() | st.just(datetime.UTC))),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(days=-9_999), datetime.timedelta(days=9_999))),
    (uuid.UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Kind, st.sampled_from(Kind)),
    (Literal["a", 1, True], st.sampled_from(["a", 1, True])),
    (Passed, st.builds(Passed, reason=TEXT)),
    (AliasedWithDefault, st.builds(lambda n: AliasedWithDefault.model_validate({"size_in": n}), st.integers())),
    (Plain, st.builds(Plain, score=st.none() | st.floats(), picture=st.binary(max_size=3))),
    (Passed | Failed, st.builds(Passed, reason=TEXT) | st.builds(Failed, reason=TEXT)),
    (Good | Bad, st.builds(Good, reason=TEXT) | st.builds(Bad, reason=TEXT)),
    (Spot, st.builds(Spot, st.integers(), st.floats(), st.lists(TEXT, max_size=2))),
    (Annotated[str, BeforeValidator(lambda text: text)], TEXT),
    (
        Any,
        st.recursive(
            st.none()
            | NUMBERS
            | TEXT
            | st.binary(max_size=2)
            | st.decimals()
            | st.sampled_from([Kind.FAST, Color.RED]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.tuples(inner)
                | st.dictionaries(TEXT | st.integers(), inner, max_size=3)
                | st.builds(Spot, st.integers(), inner)
            ),
            max_leaves=6,
        ),
    ),
]

Typed = tuple[Any, st.SearchStrategy[Any]]


def listed(one: Typed) -> Typed:
    return list.__class_getitem__(one[0]), st.lists(one[1], max_size=3)


def by_text(one: Typed) -> Typed:
    return dict.__class_getitem__((str, one[0])), st.dictionaries(TEXT, one[1], max_size=3)


def by_number(one: Typed) -> Typed:
    return dict.__class_getitem__((int, one[0])), st.dictionaries(st.integers(), one[1], max_size=3)


def paired(one: Typed, other: Typed) -> Typed:
    return tuple.__class_getitem__((one[0], other[0])), st.tuples(one[1], other[1])


def either(one: Typed, other: Typed) -> Typed:
    return Union.__getitem__((one[0], other[0])), one[1] | other[1]


def modelled(one: Typed, other: Typed) -> Typed:
    made = create_model("Made", first=(one[0], ...), second=(other[0], None))
    return made, st.builds(lambda a, b: made.model_construct(first=a, second=b), one[1], other[1])


def composed(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    one = [st.builds(make, inner) for make in (listed, by_text, by_number)]
    return st.one_of(*one, *(st.builds(make, inner, inner) for make in (paired, either, modelled)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_sent_arrives_as_it_was_or_is_refused(data: st.DataObject) -> None:
    hint, strategy = data.draw(st.recursive(st.sampled_from(LEAVES), composed, max_leaves=4))
    value = data.draw(strategy)
    values: Values[Any] = Values(hint)
    try:
        sent = values.check(value)
        text = values.write(sent)
    except (NotKept, ValueError):
        return
    assert same(values.read(enveloped(text)), sent)
