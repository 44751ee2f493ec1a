"""How much fits, and how long it may take: limits of the server, and those that are kept because of them."""

from __future__ import annotations

from dataclasses import dataclass

_FOR_CODECS = 64 * 1024
"""Bytes for metadata and for what a codec adds."""

PAYLOAD_LIMIT = 2 * 1024 * 1024 - _FOR_CODECS
"""Bytes in one payload that a server takes: 2 MB, without what codecs add."""

STORED_FROM = 256 * 1024
"""Bytes of a payload from which on it goes to the store, where there is one, and only a reference to the server."""

STORED_LIMIT = 64 * 1024 * 1024
"""Bytes in one payload that a store takes: each is held in memory whole, several times."""

MESSAGE_LIMIT = 4_000
"""Characters in an error message. A server loses an activity's failure that is too long, and the call with it."""

HEARTBEAT_TIMEOUT_S = 5.0
"""Seconds without a heartbeat after which a call is given to another worker."""


@dataclass(frozen=True)
class Room:
    """How large a payload may be: the one place that knows.

    >>> Room().takes(3_000_000), Room(stores=True).takes(3_000_000)
    (False, True)

    Attributes:
        stores: Whether what is large goes to a store.
    """

    stores: bool = False

    @property
    def bytes(self) -> int:
        """The most bytes."""
        return STORED_LIMIT - _FOR_CODECS if self.stores else PAYLOAD_LIMIT

    def takes(self, size: int) -> bool:
        """Whether so many bytes fit."""
        return size <= self.bytes

    def refusal(self, what: str, instead: str) -> str:
        """Say that something is too large, and what to do.

        Args:
            what: What it is and how large, as the beginning of a sentence: `the result is 3,000,000 bytes`.
            instead: What to do otherwise, as a sentence.
        """
        if self.stores:
            return f"{what}; {self.bytes:,} is the most that the store takes. {instead}"
        return (
            f"{what}; {self.bytes:,} is the most that the server takes. {instead} Or set PAYLOAD_STORE for all "
            f"processes: then {Room(stores=True).bytes:,} is the most."
        )
