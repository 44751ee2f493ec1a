"""Who serves a task queue: asked by workers of choreographies, and by whoever looks at a run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from temporalio import activity
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from activities.contract.names import BREATHE_ACTIVITY

_ALIVE_S = 75.0
"""A poller that has not been seen for longer is gone: a poll lasts 60 s, and the server lists pollers for 5 minutes."""

_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY


@activity.defn(name=BREATHE_ACTIVITY)
async def breathe() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Look:
    """What is seen of a task queue.

    Attributes:
        queue: Its name.
        served: Whether any worker polls it.
        waiting: How many tasks wait in it, about.
    """

    queue: str
    served: bool
    waiting: int


async def look_at(client: Client, queue: str, kind: TaskQueueType.ValueType = _ACTIVITIES) -> Look:
    """Look at a task queue, for activities or for what else it has.

    Raises:
        RPCError: The server does not answer.
    """
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind, report_stats=True
        )
    )
    served = any(time.time() - poller.last_access_time.seconds < _ALIVE_S for poller in described.pollers)
    return Look(queue, served, described.stats.approximate_backlog_count)


async def is_served(client: Client, queue: str, kind: TaskQueueType.ValueType = _ACTIVITIES) -> bool:
    """Return whether any worker polls a task queue.

    Raises:
        RPCError: The server does not answer.
    """
    return (await look_at(client, queue, kind)).served
