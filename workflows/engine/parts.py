"""What a run knows of its parts, the shards of large scatters: how far they are, and what they have sent so far."""

from __future__ import annotations

from temporalio import workflow

from workflows.engine.packing import text_of
from workflows.errors import NoSuchPart
from workflows.shown.board import Board, Report
from workflows.steering.admission import SteeringState
from workflows.steering.budget import Purse
from workflows.steering.steering import Steering


class Parts:
    """The shards that are at work for a run."""

    def __init__(self, board: Board, steering: Steering) -> None:
        """Begin without any.

        Args:
            board: Where it is shown how far they are.
            steering: What lends them their shares of the budget.
        """
        self._board = board
        self._steering = steering
        self._results: dict[str, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._steering.shares.parts)

    def begin(self, shard: str, share: float) -> SteeringState:
        """Return how a shard begins: with a share, from 0 to 1, of what is left of the budget."""
        return self._steering.shares.lend(shard, share)

    def end(self, shard: str) -> bytes:
        """Return the results that a shard has sent, and forget what it reported."""
        self._board.part_ends(shard)
        self._steering.shares.end(shard)
        return b"".join(self._results.pop(shard, ()))

    @workflow.signal(description="Results of a shard that are too many to be kept until it ends.")
    def shard_results(self, step: str, packed: bytes) -> None:
        """Take results of a shard."""
        if step not in self._steering.shares.parts:
            raise NoSuchPart(f"no shard {step} is at work")
        text_of(packed)  # what can't be unpacked is refused here: later it would fail the scatter
        self._results.setdefault(step, []).append(packed)

    @workflow.signal(description="How far a shard is.")
    def shard_reports(self, step: str, shard: str, report: Report, purse: Purse) -> None:
        """Note how far a shard of a scatter is."""
        if shard in self._steering.shares.parts:  # else it has ended, and a late report came after its last one
            self._board.part_reports(step, shard, report)
            self._steering.part_reports(shard, purse)

    @workflow.signal(description="A part of the run can't make a call with what is left of its share.")
    def part_wants(self, part: str, request: int, method: str, purse: Purse) -> None:
        """Give a part more as soon as there is some."""
        if self._steering.shares.request(part, request, method, purse):
            self._steering.part_reports(part, purse)
