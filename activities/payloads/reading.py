"""What the server holds, for people to read: decrypted, out of the store, and failures in their words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.common import RawValue
from temporalio.converter import DataConverter, ExternalStorage, PayloadCodec

from activities.errors import PayloadLost
from activities.payloads.codecs import codecs_of
from activities.payloads.encryption import EncryptionCodec
from activities.payloads.store import is_stored
from activities.values.converter import message_of


class Reader:
    """Reads and writes payloads as the server holds them, without knowing what is in them."""

    def __init__(self, codec: PayloadCodec | None, storage: ExternalStorage | None) -> None:
        """Prepare to read.

        Args:
            codec: What decrypts.
            storage: What has what is large.
        """
        self._converter = dataclasses.replace(DataConverter.default, payload_codec=codec, external_storage=storage)

    @classmethod
    def like(cls, converter: DataConverter) -> Reader:
        """Read what a converter writes, but for the codecs of its user."""
        encryption = next((codec for codec in codecs_of(converter) if isinstance(codec, EncryptionCodec)), None)
        return cls(encryption, converter.external_storage)

    async def read(self, payload: Payload) -> Payload:
        """Return what is in a payload.

        Raises:
            KeyMissing: It is encrypted with a key that this process does not have.
            StoreMissing: It is in a store that this process does not have, or does not reach.
            PayloadLost: It is not there any more.
        """
        [value] = await self._converter.decode([payload], [RawValue])
        read: Payload = value.payload
        return read

    async def write(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Return payloads as the server is to hold them."""
        return await self._converter.encode([RawValue(payload) for payload in payloads])


async def make_readable(message: Message, converter: DataConverter) -> None:
    """Put what they say in place of all payloads inside a message of the server's that are encrypted or stored.

    What is not in the store any more stays a reference.

    Raises:
        KeyMissing: One is encrypted with a key that this process does not have.
        StoreMissing: One is in a store that this process does not have, or does not reach.
    """
    await _make_readable(message, Reader.like(converter))


async def _make_readable(message: Message, reader: Reader) -> None:
    if isinstance(message, Payload):
        try:
            message.CopyFrom(await reader.read(message))
        except PayloadLost:
            assert is_stored(message)
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inside = [value] if isinstance(value, Message) else value.values() if hasattr(value, "values") else value
        for one in inside:
            if isinstance(one, Message):
                await _make_readable(one, reader)
    if isinstance(message, Failure):
        message.message = message_of(message)
