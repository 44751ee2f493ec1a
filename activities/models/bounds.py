"""How much is read of what providers send, and what is raised of what is not."""

from __future__ import annotations

LARGEST_RESPONSE = 2_000_000
"""Bytes of a response, unpacked, that are read unless MAX_RESPONSE_BYTES says otherwise. The server records no more."""

LARGEST_ERROR = 64_000
"""Bytes of an error's body that are read; the rest is left."""

SHORT_ERROR = 8_000
"""Bytes of an error's body that litellm gets to see."""

MOST_BRACKETS = 200_000
"""Brackets and braces in a response that is read: to make as many lists and objects holds up every thread."""

AROUND_PIECES = 20
"""By how much a stream may be larger than what it says: a word of four letters comes in 200 bytes."""

MOST_LINES = 1_000_000
"""Lines in a stream that is read; three are a piece of an answer."""


class TooMuch(Exception):
    """A provider sent a longer response than is read."""


class Unreadable(Exception):
    """A provider sent an answer that is none."""


class BrokeOff(Unreadable):
    """An answer ended before its end."""


class Stalled(Exception):
    """An answer began, and then nothing came any more."""


class NoKey(Exception):
    """A request would have gone out without a key to a provider that wants one."""


def too_much(limit: int) -> TooMuch:
    """Return what is raised of a response that is longer than a number of bytes."""
    return TooMuch(f"it sends more than {limit:,} bytes")
