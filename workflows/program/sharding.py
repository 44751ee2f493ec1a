"""How a large scatter is divided over child workflows, and put together again.

It can be where the body returns a bare call, which is data, does not ask which instance makes it, and does not wait for
people, who are asked on the run itself. Each line of shards holds a share of the pool and draws from the same items, so
that none waits for another.
"""

from __future__ import annotations

import inspect
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception

from activities.contract.branches import MAIN, branch_key, branch_of
from activities.contract.envelope import Position
from activities.contract.identity import shard_step
from activities.contract.names import SHARD
from activities.declarations.person import asks_people
from activities.workspace.repository import access_of
from workflows.engine.calls import CALLS_IN_FLIGHT
from workflows.engine.happenings import Outcome, Step
from workflows.engine.packing import pack, text_of, values_in
from workflows.engine.request import Request, Service
from workflows.engine.run import Run
from workflows.engine.shard import ShardOrder
from workflows.engine.together import together
from workflows.errors import CallFailed
from workflows.program.call import Call
from workflows.program.label import label
from workflows.program.role import AsksForName, Role, any_instance, pool_of
from workflows.tree.current import inside
from workflows.tree.scope import ScatterScope

SHARD_FROM = 500
"""Items from which a scatter is divided."""

CALLS_PER_SHARD = 2_000
"""Calls of one shard: each takes at most six events of its history, of which the server would keep 51,200."""

_MOST_LINES = 90
"""Shards at a time: the ends of more could arrive during one workflow task. So 4,050 calls run at a time at most."""

_ORDER_BYTES = 2_500_000
"""Bytes of arguments in one shard's order, before they are compressed."""

Failed = Callable[[int, str, Exception], object]


