"""How data crosses: pydantic's way, but nothing that is sent or received can stop a run.

An error while Temporal decodes a run's inputs would fail the workflow task, which is repeated for ever: what can't be
read is handed on. A failure that is too long would be lost or do the same: whatever raised it, it is cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError

from activities.contract import MESSAGE_LIMIT, clip, explain


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
            said = explain(error) if isinstance(error, ValidationError) else str(error)
            message = f"what was sent can't be read as ({wanted}): {clip(said, 1_000)}"
            raise ApplicationError(message, type="Unreadable", non_retryable=True) from None

    def _read(self, payload: Payload) -> Any:
        try:
            return super().from_payloads([payload])[0]
        except Exception:  # any kind of damage, in any encoding
            return RawValue(payload)


class _FailureConverter(DefaultFailureConverter):
    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        """Tell the error and, in turn, its causes."""
        super().to_failure(exception, payload_converter, failure)
        failure.message = clip(failure.message)
        failure.stack_trace = clip(failure.stack_trace, 2 * MESSAGE_LIMIT)


data_converter = dataclasses.replace(
    pydantic_data_converter, payload_converter_class=_Converter, failure_converter_class=_FailureConverter
)
