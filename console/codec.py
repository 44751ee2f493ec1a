"""`python -m console codec`: lets Temporal's Web UI and CLI read, and write, what is encrypted.

It speaks their remote codec protocol, `POST /encode` and `POST /decode`, with this process's `PAYLOAD_KEY`. Whoever
reaches it can read everything. So it listens on this machine only, and answers no web page but the Web UI: a browser
says where a page comes from, and which pages may ask is checked before anything is decrypted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payloads

from activities.errors import KeyMissing
from activities.payloads.encryption import PAYLOAD_KEY, EncryptionCodec

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LARGEST_REQUEST = 100_000_000  # bytes


def serve_codec(host: str, port: int, origins: Collection[str]) -> int:
    """Serve until Ctrl-C; return the exit code.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free.
        origins: The addresses of Web UIs on other machines, `https://temporal.example.com`.

    Raises:
        SettingInvalid: The key can't be used.
    """
    codec = EncryptionCodec.from_environment()
    if not codec.encrypts:
        print(f"codec: {PAYLOAD_KEY} is not set. Set it to what the workers have.", file=sys.stderr)
        return 2
    try:
        server = CodecServer((host, port), codec, origins)
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
        codec: What encrypts and decrypts.
        origins: Who may ask beside the pages of this machine.
        url: Where it is.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], codec: EncryptionCodec, origins: Collection[str] = ()) -> None:
        super().__init__(address, _Exchange)
        self.codec = codec
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
            made = asyncio.run(getattr(self.server.codec, work)(given))
        except ParseError as error:
            self._refuse(400, f"these are no payloads: {error}")
        except KeyMissing as error:
            self._refuse(400, str(error))
        else:
            self._send(200, MessageToJson(Payloads(payloads=made), indent=None).encode(), "application/json")

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
