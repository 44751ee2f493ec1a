"""Unpacking what providers send compressed, never to more than is read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

_PIECE = 65_536


class Unpacking:
    """The unpacking of one response, in pieces of any size."""

    def __init__(self, encodings: str) -> None:
        """Prepare for a response.

        Args:
            encodings: Its header `Content-Encoding`.

        Raises:
            DecodingError: One of them was not asked for.
        """
        names = [name.strip().lower() for name in encodings.split(",")]
        self._stages = [_Stage(name) for name in reversed(names) if name not in ("", "identity")]

    def whole(self, data: bytes, limit: int) -> bytes:
        """Unpack a whole response, to one byte more than a limit at most.

        Raises:
            DecodingError: It can't be unpacked.
        """
        for stage in self._stages:
            data = next(stage.pieces(data, limit + 1), b"")
        return data

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Unpack what comes next of a stream, in pieces that are not large.

        Raises:
            DecodingError: It can't be unpacked.
        """
        made: Iterator[bytes] = iter((data,))
        for stage in self._stages:
            made = (unpacked for packed in made for unpacked in stage.pieces(packed, _PIECE))
        return made


class _Stage:
    def __init__(self, encoding: str) -> None:
        import httpx

        if encoding not in _WINDOWS:
            raise httpx.DecodingError(f"the response is in the encoding '{encoding[:40]}', which was not asked for")
        self._unpacker = zlib.decompressobj(_WINDOWS[encoding])
        self._may_lack_header = encoding == "deflate"  # as with some servers

    def pieces(self, data: bytes, most: int) -> Iterator[bytes]:
        """Unpack what comes next, in pieces of so many bytes at most."""
        full = True
        while data or full:
            unpacked = self._unpacked(data, most)
            full, data = len(unpacked) == most, self._unpacker.unconsumed_tail
            yield unpacked

    def _unpacked(self, data: bytes, most: int) -> bytes:
        import httpx

        try:
            return self._unpacker.decompress(data, most)
        except zlib.error as error:
            if self._may_lack_header:
                self._may_lack_header, self._unpacker = False, zlib.decompressobj(-zlib.MAX_WBITS)
                with suppress(zlib.error):
                    return self._unpacker.decompress(data, most)
            raise httpx.DecodingError(f"the response can't be unpacked: {error}") from None
