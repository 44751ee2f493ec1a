"""How data crosses: pydantic's way, but nothing that is sent or received can stop a run.

An error while Temporal decodes a run's inputs would fail the workflow task, which is repeated for ever: what can't be
read is handed on. A failure that is too long would be lost or do the same: whatever raised it, it is cut.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError

from activities.border.washing import fit_to_leave, name_of, washed_within, words_of
from activities.contract.limits import MESSAGE_LIMIT
from activities.contract.text import clip, explain


class _Converter(PydanticPayloadConverter):
    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        if type_hints:  # with an empty list the SDK drops what was sent
            return self._read_as(payloads, type_hints)
        return [self._read(payload) for payload in payloads]

    def _read_as(self, payloads: Sequence[Payload], type_hints: list[type]) -> list[Any]:
        try:
            return super().from_payloads(payloads, type_hints)
        except FailureError:
            raise
        except Exception as error:  # of this kind it ends what it was sent to; of any other it would be tried for ever
            wanted = ", ".join(getattr(hint, "__name__", str(hint)) for hint in type_hints)
            said = explain(error) if isinstance(error, ValidationError) else words_of(error)
            message = f"what was sent can't be read as ({wanted}): {clip(said, 1_000)}"
            raise ApplicationError(message, type="Unreadable", non_retryable=True) from None

    def _read(self, payload: Payload) -> Any:
        try:
            return super().from_payloads([payload])[0]
        except Exception:  # any kind of damage, in any encoding
            return RawValue(payload)


CAUSES_TOLD = 5
"""Causes of causes that are sent with a failure."""


class FailureInWords(DefaultFailureConverter):
    """Writes failures so that they arrive, whatever raised them, and hold no secrets."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Tell an error and, in turn, its causes, whatever they are: a failure that can't be told would be no end."""
        told = exception if isinstance(exception, FailureError) else _in_plain_words(exception)
        try:
            super().to_failure(told, payload_converter, failure)
        except Exception:  # an attribute, a detail or a cause that can't be written
            failure.Clear()
            failure.message = words_of(exception)
            failure.application_failure_info.type = name_of(exception)
            failure.application_failure_info.non_retryable = bool(getattr(exception, "non_retryable", False))
        failure.message = washed_within(failure.message, MESSAGE_LIMIT, wash=fit_to_leave)
        failure.stack_trace = washed_within(failure.stack_trace, 2 * MESSAGE_LIMIT, wash=fit_to_leave)
        _end_after(CAUSES_TOLD, failure)


class FailureSealed(FailureInWords):
    """Puts the words of a failure into a payload, which a codec can encrypt."""

    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Tell an error and its causes."""
        super().to_failure(exception, payload_converter, failure)
        words = {"message": failure.message, "stack_trace": failure.stack_trace}
        failure.encoded_attributes.CopyFrom(payload_converter.to_payload(words))
        failure.message, failure.stack_trace = "encrypted", ""


def message_of(failure: Failure) -> str:
    """Return what a failure says, also where its words are in a payload."""
    if failure.HasField("encoded_attributes"):
        with contextlib.suppress(ValueError):
            words = from_json(failure.encoded_attributes.data)
            if isinstance(words, dict):
                return str(words.get("message") or "")
    return failure.message


def _in_plain_words(error: BaseException) -> ApplicationError:
    """Return an error that says the same, and whose class does nothing of its own."""
    plain = ApplicationError(words_of(error), type=name_of(error)).with_traceback(error.__traceback__)
    plain.__cause__ = error.__cause__
    return plain


def _end_after(causes: int, failure: Failure) -> None:
    for _ in range(causes):
        if not failure.HasField("cause"):
            return
        failure = failure.cause
    failure.ClearField("cause")


data_converter = dataclasses.replace(
    pydantic_data_converter, payload_converter_class=_Converter, failure_converter_class=FailureInWords
)
