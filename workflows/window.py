"""How many calls a run has in a task queue at a time: enough to keep its workers busy, and few enough to be fair.

Who comes later stands behind what is in the queue already, on a server that knows nothing of fairness. So a run that
finds its calls waiting longer than they take sends fewer, until about as many wait as are being worked on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

LEAST = 2
"""Calls that a run has in a queue in any case."""

PATIENCE_S = 0.5
"""Seconds that a call may wait however little it takes: a busy server needs them to hand it on."""


class Window:
    """The places that a run's calls may take in a queue; first come, first served.

    Attributes:
        size: How many there are, for now.
    """

    def __init__(self, most: int) -> None:
        """Make a window.

        Args:
            most: The places that there are at first and at most.
        """
        self.size = float(most)
        self._most = most
        self._taken = 0
        self._line: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        """Take a place, waiting for one if need be."""
        self._line.append(asyncio.get_running_loop().create_future())
        place = self._line[-1]
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back()
            elif place in self._line:
                self._line.remove(place)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the place back."""
        if kind is not GeneratorExit:  # a run that the collector closes can do nothing
            self._give_back()

    def observe(self, waited: float, took: float) -> None:
        """Learn from a call that has ended.

        Args:
            waited: Seconds that it was in the queue.
            took: Seconds that it ran.
        """
        patience = max(took, PATIENCE_S)
        right = self.size * 2 * patience / (waited + patience)
        # Each call is one voice among those in flight, so that one that is odd moves little.
        self.size = min(max(self.size + (right - self.size) / self.size, LEAST), self._most)
        self._hand_out()

    def _give_back(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._line and self._taken < int(self.size):
            place = self._line.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(None)
