"""How payloads are read: pydantic's way, but what can't be read is handed on instead of stopping a run.

An error while Temporal decodes a run's inputs would fail the workflow task, which is repeated for ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter


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


data_converter = dataclasses.replace(pydantic_data_converter, payload_converter_class=_Converter)