class Sharding:
    """A scatter that is divided."""

    def __init__(
        self, role: Role, items: Sequence[Any], body: Callable[[Any, Any], Awaitable[Any]], scope: ScatterScope
    ) -> None:
        """Prepare to divide a scatter.

        Args:
            role: Whose instances do the work.
            items: All of them.
            body: What is called for each.
            scope: The scatter in the run's tree.
        """
        self.results: list[Any] = [None] * len(items)
        self._role = role
        self._items = items
        self._body = body
        self._step = scope.path
        self._scope = scope
        self._todo = deque(range(len(items)))
        self._others: list[int] = []
        self._instance, self._target = any_instance(role)
        self._run = Run.current()
        self._pool_size = max(1, min(len(pool_of(role)), len(items)))
        self._lines = min(math.ceil(self._pool_size / CALLS_IN_FLIGHT), _MOST_LINES)
        self._share = min(math.ceil(self._pool_size / self._lines), CALLS_IN_FLIGHT)
        rounds = math.ceil(len(items) / (self._lines * CALLS_PER_SHARD)) or 1
        at_work = min(self._pool_size, self._lines * self._share)
        self._items_each = len(items) / (at_work * rounds)

    def is_possible(self) -> bool:
        """Whether it is worth it, and the first item's body is a bare call."""
        if self._pool_size <= CALLS_IN_FLIGHT and len(self._items) <= SHARD_FROM:
            return False
        if access_of(self._role._agent) == "shared":  # one call at a time, which no part could see to
            return False
        try:
            with self._run.unawaited.apart():
                return self._call(0) is not None
        except Exception:  # the body's own: it is raised again where it can be told whose it is
            return False

    async def run(self, failed: Failed, *, stop_at_error: bool) -> list[int]:
        """Do the bare calls in shards.

        Args:
            failed: Gets an item's index, an instance and an error; returns the item's result, or raises.
            stop_at_error: Whether it raises.

        Returns:
            The indices of the items whose body is something else.
        """
        await together([self._line(number, failed, stop_at_error) for number in range(1, self._lines + 1)])
        return sorted(self._others)

    async def _line(self, number: int, failed: Failed, stop_at_error: bool) -> None:
        with self._scope.child(f"{self._step}.line-{number}", f"a part of step {self._step}") as own:
            while self._todo:
                async with pool_of(self._role).claimed_several(own, self._share) as instances:
                    calls = self._draw(instances, failed)
                    if calls:
                        await self._make(calls, instances, failed, stop_at_error)

    def _draw(self, instances: Sequence[str], failed: Failed) -> dict[int, tuple[Call[Any], Request]]:
        """Take as many items as these instances should do in one shard, by their indices."""
        calls: dict[int, tuple[Call[Any], Request]] = {}
        size = math.ceil(self._items_each * len(instances))
        room = _ORDER_BYTES
        while self._todo and len(calls) < size and room > 0:
            index = self._todo.popleft()
            try:
                with self._run.unawaited.all_but_one() as awaited:
                    call = self._call(index)
                    awaited += [call] if call else []
                if call is None:
                    self._others.append(index)
                    continue
                request = call.request()
            except Exception as error:
                self.results[index] = failed(index, instances[0], error)
                continue
            room -= len(request.arguments)
            calls[index] = (call, request)
        return calls

    def _call(self, index: int) -> Call[Any] | None:
        """Return the bare call that the body makes of an item, or None."""
        with self._scope.child(f"{self._step}.{index + 1}", label(self._items[index])) as own, inside(own):
            try:
                made: Any = self._body(self._instance, self._items[index])
            except AsksForName:
                return None
        if isinstance(made, Call) and made.target is self._target and not asks_people(made.agent, made.method):
            return made
        if inspect.iscoroutine(made):
            made.close()
        return None

    async def _make(
        self,
        calls: Mapping[int, tuple[Call[Any], Request]],
        instances: Sequence[str],
        failed: Failed,
        stop_at_error: bool,
    ) -> None:
        services = {call.name: call.service(self._run) for call, _ in calls.values()}
        names = list(services)
        self._scope.does(names[0])
        requests = [[names.index(call.name), *request] for call, request in calls.values()]
        order = ShardOrder(
            scatter=self._step,
            step=shard_step(
                f"{self._step}.{min(calls) + 1}-{max(calls) + 1}",
                json.dumps([names, instances, stop_at_error, requests]),
            ),
            services=list(services.values()),
            instances=list(instances),
            stop_at_error=stop_at_error,
            positions=self._positions(services.values(), instances),
        )
        step = Step(order.step, f"{len(calls)} calls of {', '.join(names)}")
        outcome = await self._run.journal.step(step, lambda: self._send(order, pack(requests)))
        await self._take(outcome, calls, instances, failed)

    async def _send(self, order: ShardOrder, requests: bytes) -> Outcome:
        run = self._run
        async with run.lifetime.busy():
            await run.shared.known()
            await run.calls.room_for(len(requests))
            try:
                last = await workflow.execute_child_workflow(
                    SHARD,
                    args=[order, requests, run.parts.begin(order.step, self._part_of_budget())],
                    priority=run.calls.priority,
                    id=f"{workflow.info().workflow_id}/{order.step}",
                    result_type=bytes,
                    parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                    cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                    id_reuse_policy=WorkflowIDReusePolicy.TERMINATE_IF_RUNNING,
                    static_summary=f"a part of step {self._step}: {', '.join(s.name for s in order.services)}",
                )
            except ChildWorkflowError as error:
                run.parts.end(order.step)
                if is_cancelled_exception(error):
                    return Outcome()
                return Outcome(error=("ShardFailed", f"{error.workflow_id}: {error.cause or error}"), cause=error)
            return Outcome(text_of(run.parts.end(order.step) + last))

    def _positions(self, services: Iterable[Service], instances: Sequence[str]) -> dict[str, Position]:
        """Return where the instances stand that have begun to remember, and their branches."""
        names = [service.conversation(instance) for service in services for instance in instances]
        if any(service.access for service in services):
            names += [branch_key(branch) for branch in (MAIN, *map(branch_of, instances))]
        return self._run.calls.positions.among(names)

    def _part_of_budget(self) -> float:
        """Return the share of what is left that a shard gets, of as many as work side by side."""
        return 1 / max(1, self._lines - len(self._run.parts))

    async def _take(
        self,
        outcome: Outcome,
        calls: Mapping[int, tuple[Call[Any], Request]],
        instances: Sequence[str],
        failed: Failed,
    ) -> None:
        """Put results into their places, and what was not begun back to what is to be done."""
        indices = list(calls)
        results: list[Any]
        if outcome.data is None:
            results = [(number, instances[0], None, outcome.error) for number in range(len(indices))]
        else:
            *results, (_, positions) = values_in(outcome.data)
            if not outcome.past:
                told = {name: Position.model_validate(position) for name, position in positions.items()}
                self._run.calls.positions.move_all(told)
        left = dict.fromkeys(indices)
        for number, instance, data, error in sorted(results):
            index = indices[number]
            del left[index]
            call, _ = calls[index]
            try:
                result = Outcome(data, error, outcome.cause, outcome.past)
                self.results[index] = await call.result(result, instance)
                self._scope.done += 1
            except CallFailed as failure:
                self._scope.item_fails(label(self._items[index]), str(failure))
                self.results[index] = failed(index, instance, failure)
        self._todo.extendleft(reversed(left))
