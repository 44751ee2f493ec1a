"""The interface of a choreography: what it takes and gives, in the JSON that people and other programs use."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import PydanticSchemaGenerationError, PydanticUserError, ValidationError
from pydantic.fields import FieldInfo
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from activities.contract.text import explain
from activities.errors import ResultInvalid
from activities.values.declared import refusal
from activities.values.schema import plain_default
from activities.values.values import NotKept, Outside, Values, enveloped
from workflows.engine.continuation import Continuation
from workflows.engine.options import RunOptions
from workflows.engine.room import room
from workflows.errors import ChoreographyInvalid, InputInvalid, TooLarge

R = TypeVar("R")
T = TypeVar("T")

_OPTIONS: Values[RunOptions] = Values(RunOptions, Outside)


class Interface(Generic[R]):
    """The inputs, options and result of one choreography."""

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, inspect.Parameter],
        hints: Mapping[str, Any],
        fields: Mapping[str, FieldInfo],
    ) -> None:
        """Prepare to read and write.

        Args:
            name: The choreography's.
            inputs: Its parameters that are no roles, with plain defaults.
            hints: The types of its parameters, and of its result as `return`.
            fields: Those parameters whose default is written as a `Field(…)`.

        Raises:
            ChoreographyInvalid: An input or the result can't be given as JSON.
        """
        self._name = name
        self._inputs = inputs
        self._hints = hints
        self._fields = fields
        self._values = {input: _values_of(name, f"the input '{input}'", hints[input]) for input in inputs}
        self._returns = hints.get("return", Any)
        _check(name, "the result", self._returns)

    @functools.cached_property
    def _result(self) -> Values[R]:
        return _values_of(self._name, "the result", self._returns, as_json=True)

    def read(self, payloads: Sequence[Any]) -> tuple[dict[str, Any], RunOptions]:
        """Turn a run's inputs into the function's arguments and the run's options.

        Args:
            payloads: Plain JSON values, in the order of the parameters; options may follow the last one.

        Raises:
            InputInvalid: Names the parameter.
        """
        names = list(self._inputs)
        if len(payloads) > len(names) + 1:
            raise InputInvalid(f"{len(payloads)} inputs were given, but {self._usage()}")
        values = {
            name: self._read_one(f"the input '{name}'", self._values[name], value)
            for name, value in zip(names, payloads, strict=False)
        }
        for name, parameter in self._inputs.items():
            if name not in values and parameter.default is parameter.empty:
                raise InputInvalid(f"the input '{name}' is missing; {self._usage()}")
        options = RunOptions()
        if len(payloads) > len(names) and payloads[-1] is not None:
            options = self._read_one("'options'", _OPTIONS, payloads[-1])
        return {**self.defaults(values), **values}, options

    def defaults(self, given: Collection[str]) -> dict[str, Any]:
        """Return the defaults that are written as `Field(…)`, which the function itself would take as they are."""
        missing = {name: field for name, field in self._fields.items() if name not in given and not field.is_required()}
        return {name: plain_default(field) for name, field in missing.items()}

    def write(self, value: R) -> RawValue:
        """Turn the function's result into a payload.

        Raises:
            TooLarge: The server would not take it.
            ResultInvalid: It is not of the declared type, or would not arrive as it is.
        """
        data = self._written(value).encode()
        if not room().takes(len(data)):
            instead = "Write it into the workspace and return its path."
            raise TooLarge(room().refusal(f"the result is {len(data):,} bytes", instead))
        return _json(data)

    def _written(self, value: R) -> str:
        try:
            return self._result.write(self._result.check(value))
        except ValidationError as error:
            explained = explain(error, skip=("value",))
            raise ResultInvalid(f"the result is something else than is declared: {explained}") from None
        except NotKept as error:
            raise ResultInvalid(f"the result would not arrive as it is: {error}") from None

    def write_inputs(self, continuation: Continuation, options: RunOptions) -> list[RawValue]:
        """Turn what `continue_with` was given into the inputs of a run.

        Raises:
            InputInvalid: They are not what the function takes, or would not arrive as they are.
            TooLarge: One would not be taken.
        """
        try:
            bound = inspect.Signature(list(self._inputs.values())).bind(*continuation.args, **continuation.kwargs)
        except TypeError as error:
            raise InputInvalid(f"continue_with: {error}; {self._usage()}") from None
        defaults = self.defaults(bound.arguments)
        bound.apply_defaults()
        data = [self._write_one(name, defaults.get(name, value)) for name, value in bound.arguments.items()]
        return [_json(text.encode()) for text in [*data, options.model_dump_json(exclude_defaults=True)]]

    def _write_one(self, name: str, value: Any) -> str:
        values = self._values[name]
        try:
            text = values.write(values.check(value))
            if not room().takes(len(text)):
                what = f"continue_with: '{name}' is {len(text):,} bytes"
                raise TooLarge(room().refusal(what, "Write it into the workspace and pass its path."))
            return text
        except ValidationError as error:
            problem = f"'{name}' does not fit: {explain(error, skip=('value',))}"
        except NotKept as error:
            problem = f"'{name}' would not arrive as it is: {error}"
        raise InputInvalid(f"continue_with: {problem}; {self._usage()}")

    def _read_one(self, where: str, values: Values[T], value: Any) -> T:
        try:
            text = json.dumps(value, allow_nan=False)
        except ValueError:
            raise InputInvalid(
                f"{where} holds NaN or an infinity, which JSON does not have: give null, or for a number the text "
                f'"NaN"; {self._usage()}'
            ) from None
        except (TypeError, RecursionError):  # a payload that was not JSON
            raise InputInvalid(f"{where} can't be read as JSON; {self._usage()}") from None
        try:
            return values.read(enveloped(text))
        except ValidationError as error:
            raise InputInvalid(f"{where} does not fit: {explain(error, skip=('value',))}; {self._usage()}") from None

    def _usage(self) -> str:
        inputs = [
            f"{name}: {_type_name(self._hints[name])}{'' if p.default is p.empty else ' = ' + repr(p.default)}"
            for name, p in self._inputs.items()
        ]
        return f"{self._name} takes ({', '.join([*inputs, 'options = {}'])}), each as one --input of JSON."


def _check(choreography: str, what: str, hint: Any) -> None:
    if refused := refusal(hint):
        raise ChoreographyInvalid(f"{choreography}: {what} can't be given as JSON: {refused.of('it')}.")


def _values_of(choreography: str, what: str, hint: Any, *, as_json: bool = False) -> Values[Any]:
    _check(choreography, what, hint)
    try:
        return Values(hint, Outside, as_json=as_json)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        problem = str(error).splitlines()[0]
        raise ChoreographyInvalid(f"{choreography}: {what} can't be given as JSON: {problem}") from error


def _json(data: bytes) -> RawValue:
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data))


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
