"""What has come so far of the answer that a call waits for: for people who look at the call while it is in flight."""

from __future__ import annotations

from typing import Any

from activities.border.washing import said
from activities.models.hearing import Delta
from activities.models.model import BYTES_OF_A_TOKEN

SHOWN = 200
"""Characters of its end that are shown."""


class Received:
    """The answer that is coming; of several that are asked for at once, what came last."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._end = ""
        self._characters = 0

    def hear(self, delta: Delta) -> None:
        """Take in a piece, in whatever thread it is told."""
        self._characters += len(delta.text) + len(delta.tool)
        self._end = f"{self._end}{f' {delta.tool} ' if delta.tool else ''}{delta.text}"[-SHOWN:]

    def forget(self) -> None:
        """Begin anew, as the answer is whole."""
        self._end, self._characters = "", 0

    def told(self) -> dict[str, Any]:
        """Return what is told beside the checkpoint; nothing if nothing comes."""
        if not self._characters:
            return {}
        return {"receiving": {"tokens": self._characters // BYTES_OF_A_TOKEN + 1, "end": said(self._end, SHOWN)}}
