"""The store: where payloads go that are too large for a server, which gets a reference to them.

`PAYLOAD_STORE=file:///mnt/payloads` or `s3://bucket/prefix` is the one setting. What is stored is what would have been
sent: without secrets, encrypted where there is a key. It is known by its digest, so that the same is stored once, a
reference can name nothing but a digest, and what was changed meanwhile is refused.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import unquote, urlsplit

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.common import RawValue
from temporalio.converter import (
    ActivitySerializationContext,
    ExternalStorage,
    SerializationContext,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
    WithSerializationContext,
)

from activities.contract.limits import STORED_FROM, STORED_LIMIT
from activities.errors import PayloadLost, PayloadTooLarge, SettingInvalid, StoreMissing
from activities.payloads.bucket import Bucket
from activities.payloads.files import Files

PAYLOAD_STORE = "PAYLOAD_STORE"
PAYLOAD_STORE_DAYS = "PAYLOAD_STORE_DAYS"

T = TypeVar("T")

_NAME = "payload-store"
_REFERENCE = ExternalStorageReference.DESCRIPTOR.full_name.encode()
_CLAIM = "sha256"
_MISSING = b"text/not-to-be-had"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PROBE = b"Whoever can read this reaches the store."
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="payload-store")


class Place(Protocol):
    """Where bytes are kept by their digests; called in threads."""

    def put(self, digest: str, data: bytes) -> None:
        """Keep bytes; if they are there, note that they are used.

        Raises:
            StoreMissing: It can't be reached, or written to.
        """

    def get(self, digest: str) -> bytes:
        """Return bytes, and note that they are used.

        Raises:
            PayloadLost: They are not there.
            StoreMissing: It can't be reached, or read.
        """

    def where(self, digest: str) -> str:
        """Name the place of bytes, for people."""


class Store(StorageDriver):
    """Keeps payloads at a place."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def name(self) -> str:
        """Return what references name: the same wherever the store is, so that it can be moved."""
        return _NAME

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Keep payloads.

        Raises:
            PayloadTooLarge: One is more than is taken.
            StoreMissing: The store can't be reached.
        """
        return [await _in_thread(self._keep, payload) for payload in payloads]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Return payloads.

        Raises:
            PayloadLost: One is not there, or not what it was.
            StoreMissing: The store can't be reached.
        """
        return [await _in_thread(self._fetch, claim) for claim in claims]

    async def check(self) -> None:
        """Write and read.

        Raises:
            SettingInvalid: It can't be done; says why.
        """
        try:
            claim = await _in_thread(self._keep, Payload(data=_PROBE))
            await _in_thread(self._fetch, claim)
        except (StoreMissing, PayloadLost) as error:
            raise SettingInvalid(str(error)) from error

    def _keep(self, payload: Payload) -> StorageDriverClaim:
        data = payload.SerializeToString(deterministic=True)
        if len(data) > STORED_LIMIT:
            raise PayloadTooLarge(
                f"A payload of {len(data):,} bytes is too large: {STORED_LIMIT:,} is the most that the store takes. "
                "Put it into a file of the workspace and pass the path, or divide it."
            )
        digest = sha256(data).hexdigest()
        self.place.put(digest, data)
        return StorageDriverClaim({_CLAIM: digest})

    def _fetch(self, claim: StorageDriverClaim) -> Payload:
        digest = claim.claim_data.get(_CLAIM, "")
        if not _DIGEST.fullmatch(digest):  # whoever reaches the server may have written it
            raise PayloadLost(f"A reference to a stored payload names no digest: {digest[:100]!r}. It is none of ours.")
        data = self.place.get(digest)
        if sha256(data).hexdigest() != digest:
            raise PayloadLost(
                f"A stored payload is not what it was: {self.place.where(digest)} has {len(data):,} bytes with another "
                "digest. Restore it from a backup; what needs it goes on then."
            )
        try:
            return Payload.FromString(data)
        except DecodeError:
            raise PayloadLost(f"What is stored at {self.place.where(digest)} is no payload.") from None


