"""Payloads in a bucket of S3, or of what speaks its protocol: `prefix/ab/abcdef…`, named by their digests.

Credentials, region and address are those that boto3 finds, `AWS_ENDPOINT_URL_S3` among them. Nothing is deleted here:
that is for a rule of the bucket. What is stored again is written anew once a day, so that such a rule counts from then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from activities.border.washing import words_of
from activities.contract.limits import STORED_LIMIT
from activities.errors import PayloadLost, StoreMissing

T = TypeVar("T")

_WRITTEN_ANEW_AFTER = timedelta(days=1)
_NOT_THERE = ("404", "NoSuchKey", "NotFound")


class Bucket:
    """A part of a bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def where(self, digest: str) -> str:
        """Name the object."""
        return f"s3://{self._bucket}/{self._key(digest)}"

    def put(self, digest: str, data: bytes) -> None:
        """Write an object, if it is not there, or for long.

        Raises:
            StoreMissing: The bucket can't be written to.
        """
        found = self._ask(lambda: self._client.head_object(Bucket=self._bucket, Key=self._key(digest)), digest)
        if found and found["ContentLength"] == len(data):
            age: timedelta = datetime.now(UTC) - found["LastModified"]
            if age < _WRITTEN_ANEW_AFTER:
                return
        self._ask(lambda: self._client.put_object(Bucket=self._bucket, Key=self._key(digest), Body=data), digest)

    def get(self, digest: str) -> bytes:
        """Read an object.

        Raises:
            PayloadLost: It is not there.
            StoreMissing: The bucket can't be read.
        """

        def read() -> bytes:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(digest))
            with found["Body"] as body:
                data: bytes = body.read(STORED_LIMIT + 1)
                return data

        data = self._ask(read, digest)
        if data is None:
            raise PayloadLost(
                f"A stored payload is not at {self.where(digest)}. Either this process's PAYLOAD_STORE is not what the "
                "others have, or it was deleted: restore it from a backup."
            )
        return data

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{digest[:2]}/{digest}"

    @functools.cached_property
    def _client(self) -> Any:
        import boto3  # takes half a second, which only those pay who use it
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
        return boto3.session.Session().client("s3", config=config)

    def _ask(self, ask: Callable[[], T], digest: str) -> T | None:
        """Ask the service; return None if there is no such object."""
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            return ask()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _NOT_THERE and error.operation_name != "PutObject":
                return None
            raise StoreMissing(f"The store refuses at {self.where(digest)}: {words_of(error, 500)}.") from None
        except (BotoCoreError, HTTPError) as error:
            raise StoreMissing(f"The store can't be reached at {self.where(digest)}: {words_of(error, 500)}.") from None
