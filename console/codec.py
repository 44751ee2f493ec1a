"""`python -m console codec`: lets Temporal's Web UI and CLI read, and write, what is encrypted or stored.

It speaks their remote codec protocol, `POST /encode` and `POST /decode`, with this process's `PAYLOAD_KEY` and
`PAYLOAD_STORE`: so the CLI starts runs with inputs that a server would not take. Whoever reaches it can read
everything. So it listens on this machine only, and answers no web page but the Web UI: a browser says where a page
comes from, and which pages may ask is checked before anything is decrypted. A page gets of what is large the beginning.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payload, Payloads

from activities.errors import KeyMissing, PayloadLost, PayloadTooLarge, StoreMissing
from activities.payloads.encryption import PAYLOAD_KEY, EncryptionCodec
from activities.payloads.reading import Reader
from activities.payloads.store import PAYLOAD_STORE, is_stored, storage_from_environment, stores

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGEST_REQUEST = 100_000_000  # bytes
_SHOWN_BYTES = 1_000_000
"""Bytes of a payload that a page gets whole."""

_SHOWN_OF_MORE = 2_000
"""Characters of a larger one that it gets."""


def serve_codec(host: str, port: int, origins: Collection[str]) -> int:
    """Serve until Ctrl-C; return the exit code.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free.
        origins: The addresses of Web UIs on other machines, `https://temporal.example.com`.

    Raises:
        SettingInvalid: The key or the store can't be used.
    """
    encryption, storage = EncryptionCodec.from_environment(), storage_from_environment()
    if not encryption.encrypts and not stores(storage):
        print(f"codec: neither {PAYLOAD_KEY} nor {PAYLOAD_STORE} is set. Set what the workers have.", file=sys.stderr)
        return 2
    try:
        server = CodecServer((host, port), Reader(encryption, storage), origins)
    except OSError as error:
        print(f"codec: can't listen on {host}:{port}: {error.strerror}. Choose another --port.", file=sys.stderr)
        return 2
    if host not in _LOOPBACK:
        print(f"codec: whoever reaches {host}:{server.server_port} can read all runs.", file=sys.stderr)
    print(f"Codec server: {server.url}", flush=True)
    print("Web UI:  paste this address under 'Data Encoder', the glasses at the top right")
    print(f"CLI:     temporal workflow show --codec-endpoint {server.url} --workflow-id …", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


class CodecServer(ThreadingHTTPServer):
    """The server.

    Attributes:
        reader: What reads and writes.
        origins: Who may ask beside the pages of this machine.
        url: Where it is.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], reader: Reader, origins: Collection[str] = ()) -> None:
        super().__init__(address, _Exchange)
        self.reader = reader
        self.origins = frozenset(origin.rstrip("/") for origin in origins)
        self.url = f"http://{address[0]}:{self.server_port}"

    def lets_in(self, origin: str) -> bool:
        """Whether pages from there may ask."""
        return origin.rstrip("/") in self.origins or urlsplit(origin).hostname in _LOOPBACK


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CodecServer

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_OPTIONS(self) -> None:
        """Tell a browser whether its page may ask."""
        if self._is_let_in():
            self._send(204, b"")

    def do_POST(self) -> None:
        """Encode or decode."""
        if not self._is_let_in():
            return
        size, work = int(self.headers.get("Content-Length") or 0), self.path.rpartition("/")[2]
        if work not in ("encode", "decode"):
            self._refuse(404, "ask /encode or /decode")
            return
        if not 0 < size <= _LARGEST_REQUEST:
            self._refuse(413, f"give 1 to {_LARGEST_REQUEST:,} bytes")
            return
        try:
            given = Parse(self.rfile.read(size), Payloads(), ignore_unknown_fields=True).payloads
            made = asyncio.run(self._encoded(given) if work == "encode" else self._decoded(given))
        except ParseError as error:
            self._refuse(400, f"these are no payloads: {error}")
        except (KeyMissing, StoreMissing, PayloadLost, PayloadTooLarge) as error:
            self._refuse(400, str(error))
        else:
            self._send(200, MessageToJson(Payloads(payloads=made), indent=None).encode(), "application/json")

    async def _encoded(self, payloads: Sequence[Payload]) -> list[Payload]:
        return await self.server.reader.write(payloads)

    async def _decoded(self, payloads: Sequence[Payload]) -> list[Payload]:
        decode = self._decoded_for_a_page if self.headers.get("Origin") else self.server.reader.read
        return [await decode(payload) for payload in payloads]

    async def _decoded_for_a_page(self, payload: Payload) -> Payload:
        try:
            read = await self.server.reader.read(payload)
        except (StoreMissing, PayloadLost) as error:
            return _in_words({"stored": str(error)})
        if not is_stored(payload) or len(read.data) <= _SHOWN_BYTES:
            return read
        begins = read.data[: 4 * _SHOWN_OF_MORE].decode(errors="replace")[:_SHOWN_OF_MORE]
        return _in_words({"stored": f"{len(read.data):,} bytes", "begins": begins})

    def _is_let_in(self) -> bool:
        origin = self.headers.get("Origin")
        if origin is None or self.server.lets_in(origin):
            return True
        self._refuse(403, f"pages of {origin} may not ask; start it with --origin {origin}, if that is your Web UI")
        return False

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # what it has sent is not read
        self._send(status, why.encode(), "text/plain; charset=utf-8")

    def _send(self, status: int, body: bytes, kind: str = "") -> None:
        self.send_response(status)
        origin = self.headers.get("Origin")
        if origin is not None and self.server.lets_in(origin):
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Methods", "POST, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Content-Type, X-Namespace, Authorization")
            self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Vary", "Origin")
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _in_words(told: Mapping[str, str]) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(told, ensure_ascii=False).encode())