class NoStore(StorageDriver):
    """What a process has without the setting: it stores nothing, and says what is missing where something is stored."""

    def name(self) -> str:
        """Return what references name."""
        return _NAME

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Store nothing."""
        raise NotImplementedError

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Say what is missing.

        Raises:
            StoreMissing: Always.
        """
        raise StoreMissing(
            f"A payload is kept in the store, and this process's {PAYLOAD_STORE} is not set. Set it to what the "
            "workers have; it goes on then."
        )


class InActivities(ExternalStorage, WithSerializationContext):
    """Storage for workers of activities: what is not to be had is told to the activity, as `missing_in` reads it.

    The SDK would end an activity for good whose heartbeat's details can't be fetched.
    """

    def with_context(self, context: SerializationContext) -> Self:
        """Return what fetches what an activity begins with; anything else that it does goes on as usual."""
        if not isinstance(context, ActivitySerializationContext):
            return self
        drivers = [_Telling(driver) for driver in self.drivers]
        select = self.driver_selector
        return type(self)(
            drivers,
            driver_selector=(lambda context, payload: drivers[0] if select(context, payload) else None)
            if select
            else None,
            payload_size_threshold=self.payload_size_threshold,
        )


class _Telling(StorageDriver):
    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    def name(self) -> str:
        return self._driver.name()

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        return await self._driver.store(context, payloads)

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        try:
            return await self._driver.retrieve(context, claims)
        except (StoreMissing, PayloadLost) as error:
            told = Payload(metadata={"encoding": _MISSING}, data=str(error).encode(errors="replace"))
            return [told for _ in claims]


def missing_in(value: object) -> str | None:
    """Say why what an activity begins with is not to be had; None if it is."""
    if isinstance(value, RawValue) and value.payload.metadata.get("encoding") == _MISSING:
        return value.payload.data.decode()
    return None


def storage_from_environment() -> ExternalStorage:
    """Return what keeps large payloads, by the environment's `PAYLOAD_STORE`.

    Raises:
        SettingInvalid: It can't be read; says how it is written.
    """
    setting = os.environ.get(PAYLOAD_STORE, "").strip()
    if not setting:
        return ExternalStorage([NoStore()], driver_selector=lambda context, payload: None)
    return ExternalStorage([Store(_place(setting))], payload_size_threshold=STORED_FROM)


def store_of(storage: ExternalStorage | None) -> Store | None:
    """Return the store that the environment has set; None where there is none."""
    return next((driver for driver in _drivers(storage) if isinstance(driver, Store)), None)


def stores(storage: ExternalStorage | None) -> bool:
    """Whether large payloads are kept anywhere, be it where its user has chosen to."""
    return any(not isinstance(driver, NoStore) for driver in _drivers(storage))


def _drivers(storage: ExternalStorage | None) -> Sequence[StorageDriver]:
    return storage.drivers if storage else ()


def is_stored(payload: Payload) -> bool:
    """Whether a payload is but a reference to what is stored."""
    return payload.metadata.get("messageType") == _REFERENCE


def days_from_environment() -> float | None:
    """Return for how many days what is not used is kept; None where that is not set.

    Raises:
        SettingInvalid: It is no number of days.
    """
    setting = os.environ.get(PAYLOAD_STORE_DAYS, "").strip()
    if not setting:
        return None
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", setting):
        raise SettingInvalid(f"{PAYLOAD_STORE_DAYS}={setting}: give a number of days, as in 40.")
    return float(setting)


def _place(setting: str) -> Place:
    try:
        parts = urlsplit(setting)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and not parts.query:
        return Files(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.hostname and parts.netloc == parts.hostname and not parts.query:
        return Bucket(parts.netloc, unquote(parts.path).strip("/"))
    raise SettingInvalid(
        f"{PAYLOAD_STORE}={setting}: write file:///path/to/a/folder, with three slashes, or s3://bucket/prefix."
    )


async def _in_thread(work: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *args)
