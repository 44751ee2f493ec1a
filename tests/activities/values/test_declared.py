"""What declared types tell of their values: those that can't cross are found, with where they are and what to write."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypeVar,
)

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    PlainValidator,
    SecretBytes,
    SecretStr,
)
from pydantic import Secret as SecretOf
from typing_extensions import TypeAliasType, TypedDict

from activities.values.declared import refusal

T = TypeVar("T")


class Login(BaseModel):
    user: str
    password: SecretStr | None = None


class Account(BaseModel):
    logins: dict[str, list[Login]] = {}


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Holder(BaseModel, Generic[T]):
    value: T


class Row(TypedDict):
    token: NotRequired[SecretBytes]


class Pair(NamedTuple):
    left: int
    right: Login


@dataclass
class Note:
    ids: ClassVar[list[Callable[[], int]]] = []
    login: Login | None = None


class Reader(Protocol):
    def read(self) -> str: ...


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    worker: threading.Thread | None = None
    reader: Any = None
    log: logging.Logger | None = None


class Unknown:
    pass


Name = NewType("Name", str)
Token = NewType("Token", SecretStr)
Words = TypeAliasType("Words", list[str])
Secrets = TypeAliasType("Secrets", dict[str, SecretStr])
Shown = Annotated[Unknown, PlainSerializer(lambda one: "x"), PlainValidator(lambda one: Unknown())]


@pytest.mark.parametrize(
    ("hint", "path", "why"),
    [
        (SecretStr, "", "is a secret: .* read it in the method that uses it"),
        (SecretOf[int] | None, "", "is a secret"),
        (Token, "", "is a secret"),
        (Secrets, "", "is a secret"),
        (Account, "logins.password", r"\(SecretStr\) is a secret"),
        (list[Account], "logins.password", "is a secret"),
        (Holder[Login], "value.password", "is a secret"),
        (Row, "token", r"\(SecretBytes\) is a secret"),
        (Pair, "right.password", "is a secret"),
        (Note, "login.password", "is a secret"),
        (Annotated[Login, Field(description="who")], "password", "is a secret"),
        (dict[tuple[int, int], str], "", "has keys that are no text in JSON; write a list of pairs"),
        (Mapping[Pair, str], "", "has keys that are no text"),
        (list[dict[frozenset[str], int]], "", "has keys that are no text"),
        (dict[str, dict[Note, int]], "", "has keys that are no text"),
        (Reader, "", r"\(Reader\) says what something can do, and is no data"),
        (Callable[[], int], "", "is code"),
        (list[Callable[..., Any]], "", "is code"),
        (AsyncIterator[int], "", "is read once, .* collect it"),
        (Iterator[int], "", "is read once"),
        (Generator[int, None, None], "", "is read once"),
        (Iterable[int], "", "may be read only once; write Sequence"),
        (Awaitable[int], "", "is no data yet; await it"),
        (type[Login], "", "is a class; send its name"),
        (type, "", "is a class"),
        (Unknown, "", r"\(Unknown\) can't be written as JSON; use types that pydantic knows"),
        (list[Unknown | None], "", "can't be written as JSON"),
        (Loose, "worker", "can't be written as JSON"),
        (io.StringIO, "", "can't be written as JSON"),
        (Exception, "", "can't be written as JSON"),
    ],
    ids=lambda part: str(part)[:50],
)
def test_a_type_whose_values_can_not_cross_is_found_wherever_it_is(hint: Any, path: str, why: str) -> None:
    refused = refusal(hint)
    assert refused is not None
    assert refused.path == path
    with pytest.raises(ValueError, match=why):
        raise ValueError(refused.why)


@pytest.mark.parametrize(
    "hint",
    [
        int,
        None,
        Any,
        object,
        Tree,
        Words,
        Shown,
        Sequence[str],
        Mapping[str, int],
        dict[int | Literal["a"], list[tuple[int, ...]]],
        dict[Name, int],
        Json[list[int]],
        HttpUrl,
        Holder[Tree],
        Literal["secret", 1, None],
        Optional["NotYetDefined"],  # noqa: F821
        T,
    ],
    ids=lambda part: str(part)[:50],
)
def test_other_types_are_taken(hint: Any) -> None:
    assert refusal(hint) is None


def test_it_is_said_of_an_argument_or_of_a_result() -> None:
    refused = refusal(list[Account])
    assert refused is not None
    assert refused.of("the argument", "all").startswith("the argument 'all.logins.password' (SecretStr) is a secret")
    assert refused.of("its result").startswith("its result 'logins.password' (SecretStr)")
