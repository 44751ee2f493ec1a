"""How data crosses: pydantic's way, but nothing that is sent or received can stop a run.

An error while Temporal decodes a run's inputs would fail the workflow task, which is repeated for ever: what can't be
read is handed on. A failure that is too long would be lost or do the same: whatever raised it, it is cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter

from activities.contract import MESSAGE_LIMIT, clip


class _Converter(PydanticPayloadConverter):
    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        if type_hints is not None:
            return super().from_payloads(payloads, type_hints)
        return [self._read(payload) for payload in payloads]

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
