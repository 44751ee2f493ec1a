"""What this wing relies on that Temporal's SDK does not promise: each such thing stands here, once.

`tests/activities/border/test_sdk.py` has a test for each, which fails where another version of the SDK does otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Payload


def in_a_workflow() -> bool:
    """Whether a workflow's code is executing: as the SDK says, without importing it where nobody else has.

    Relies on the attribute that it sets on a workflow's loop.
    """
    try:
        return getattr(asyncio.get_running_loop(), "__temporal_workflow_runtime", None) is not None
    except RuntimeError:
        return False


def heartbeat_sender() -> Callable[[Sequence[Payload]], None]:
    """Return what sends details for the activity whose code is executing, from any thread.

    The SDK's own way schedules a coroutine on the loop, which does not come to it while the loop is held. Under it is
    a plain call into its core, which any thread may make.
    """
    from temporalio import activity
    from temporalio.bridge.proto import ActivityHeartbeat

    told_by = activity._Context.current().heartbeat
    worker = told_by.__self__._worker  # type: ignore[union-attr]
    token = activity.info().task_token

    def send(details: Sequence[Payload]) -> None:
        worker._bridge_worker().record_activity_heartbeat(ActivityHeartbeat(task_token=token, details=details))

    return send


def quieten_the_sdk() -> None:
    """Have the logs leave out what the SDK tells of an activity that fails: a page, where it says a sentence itself.

    Relies on the names of its loggers.
    """
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    logging.getLogger("temporalio.worker").setLevel(logging.WARNING)
