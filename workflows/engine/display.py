"""What a run, or a shard of it, tells of itself when somebody asks: how it is, how far, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from temporalio import workflow

from activities.contract.names import team_of
from workflows.engine.calls import Calls
from workflows.engine.model_waits import ModelWaits
from workflows.shown.board import Board
from workflows.shown.listing import Word
from workflows.shown.progress import Limited, Progress
from workflows.shown.reading import calls_running, progress, status
from workflows.tree.scope import Scope


class Display:
    """Puts together what the parts of a workflow know.

    Attributes:
        unserved: Queues that nobody serves, as far as the worker knows: nothing that the run does depends on it.
        instances: The size of each role's pool.
    """

    def __init__(
        self,
        main: Scope,
        board: Board,
        calls: Calls,
        models: ModelWaits,
        waits: Sequence[Callable[[], Sequence[str]]] = (),
        notes: Sequence[Callable[[], Sequence[str]]] = (),
        paused: Callable[[], str | None] = lambda: None,
        budget: Callable[[], dict[str, Limited]] = dict,
    ) -> None:
        """Put parts together.

        Args:
            main: The root of the tree that says what goes on.
            board: What calls have come to.
            calls: In which queues they are.
            models: Which are waited for.
            waits: What else says what is waited for.
            notes: What says what else is worth knowing.
            paused: Says why no calls are made; empty if a person has paused the run, None if they are made.
            budget: Says how far the limits are.
        """
        self.unserved: frozenset[str] = frozenset()
        self.instances: Mapping[str, int] = {}
        self._main = main
        self._board = board
        self._calls = calls
        self._models = models
        self._waits = waits
        self._notes = notes
        self._paused = paused
        self._budget = budget

    @workflow.query(description="How far the run is, who does what, what it has used, and what it waits for.")
    def progress(self) -> Progress:
        """Tell how far the run is."""
        queued, team = self._board.queued(self._calls.queued), team_of(workflow.info().task_queue)
        unserved = {queue: calls for queue, calls in queued.items() if calls and queue in self.unserved}
        waits = list(dict.fromkeys([*(nobody_serves(*one, team) for one in unserved.items()), *self.waits()]))
        told = progress(
            self._main,
            self._board,
            choreography=workflow.info().workflow_type,
            status=self._status(waits, calls_running(self._main, self._board) - sum(unserved.values())),
            waits_for=waits,
            instances=self.instances,
        )
        told.notes = [note for notes in self._notes for note in notes()]
        told.budget = self._budget()
        return told

    def status(self) -> str:
        """Say in words how the run is."""
        return self._status(self.waits(), calls_running(self._main, self._board))

    def word(self) -> Word:
        """Say it in one."""
        return cast("Word", self.status().partition(":")[0])

    def waits(self) -> list[str]:
        """Say what the run waits for, as far as it knows itself."""
        return list(dict.fromkeys(wait for waits in self._waits for wait in waits()))

    def _status(self, waits: list[str], calls: int) -> str:
        # Calls of which somebody may be working on some, if not all wait for models.
        stuck = not calls or self._models.hold_all
        return status(self._board, waits, paused=self._paused(), stuck=stuck)


def nobody_serves(queue: str, calls: int, team: str = "") -> str:
    """Say that calls wait in a queue in vain, and what to do."""
    option = f"--team {team} " if team else ""
    return (
        f"nobody serves the task queue {queue}: {calls} calls wait in it. "
        f"Start a worker for it: python worker.py {option}--serve {queue.removeprefix(f'{team}.')}"
    )
