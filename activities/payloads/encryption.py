"""Payloads encrypted: whoever reads the server's database, its backups or the wire reads nothing of what a run says.

`PAYLOAD_KEY=id2:base64…,id1:base64…` is the one setting: the first key encrypts, all of them decrypt, each known by its
id. So a new key is put in front, and an old one stays as long as there are histories that it has encrypted. Each
payload is encrypted by AES-GCM with a nonce of its own, and says with which key.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping, Sequence
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter, PayloadCodec

from activities.errors import KeyMissing, SettingInvalid
from activities.payloads.codecs import codecs_of
from activities.values.converter import message_of

PAYLOAD_KEY = "PAYLOAD_KEY"
ENCRYPTED = b"binary/encrypted"
_ID = "encryption-key-id"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class EncryptionCodec(PayloadCodec):
    """Encrypts with the first of its keys, and decrypts with the one that is named; without keys nothing is changed."""

    def __init__(self, keys: Mapping[str, AESGCM]) -> None:
        """Make a codec.

        Args:
            keys: By their ids, the one that encrypts first.
        """
        self._keys = keys

    @classmethod
    def from_environment(cls) -> Self:
        """Make one by the environment's `PAYLOAD_KEY`.

        Raises:
            SettingInvalid: It can't be read; says how it is written.
        """
        return cls(_keys_in(os.environ.get(PAYLOAD_KEY, "")))

    @property
    def encrypts(self) -> bool:
        """Whether there is a key."""
        return bool(self._keys)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt."""
        return [self._encrypted(payload) for payload in payloads] if self._keys else list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted.

        Raises:
            KeyMissing: There is no such key here, or another one of its name.
        """
        return [self._decrypted(p) if p.metadata.get("encoding") == ENCRYPTED else p for p in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") == ENCRYPTED:
            return payload
        id, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE_BYTES)
        data = nonce + key.encrypt(nonce, payload.SerializeToString(), id.encode())
        return Payload(metadata={"encoding": ENCRYPTED, _ID: id.encode()}, data=data)

    def _decrypted(self, payload: Payload) -> Payload:
        id = payload.metadata.get(_ID, b"").decode(errors="replace")
        if id not in self._keys:
            known = f"has only {', '.join(self._keys)}" if self._keys else "is not set"
            raise KeyMissing(
                f"A payload is encrypted with the key '{id}', and this process's {PAYLOAD_KEY} {known}. Set "
                f"{PAYLOAD_KEY} to what the workers have, '{id}:…' included; it goes on then."
            )
        nonce, data = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(self._keys[id].decrypt(nonce, data, id.encode()))
        except (InvalidTag, ValueError):
            raise KeyMissing(
                f"A payload can't be decrypted with the key '{id}' of this process's {PAYLOAD_KEY}: another key had "
                f"that id, or the payload was changed. Set '{id}' to the key that it was; a new key needs a new id."
            ) from None


def new_key() -> str:
    """Return a new key with an id, as `PAYLOAD_KEY` takes it."""
    return f"key-{os.urandom(3).hex()}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def _keys_in(setting: str) -> dict[str, AESGCM]:
    keys: dict[str, AESGCM] = {}
    for number, one in enumerate(filter(None, map(str.strip, setting.split(","))), 1):
        id, colon, written = one.partition(":")
        if not colon or not re.fullmatch(r"[\w.-]{1,60}", id):
            raise _unreadable(number, "it does not begin with an id and a colon")
        if id in keys:
            raise _unreadable(number, f"the id '{id}' is there twice")
        try:
            key = base64.b64decode(written, validate=True)
        except (binascii.Error, ValueError):
            raise _unreadable(number, "it is not base 64") from None
        if len(key) != _KEY_BYTES:
            raise _unreadable(number, f"it has {len(key)} bytes instead of {_KEY_BYTES}")
        keys[id] = AESGCM(key)
    return keys


def _unreadable(number: int, why: str) -> SettingInvalid:
    return SettingInvalid(
        f"Key {number} of {PAYLOAD_KEY} can't be used: {why}. Write ID:BASE64, with commas between several; "
        "'python -m console key' makes one."
    )


async def decrypt_in(message: Message, converter: DataConverter) -> None:
    """Decrypt all payloads inside a message of the server's, for people to read, and give failures their words back.

    Raises:
        KeyMissing: One is encrypted with a key that this process does not have.
    """
    for codec in codecs_of(converter):
        if isinstance(codec, EncryptionCodec):
            await _decrypt_in(message, codec)


async def _decrypt_in(message: Message, codec: EncryptionCodec) -> None:
    if isinstance(message, Payload):
        message.CopyFrom((await codec.decode([message]))[0])
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inside = [value] if isinstance(value, Message) else value.values() if hasattr(value, "values") else value
        for one in inside:
            if isinstance(one, Message):
                await _decrypt_in(one, codec)
    if isinstance(message, Failure):
        message.message = message_of(message)
