"""How many calls a run has in a task queue at a time: enough to keep its workers busy, and few enough to be fair.

Who comes later stands behind what is in the queue already, on a server that knows nothing of fairness. So a run whose
calls wait longer than they take has only as many in the queue as end in twice the time that one takes: about as many
wait, then, as are being worked on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from workflows.engine.sdk import STOPPED

LEAST = 2
"""Calls that a run has in a queue in any case."""

PATIENCE_S = 0.5
"""Seconds that a call may wait however little it takes: a busy server needs them to hand it on."""


_FEWEST = 8
"""Calls that have to have ended before anything is concluded from their pace."""


class ConcurrencyLimit:
    """The places that a run's calls may take in a queue; first come, first served.

    Attributes:
        size: How many there are, for now.
    """

    def __init__(self, most: int) -> None:
        """Make a limit.

        Args:
            most: The places that there are at first and at most.
        """
        self.size = float(most)
        self._most = most
        self._taken = 0
        self._took = 0.0
        self._ended: deque[float] = deque(maxlen=max(most, _FEWEST))
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
        if kind is None or issubclass(kind, STOPPED):
            self._give_back()

    def observe(self, waited: float, took: float, now: float) -> None:
        """Learn from a call that has ended.

        Args:
            waited: Seconds that it was in the queue.
            took: Seconds that it ran.
            now: The time, in seconds.
        """
        self._ended.append(now)
        self._took += (took - self._took) / min(len(self._ended), self.size)
        patience = max(self._took, PATIENCE_S)
        if self._line or waited > patience:  # else the run is held by something else
            self._learn(patience)
            self._hand_out()

    def _learn(self, patience: float) -> None:
        """Take a step towards the right size.

        It follows from the pace at which calls end, and not from how long they waited: that tells of the size that the
        limit had a while ago, and following it would swing.
        """
        lately = min(len(self._ended), max(_FEWEST, int(self.size)))
        seconds = self._ended[-1] - self._ended[-lately]
        if lately < _FEWEST or seconds <= 0:
            return
        right = (lately - 1) / seconds * (self._took + patience)
        self.size = min(max(self.size + (right - self.size) / self.size, LEAST), self._most)

    def _give_back(self) -> None:
        self._taken -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._line and self._taken < int(self.size):
            place = self._line.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(None)
