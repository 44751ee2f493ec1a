"""Server-sent events, put together from bytes that come in pieces of any size."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from activities.models.bounds import MOST_BRACKETS, MOST_LINES, TooMuch, Unreadable, too_much

DONE = b"[DONE]"
"""What ends a stream in OpenAI's protocol."""

_ENDS = re.compile(rb"\r\n|\n|\r")


class Events:
    """The events of one stream."""

    def __init__(self, largest: int) -> None:
        """Begin with none.

        Args:
            largest: Bytes of the largest event that is read.
        """
        self._largest = largest
        self._rest = bytearray()
        self._lines: list[bytes] = []
        self._size = 0
        self._count = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take in bytes, and return the data of each event that is whole.

        Raises:
            TooMuch: An event is larger than is read.
        """
        self._rest += chunk
        if b"\n" in chunk or b"\r" in chunk:
            yield from self._whole_lines()
        if self._size + len(self._rest) > self._largest:
            raise too_much(self._largest)

    def _whole_lines(self) -> Iterator[bytes]:
        held = b"\r" if self._rest.endswith(b"\r") else b""  # the other half of this end may be on its way
        *lines, rest = _ENDS.split(bytes(self._rest[: len(self._rest) - len(held)]))
        self._rest = bytearray(rest + held)
        self._count += len(lines)
        if self._count > MOST_LINES:
            raise TooMuch(f"it has more than {MOST_LINES:,} lines")
        for line in lines:
            if line.startswith(b"data:"):
                self._lines.append(line[5:].strip())
                self._size += len(line)
            elif not line and self._lines:
                yield self._data()

    def end(self) -> Iterator[bytes]:
        """Return the data of the last event, which need not have an end."""
        self._rest = bytearray(self._rest.removesuffix(b"\r") + b"\n\n")
        yield from self._whole_lines()

    def _data(self) -> bytes:
        lines, self._lines, self._size = self._lines, [], 0
        return lines[0] if len(lines) == 1 else b"\n".join(lines)


def read(data: bytes) -> Iterator[dict[str, Any]]:
    """Return what is in the data of an event: one object, or one in each line where a server ends events so.

    Raises:
        Unreadable: It is something else.
        TooMuch: It has more brackets than are read.
    """
    if data.count(b"[") + data.count(b"{") > MOST_BRACKETS:
        raise TooMuch(f"it has more than {MOST_BRACKETS:,} brackets and braces")
    try:
        yield _object(data)
    except Unreadable:
        if b"\n" not in data:
            raise
        for line in data.split(b"\n"):
            if line and line != DONE:
                yield _object(line)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json_in(data)
    except ValueError as error:
        raise Unreadable(f"in its stream is an event that is no JSON: {error}") from None
    except RecursionError:
        raise Unreadable("in its stream is an event that is nested too deeply") from None
    if not isinstance(found, dict):
        raise Unreadable("in its stream is an event that is no JSON object")
    return found


def json_in(data: bytes) -> Any:
    """Return what a JSON text says, as `json.loads` does, in a third of the time.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested too deeply.
    """
    try:
        return from_json(data)
    except ValueError:  # which it is also of half a character, of another encoding, or for what is nested
        return json.loads(data)
