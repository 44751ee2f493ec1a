"""How much fits, and how long it may take: limits of the server, and those that are kept because of them."""

from __future__ import annotations

PAYLOAD_LIMIT = 2 * 1024 * 1024 - 64 * 1024
"""Bytes in one payload. The server's limit is 2 MB; the rest is room for metadata and for a codec's overhead."""

MESSAGE_LIMIT = 4_000
"""Characters in an error message. A server loses an activity's failure that is too long, and the call with it."""

HEARTBEAT_TIMEOUT_S = 5.0
"""Seconds without a heartbeat after which a call is given to another worker."""
