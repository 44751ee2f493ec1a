"""JSON lines, compressed: how what is much crosses between workflows. Packed pieces can be put one after the other."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any


def pack(lines: Iterable[object]) -> bytes:
    """Write values as JSON lines; the same bytes whenever it is done again."""
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
    return gzip.compress(text.encode(), mtime=0)


def text_of(packed: bytes) -> str:
    """Return the lines that `pack` has written, as text."""
    return gzip.decompress(packed).decode()


def values_in(text: str) -> Iterator[Any]:
    """Read the values from lines of text."""
    return map(json.loads, text.splitlines())


def unpack(packed: bytes) -> Iterator[Any]:
    """Read what `pack` has written."""
    return values_in(text_of(packed))
