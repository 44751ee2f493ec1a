"""Values that cross: one place writes them as JSON, reads back what it wrote, and compares.

>>> values = Values(dict[str, float])
>>> values.read(enveloped(values.write({"least": float("-inf")})))
{'least': -inf}

So what arrives is what was sent, in types and contents, or it is refused where it was about to be sent.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from activities.border.washing import name_of, words_of
from activities.contract.envelope import CROSSING
from activities.contract.text import explain
from activities.errors import AgentError
from activities.values.comparison import Leeway, difference
from activities.values.declared import is_abstract, is_sure
from activities.values.mends import no_data, unread

T = TypeVar("T")


class NotKept(AgentError):
    """A value would not arrive as it is; says which part of it, what would become of it, and the mend."""


class Crossing(BaseModel, Generic[T]):
    """What carries one value between a program and its workers."""

    model_config = CROSSING

    value: T


class Outside(BaseModel, Generic[T]):
    """What carries one value to or from people and other programs: bytes are text there."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    value: T


class Values(Generic[T]):
    """Writes and reads the values of one declared type."""

    def __init__(self, hint: Any, carrier: Any = Crossing, *, as_json: bool = False) -> None:
        """Prepare for a type.

        Args:
            hint: The type.
            as_json: Whether whoever reads a value has only its JSON: that will do where the type is `Any`.
            carrier: A generic model with a field `value`; its configuration says how bytes and odd numbers are written.

        Raises:
            PydanticUserError: Pydantic does not know the type.
        """
        self._carrier: type[Crossing[T]] = carrier[hint]
        if not self._carrier.__pydantic_complete__:
            self._carrier.model_rebuild(raise_errors=True)
        self._hint = hint
        self._is_sure = is_sure(hint)
        self._leeway = Leeway(is_abstract(hint), as_json)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of the type."""
        return TypeAdapter(self._hint).json_schema()

    def check(self, value: Any) -> T:
        """Return a value as the declared type.

        Raises:
            ValidationError: It is of another one.
        """
        return self._carrier.__pydantic_validator__.validate_python({"value": value}).value  # type: ignore[no-any-return]

    def write(self, value: T) -> str:
        """Write a value of the declared type as JSON.

        Raises:
            NotKept: It would not be read as it is.
        """
        if self._is_sure:
            return _inside(self._dump(value, by_alias=True))
        refused = None
        for by_alias in (True, False):  # a field that is read under another name than it is written still has its own
            try:
                text = self._dump(value, by_alias=by_alias)
                self._compare(value, text)
            except NotKept as error:
                refused = refused or error
            else:
                return _inside(text)
        assert refused is not None
        raise refused

    def read(self, text: str | bytes) -> T:
        """Read the value out of a message that carries it.

        Raises:
            ValidationError: It is not of the declared type.
        """
        read = self._carrier.__pydantic_validator__.validate_json
        return read(text, by_alias=True, by_name=True).value  # type: ignore[no-any-return]

    def _dump(self, value: T, *, by_alias: bool) -> str:
        fallback = _told if self._leeway.json else None
        made = self._carrier.__new__(self._carrier)
        vars(made)["value"] = value  # as model_construct does, which takes as long as all the rest
        try:
            return self._carrier.__pydantic_serializer__.to_json(
                made, include={"value"}, by_alias=by_alias, round_trip=True, warnings="none", fallback=fallback
            ).decode()
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise NotKept(no_data(value, error)) from None

    def _compare(self, value: T, text: str) -> None:
        try:
            arrived = self.read(text)
        except ValidationError as error:
            raise NotKept(unread(value, explain(error, skip=("value",)))) from None
        except Exception as error:  # a validator of the user's that fails
            raise NotKept(unread(value, f"{name_of(error)}: {words_of(error, 500)}")) from None
        try:
            found = difference(value, arrived, self._leeway)
        except RecursionError:
            raise NotKept("it is nested too deeply to be compared; make it flatter") from None
        if found is not None:
            raise NotKept(found.in_words())


def enveloped(text: str) -> str:
    """Return the message that carries what `Values.write` has written, and nothing else."""
    return f'{{"value":{text}}}'


def _inside(text: str) -> str:
    return text.removeprefix('{"value":')[:-1]


def _told(value: Any) -> str:
    """Write an error that was collected as what it says."""
    if isinstance(value, BaseException):
        return words_of(value)
    raise PydanticSerializationError(f"{type(value).__name__} is no data")
