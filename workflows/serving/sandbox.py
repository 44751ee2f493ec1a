"""The sandbox that runs are in: only their choreographies' modules are loaded anew for each run.

So a choreography's clocks, chances and files are caught, and nobody needs to know of passing modules through.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from temporalio.bridge.proto.workflow_activation import RemoveFromCache
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

from workflows.program.choreography import Choreography
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


_NONDETERMINISM = RemoveFromCache.EvictionReason.NONDETERMINISM

_ENDS = ("complete_workflow_execution", "fail_workflow_execution", "cancel_workflow_execution")
"""The commands by which a run ends."""


class _Sandboxed(WorkflowInstance):
    """A run in a sandbox, which is entered only for the run's own work.

    The SDK asks a run several times for each payload where it belongs, and each time enters the sandbox for it: that
    is more than half of what a call costs a worker. Runs' payloads are converted in the same way wherever they belong.
    """

    def __init__(self, inside: WorkflowInstance, ends: Callable[[], None]) -> None:
        self._inside = inside
        self._ends = ends
        self._last: Any = ()
        self._told = False

    def activate(self, act: Any) -> Any:
        """Go on; say what can't be gone on with."""
        for job in act.jobs:
            if job.remove_from_cache.reason == _NONDETERMINISM and not self._told:
                self._told = True
                self._tell_of_change(job.remove_from_cache.message)
        completion = self._inside.activate(act)
        self._last = completion.successful.commands or self._last
        if any(command.WhichOneof("variant") in _ENDS for command in completion.successful.commands):
            self._ends()
        return completion

    def _tell_of_change(self, failure: str) -> None:
        """Log of a run that was thrown out of the cache, as the engine does not say it readably."""
        info = self._inside.get_info()
        failures = [c.fail_workflow_execution.failure for c in self._last if c.HasField("fail_workflow_execution")]
        said = change_in_words(failure, ends=failures[0] if failures else None)
        logger.error("%s (%s) waits: %s", info.workflow_id, info.workflow_type, said)

    def get_serialization_context(self, command_info: object) -> None:
        """Say that a payload belongs to nothing in particular."""

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        """Say the same to what would store a payload elsewhere."""
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        """Return what is known of the run."""
        return self._inside.get_info()

    def get_thread_id(self) -> int | None:
        """Return the thread in which it goes on."""
        return self._inside.get_thread_id()
