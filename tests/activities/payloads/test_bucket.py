"""The store in a bucket, by boto3 over real HTTP."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from temporalio.converter import DataConverter

from activities.contract.limits import STORED_FROM
from activities.errors import PayloadLost, StoreMissing
from activities.housekeeping.pages import PagesCodec
from activities.values.converter import data_converter
from workflows.serving.client import converter_for

LARGE = "plain " * STORED_FROM
SECRET = "wJalrXUtnFEMIbPxRfiCYzzzzzzzzzzz"
_ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code><Message>{0}: no way</Message></Error>"


class Buckets(ThreadingHTTPServer):
    """As much of S3 as a store needs.

    Attributes:
        objects: What was put, and when, by path.
        requests: Methods, in order.
        refuses: The code of the error with which everything is answered.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.requests: list[str] = []
        self.refuses = ""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Buckets

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        data = self._body()
        if self._is_let_in():
            self.server.objects[self.path] = data, datetime.now(UTC)
            self._send(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def do_GET(self) -> None:
        if self._is_let_in() and self._is_there():
            self._send(200, self.server.objects[self.path][0])

    def do_HEAD(self) -> None:
        if self._is_let_in() and self._is_there():
            data, at = self.server.objects[self.path]
            self._send(200, data, {"Last-Modified": f"{at:%a, %d %b %Y %H:%M:%S} GMT"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self._unframed(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        raise AssertionError("no chunks are expected")

    def _unframed(self, body: bytes) -> bytes:
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return body
        data = b""
        while body:
            head, _, body = body.partition(b"\r\n")
            size = int(head.partition(b";")[0], 16)
            data, body = data + body[:size], body[size + 2 :]
            if not size:
                break
        return data

    def _is_let_in(self) -> bool:
        self.server.requests.append(self.command)
        signed = (self.headers.get("Authorization") or "").startswith("AWS4-HMAC-SHA256 Credential=AKIA-not-one/")
        if self.server.refuses or not signed:
            self._send(403, _ERROR.format(self.server.refuses or "AccessDenied").encode())
            return False
        return True

    def _is_there(self) -> bool:
        if self.path in self.server.objects:
            return True
        self._send(404, _ERROR.format("NoSuchKey").encode())
        return False

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Buckets]:
    """An S3 on loopback, and the settings by which boto3 finds it."""
    with Buckets() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "AKIA-not-one",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "NO_PROXY": "127.0.0.1",
            "PAYLOAD_STORE": "s3://payloads/of a team",
        }.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()


def converter() -> DataConverter:
    return converter_for(data_converter, PagesCodec())


async def test_what_is_large_is_in_the_bucket_and_the_same_is_put_once(buckets: Buckets) -> None:
    sent = [await converter().encode([LARGE]), await converter().encode([LARGE])]

    [(path, (data, _))] = buckets.objects.items()
    digest = hashlib.sha256(data).hexdigest()
    assert path == f"/payloads/of%20a%20team/{digest[:2]}/{digest}"
    assert LARGE.encode() in data
    assert sent[0] == sent[1]
    assert buckets.requests.count("PUT") == 1
    assert await converter().decode(sent[0]) == [LARGE]


async def test_what_was_put_long_ago_is_put_again_for_the_rule_that_expires_it(buckets: Buckets) -> None:
    await converter().encode([LARGE])
    [path] = buckets.objects
    buckets.objects[path] = buckets.objects[path][0], datetime.now(UTC) - timedelta(days=2)
    await converter().encode([LARGE])
    assert buckets.requests.count("PUT") == 2


async def test_what_is_missing_or_changed_is_named(buckets: Buckets) -> None:
    sent = await converter().encode([LARGE])
    [path] = buckets.objects
    buckets.objects[path] = b"something else", datetime.now(UTC)
    with pytest.raises(PayloadLost, match=r"s3://payloads/of a team/.* has 14 bytes with another digest"):
        await converter().decode(sent)
    del buckets.objects[path]
    with pytest.raises(PayloadLost, match="is not at s3://payloads/of a team/"):
        await converter().decode(sent)


async def test_a_refusal_and_an_outage_are_told_without_credentials(buckets: Buckets) -> None:
    buckets.refuses = "SignatureDoesNotMatch"
    with pytest.raises(StoreMissing) as refused:
        await converter().encode([LARGE])
    assert "The store refuses at s3://payloads/of a team/" in str(refused.value)
    buckets.server_close()
    buckets.shutdown()
    with pytest.raises(StoreMissing, match="can't be reached at s3://payloads") as lost:
        await converter().encode([LARGE])
    for error in (refused, lost):
        assert SECRET not in str(error.value)
        assert "AKIA" not in str(error.value)
