"""The last line of defence: no payload that a process sends has a secret of it, whatever it holds and whoever made it.

Texts were washed before, where they came in. Here is what a method returns, what an author writes into a memo, and all
that nobody thought of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from activities.border.secrets import json_without_secrets, without_secrets
from activities.contract.pages import CARRIED

_LARGE = 100_000
"""Bytes from which on a payload is looked through in a thread, so that the event loop goes on."""


class HidingCodec(PayloadCodec):
    """Replaces secrets in all that is sent, and changes nothing of what is received."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Replace secrets.

        What a run tells itself when it continues as new stays as it was: it is compared with what has happened, and it
        is in the run's history already.
        """
        if payloads and payloads[0].data.startswith(CARRIED):
            return list(payloads)
        return [await _hidden(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Change nothing."""
        return list(payloads)


async def _hidden(payload: Payload) -> Payload:
    if len(payload.data) > _LARGE:
        return await asyncio.to_thread(_without_secrets, payload)
    return _without_secrets(payload)


def _without_secrets(payload: Payload) -> Payload:
    try:
        text = payload.data.decode()
    except UnicodeDecodeError:  # it is no text
        return payload
    is_json = payload.metadata.get("encoding", b"").startswith(b"json/")
    without = (json_without_secrets if is_json else without_secrets)(text)
    return payload if without == text else Payload(metadata=payload.metadata, data=without.encode())
