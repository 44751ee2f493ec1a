"""How a process is asked what its calls say: by a query, which leaves no trace in any history.

A query goes to whoever serves the task queue of its workflow. So each process that makes calls serves one of its own,
named after what it is called on the server, and the workflow on it is one in name only: it ends as soon as it begins,
and a closed workflow answers queries all the same. Whoever asks first begins it, so nothing of this is done, stored or
paid for while nobody listens.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.calls.in_flight import said_here
from activities.contract.names import HEARING, hearing_of
from activities.contract.words import Asked, Saying


@workflow.defn(name=HEARING, sandboxed=False)
class Hearing:
    """Somebody to ask."""

    @workflow.run
    async def run(self) -> None:
        """Have been there."""

    @workflow.query(description="What calls that this process makes say, while they are in flight.")
    def saying(self, asked: Asked) -> list[Saying]:
        """Tell what was said since: of the process that answers, and not of any history."""
        return said_here(asked)


def hearing_worker(client: Client) -> Worker:
    """Return the worker by which this process is asked."""
    return Worker(
        client,
        task_queue=hearing_of(client.identity),
        workflows=[Hearing],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,  # there is nothing to be kept of them
        max_concurrent_workflow_task_polls=1,
        no_remote_activities=True,
    )
