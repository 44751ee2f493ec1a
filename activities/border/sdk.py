"""What this wing relies on that Temporal's SDK does not promise: each such thing stands here, once.

`tests/activities/border/test_sdk.py` has a test for each, which fails where another version of the SDK does otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.bridge.proto import ActivityHeartbeat


def heartbeat_sender() -> Callable[[Sequence[Payload]], None]:
    """Return what sends details for the activity whose code is executing, from any thread.

    The SDK's own way schedules a coroutine on the loop, which does not come to it while the loop is held. Under it is
    a plain call into its core, which any thread may make.
    """
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
