"""How the places of a run's trace travel: in Temporal's headers, to its calls and its shards."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from activities.contract.identity import step_of
from activities.contract.spans import Place, Tell
from activities.measures.spans import tracing
from workflows.engine.shard import ShardOrder
from workflows.engine.traces import TELL_SPAN, Traces


class Tracing(Interceptor):
    """Has the runs and the calls of a worker tell of their parts."""

    def __init__(self, tell: Tell) -> None:
        """Prepare to be told.

        Args:
            tell: Whom they tell.
        """
        self._tell = tell

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return what hands places on from workflows, and give them whom they tell."""
        input.unsafe_extern_functions[TELL_SPAN] = self._tell
        return _OfWorkflows

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Return what takes a place up in a call."""
        return _OfCalls(next, self._tell)


class _OfWorkflows(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_HandingOn(outbound))


class _HandingOn(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        traces = _traces()
        if traces and (place := traces.place_of_call(step_of(input.activity_id or ""))):
            input.headers = place.onto(input.headers)
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        order, traces = input.args[0] if input.args else None, _traces()
        if isinstance(order, ShardOrder) and traces and (place := traces.place_of_scatter(order.scatter)):
            input.headers = place.onto(input.headers)
        return await super().start_child_workflow(input)


class _OfCalls(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, tell: Tell) -> None:
        super().__init__(next)
        self._tell = tell

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        with tracing(self._tell, Place.in_headers(input.headers)):
            return await super().execute_activity(input)


def _traces() -> Traces | None:
    found = getattr(workflow.instance(), "traces", None)
    return found if isinstance(found, Traces) else None
