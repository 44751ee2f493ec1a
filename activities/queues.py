"""Who serves a task queue: asked by runs whose calls get no answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from activities.contract import BREATHE_ACTIVITY, UNSERVED_ACTIVITY

_ALIVE_S = 75.0
"""A poller that has not been seen for longer is gone: a poll lasts 60 s, and the server lists pollers for 5 minutes."""


def unserved_queues(client: Client) -> Callable[[list[str]], Awaitable[list[str]]]:
    """Return the local activity that tells which of some task queues no worker polls for activities."""

    @activity.defn(name=UNSERVED_ACTIVITY)
    async def unserved(names: list[str]) -> list[str]:
        return [name for name in names if not await is_served(client, name)]

    return unserved


@activity.defn(name=BREATHE_ACTIVITY)
async def breathe() -> None:
    """Do nothing."""


async def is_served(
    client: Client, name: str, kind: TaskQueueType.ValueType = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
) -> bool:
    """Return whether any worker polls a task queue, for activities or for what else it has.

    Raises:
        RPCError: The server does not answer.
    """
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind)
    )
    return any(time.time() - poller.last_access_time.seconds < _ALIVE_S for poller in described.pollers)
