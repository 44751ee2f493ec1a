"""Has a conversation take in several commits in one workflow task, where nobody waits for it.

A workflow task is three events and some milliseconds of both sides. Signals that arrive while one is under way cost an
event each; so a task that brings nothing but commits is held for a moment. Whoever asks the conversation would wait as
long: where a worker was asked lately, since other workers make calls of the same instances, it holds nothing.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from activities.contract.names import CONVERSATION
from workflows.serving.sdk import Around, asks, brings_only

HELD_S = 0.8
"""Seconds for which a task is held. The SDK takes a task of two seconds for one that hangs."""

MOST_HELD = 50
"""Tasks that a worker holds at a time: each takes one of its slots, and a thread."""

ASKED_LATELY_S = 60.0
"""Seconds after a question in which nothing is held."""


class Batching(UnsandboxedWorkflowRunner):
    """Runs the harness's own workflows, and holds commits to conversations."""

    def __init__(self, held: float = HELD_S) -> None:
        """Run workflows.

        Args:
            held: Seconds for which a task that brings only commits is held.
        """
        super().__init__()
        self._held = held
        self._places = threading.Semaphore(MOST_HELD)
        self._asked_at = float("-inf")

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Make an instance of a workflow."""
        made = super().create_instance(det)
        return _Held(made, self) if det.info.workflow_type == CONVERSATION else made

    def before(self, act: Any) -> None:
        """Hold a task, or not."""
        if asks(act):
            self._asked_at = time.monotonic()
        if not brings_only(act, "commit") or time.monotonic() - self._asked_at < ASKED_LATELY_S:
            return
        if self._places.acquire(blocking=False):
            try:
                time.sleep(self._held)
            finally:
                self._places.release()


class _Held(Around):
    def __init__(self, inside: WorkflowInstance, batching: Batching) -> None:
        super().__init__(inside)
        self._batching = batching

    def activate(self, act: Any) -> Any:
        """Go on."""
        self._batching.before(act)
        return super().activate(act)
