"""The handlers of a workflow's parts: they are served as its own, with their descriptions."""

from __future__ import annotations

import uuid

import pytest
from temporalio import workflow
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.worker import Worker

from workflows.engine.handlers import serving_handlers_of


class Counter:
    """A part."""

    def __init__(self) -> None:
        self.count = 0

    @workflow.signal(description="Add to it.")
    def add(self, number: int) -> None:
        """Add."""
        self.count += number

    @workflow.query(description="What it has come to.")
    def total(self) -> int:
        """Tell."""
        return self.count

    @workflow.update(description="Set it anew.")
    def reset(self, number: int) -> str:
        """Set."""
        self.count = number
        return f"now {number}"

    @reset.validator
    def _refuse_reset(self, number: int) -> None:
        if number < 0:
            raise ValueError("not below zero")


@workflow.defn(sandboxed=False)
@serving_handlers_of(counter=Counter)
class Counting:
    """Counts to a hundred."""

    @workflow.init
    def __init__(self) -> None:
        self.counter = Counter()

    @workflow.run
    async def run(self) -> int:
        """Wait for it."""
        await workflow.wait_condition(lambda: self.counter.count >= 100)
        return self.counter.count


async def test_a_part_takes_signals_queries_and_updates_of_its_workflow(client: Client) -> None:
    queue = f"counting-{uuid.uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Counting]):
        run = await client.start_workflow(
            Counting.run, id=queue, task_queue=queue, start_signal="add", start_signal_args=[3]
        )
        await run.signal("add", 4)
        assert await run.query("total") == 7
        assert await run.execute_update("reset", 50) == "now 50"
        with pytest.raises(WorkflowUpdateFailedError):
            await run.execute_update("reset", -1)
        told: WorkflowMetadata = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        await run.signal("add", 50)
        assert await run.result() == 100
    defined = told.definition
    described = {
        one.name: one.description
        for one in [*defined.signal_definitions, *defined.query_definitions, *defined.update_definitions]
    }
    assert described["add"] == "Add to it."
    assert described["total"] == "What it has come to."
    assert described["reset"] == "Set it anew."
