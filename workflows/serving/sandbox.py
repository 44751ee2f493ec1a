"""The sandbox that runs are in: only their choreographies' modules are loaded anew for each run.

So a choreography's clocks, chances and files are caught, and nobody needs to know of passing modules through.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.program.choreography import Choreography
from workflows.serving.sdk import Around, ends, failure_in, thrown_out_for
from workflows.shown.changed import change_in_words

logger = logging.getLogger(__name__)


def sandbox(
    choreographies: Sequence[Choreography[..., Any]], a_run_ends: Callable[[], None] = lambda: None
) -> SandboxedWorkflowRunner:
    """Make what runs choreographies, and shares all modules that are imported by now but theirs.

    Args:
        choreographies: Those that are to be run.
        a_run_ends: Called, in any thread, when the program of a run has come to its end.
    """
    choreography_modules = {choreography.workflow.__module__ for choreography in choreographies}
    shared = {
        name
        for name in list(sys.modules)
        if name != "__main__" and not any(f"{module}.".startswith(f"{name}.") for module in choreography_modules)
    }
    return _Sandbox(SandboxRestrictions.default.with_passthrough_modules(*shared), a_run_ends)


class _Sandbox(SandboxedWorkflowRunner):
    def __init__(self, restrictions: SandboxRestrictions, a_run_ends: Callable[[], None]) -> None:
        super().__init__(restrictions=restrictions)
        self._a_run_ends = a_run_ends

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Sandboxed(super().create_instance(det), self._a_run_ends)


class _Sandboxed(Around):
    """A run in a sandbox, which is entered only for the run's own work.

    The SDK asks a run several times for each payload where it belongs, and each time enters the sandbox for it: that
    is more than half of what a call costs a worker. Runs' payloads are converted in the same way wherever they belong.
    """

    def __init__(self, inside: WorkflowInstance, a_run_ends: Callable[[], None]) -> None:
        super().__init__(inside)
        self._a_run_ends = a_run_ends
        self._failure: Any = None
        self._warned = False

    def activate(self, act: Any) -> Any:
        """Go on; say what can't be gone on with."""
        if (said := thrown_out_for(act)) is not None and not self._warned:
            self._warned = True
            self._tell_of_change(said)
        completion = super().activate(act)
        if completion.successful.commands:
            self._failure = failure_in(completion)
        if ends(completion):
            self._a_run_ends()
        return completion

    def _tell_of_change(self, failure: str) -> None:
        """Log of a run that was thrown out of the cache, as the core does not say it readably."""
        info = self.get_info()
        said = change_in_words(failure, ends=self._failure)
        logger.error("%s (%s) waits: %s", info.workflow_id, info.workflow_type, said)

    def get_serialization_context(self, command_info: object) -> None:
        """Say that a payload belongs to nothing in particular."""

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        """Say the same to what would store a payload elsewhere."""
        return StorageDriverStoreContext(target=None)
