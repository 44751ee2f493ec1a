"""The keeper of a run's conversations: a child of the run that ends them when the run has ended, however it did.

Its parent close policy asks for its cancellation, which the server does when the run completes, fails, times out, is
cancelled or terminated: nothing of the run itself has to be alive for it. It does so as well when the run continues as
new; then the next run has a keeper of its own.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contract import CONVERSATION_KEEPER, END_CONVERSATIONS_ACTIVITY, RUN_GOES_ON_ACTIVITY


@workflow.defn(name=CONVERSATION_KEEPER, sandboxed=False)
class ConversationKeeper:
    """Waits for the end of a run and ends its conversations."""

    @workflow.run
    async def run(self, owner: str, instances: list[str]) -> str:
        """Wait to be cancelled; then end the conversations unless the run goes on.

        Args:
            owner: First run id of the run.
            instances: Names of its instances, those whose conversations were never begun included.
        """
        try:
            await workflow.wait_condition(lambda: False)
        except asyncio.CancelledError:
            return await asyncio.shield(asyncio.ensure_future(self._end(owner, instances)))
        raise AssertionError

    async def _end(self, owner: str, instances: list[str]) -> str:
        parent = workflow.info().parent
        assert parent is not None
        if await _locally(RUN_GOES_ON_ACTIVITY, parent.workflow_id, owner):
            return "the run continued as new"
        await _locally(END_CONVERSATIONS_ACTIVITY, owner, parent.workflow_id, instances)
        return "ended the run's conversations"


async def _locally(activity: str, *arguments: object) -> object:
    return await workflow.execute_local_activity(
        activity,
        args=arguments,
        start_to_close_timeout=timedelta(seconds=30),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=30)),
    )
