"""Payloads encrypted: whoever reads the server's database, its backups or the wire reads nothing of what a run says.

`PAYLOAD_KEY=id2:base64…,id1:base64…` is the one setting: the first key encrypts, all of them decrypt, each known by its
id. So a new key is put in front, and an old one stays as long as there are histories that it has encrypted. Each
payload is encrypted by AES-GCM with a nonce of its own, and says with which key. That of a large one follows from what
it says: a run that is replayed sends it again, and it is to be stored once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from activities.contract.limits import STORED_FROM
from activities.errors import KeyMissing, SettingInvalid

PAYLOAD_KEY = "PAYLOAD_KEY"
ENCRYPTED = b"binary/encrypted"
_ID = "encryption-key-id"
_KEY_BYTES = 32
_NONCE_BYTES = 12


_LARGE = 100_000
"""Bytes from which on a payload is encrypted in a thread, so that the event loop goes on."""


class Key(NamedTuple):
    """A key.

    Attributes:
        cipher: What encrypts and decrypts.
        nonces: From what the nonces of large payloads are made.
    """

    cipher: AESGCM
    nonces: bytes

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """Make one from its bytes."""
        return cls(AESGCM(secret), blake2b(b"nonces of large payloads", key=secret, digest_size=_KEY_BYTES).digest())

    def nonce(self, text: bytes) -> bytes:
        """Return a nonce that no other text has."""
        if len(text) < STORED_FROM:
            return os.urandom(_NONCE_BYTES)
        return blake2b(text, key=self.nonces, digest_size=_NONCE_BYTES).digest()


class EncryptionCodec(PayloadCodec):
    """Encrypts with the first of its keys, and decrypts with the one that is named; without keys nothing is changed."""

    def __init__(self, keys: Mapping[str, Key]) -> None:
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
        if not self._keys:
            return list(payloads)
        return [await _in_thread_if_large(self._encrypted, payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted.

        Raises:
            KeyMissing: There is no such key here, or another one of its name.
        """
        return [
            await _in_thread_if_large(self._decrypted, p) if p.metadata.get("encoding") == ENCRYPTED else p
            for p in payloads
        ]

    def _encrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") == ENCRYPTED:
            return payload
        id, key = next(iter(self._keys.items()))
        text = payload.SerializeToString(deterministic=True)
        nonce = key.nonce(text)
        data = nonce + key.cipher.encrypt(nonce, text, id.encode())
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
            return Payload.FromString(self._keys[id].cipher.decrypt(nonce, data, id.encode()))
        except (InvalidTag, ValueError):
            raise KeyMissing(
                f"A payload can't be decrypted with the key '{id}' of this process's {PAYLOAD_KEY}: another key had "
                f"that id, or the payload was changed. Set '{id}' to the key that it was; a new key needs a new id."
            ) from None


def new_key() -> str:
    """Return a new key with an id, as `PAYLOAD_KEY` takes it."""
    return f"key-{os.urandom(3).hex()}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def _keys_in(setting: str) -> dict[str, Key]:
    keys: dict[str, Key] = {}
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
        keys[id] = Key.of(key)
    return keys


def _unreadable(number: int, why: str) -> SettingInvalid:
    return SettingInvalid(
        f"Key {number} of {PAYLOAD_KEY} can't be used: {why}. Write ID:BASE64, with commas between several; "
        "'python -m console key' makes one."
    )


async def _in_thread_if_large(work: Callable[[Payload], Payload], payload: Payload) -> Payload:
    return await asyncio.to_thread(work, payload) if len(payload.data) > _LARGE else work(payload)
