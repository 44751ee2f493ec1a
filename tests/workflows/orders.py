"""What a team has beside its choreographies: a workflow and an activity of its own."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def ship(order: str) -> str:
    return f"{order} is on its way"


@workflow.defn
class Order:
    """Ships, and has a card written by a choreography."""

    @workflow.run
    async def run(self, order: str) -> list[str]:
        if order == "unknown":
            raise ValueError("no such order")
        shipped = await workflow.execute_activity(ship, order, start_to_close_timeout=timedelta(seconds=20))
        if order == "without a card":
            return [shipped]
        card: str = await workflow.execute_child_workflow("card_for", order, task_queue="choreography", result_type=str)
        return [shipped, card]
