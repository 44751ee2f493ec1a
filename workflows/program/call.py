"""Calls: one use of an agent method by a choreography. Data until awaited, then an activity."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from pydantic import ValidationError
from temporalio import workflow

from activities.contract.limits import HEARTBEAT_TIMEOUT_S
from activities.contract.names import method_name, of_team, team_of
from activities.contract.text import clip, explain
from activities.declarations.agent import Agent, patience_of, tools_of
from activities.declarations.method import Method
from activities.declarations.person import Person
from activities.workspace.repository import access_of
from workflows.engine.happenings import Outcome, Step
from workflows.engine.pool import Pool
from workflows.engine.request import Request, Service
from workflows.engine.run import Run
from workflows.engine.waiting import ask, send_until_done
from workflows.errors import CallFailed, ClaimEnded, TooLarge
from workflows.people.question import Question
from workflows.program.label import label
from workflows.tree.current import current_scope, numbering_scope
from workflows.tree.scope import CallScope, Scope

R = TypeVar("R")

_HEARTBEATS_PER_S = 20.0
"""Instances of a pool for each second of its calls' heartbeat timeout."""

_LONGEST_HEARTBEAT_TIMEOUT_S = 60.0


class Target(Protocol):
    """Whom a call is made to: any instance of a role, a named one, or one that is held already."""

    def claimed(self, scope: Scope) -> AbstractAsyncContextManager[str]:
        """Hold an instance for as long as the call takes."""


@dataclasses.dataclass(frozen=True)
class FreeInstance:
    """Any free instance of a pool, or the one that is named."""

    pool: Pool
    only: str | None = None

    def claimed(self, scope: Scope) -> AbstractAsyncContextManager[str]:
        """Claim it for this call."""
        return self.pool.claimed(scope, self.only)


class HeldInstance:
    """An instance that the body of a scatter holds: its calls are made one after the other."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._ended = False
        self._one_at_a_time = asyncio.Lock()
        self._at_work: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def claimed(self, scope: Scope) -> AsyncIterator[str]:
        """Wait for the instance's earlier calls."""
        async with self._one_at_a_time:
            if self._ended:
                raise ClaimEnded(
                    f"{self.name} was used (step {scope.path}) after the body that it was claimed for had ended; "
                    "await its calls inside the body."
                )
            self._at_work = asyncio.current_task()
            try:
                yield self.name
            finally:
                self._at_work = None

    async def end(self) -> None:
        """Let no more calls be made; cancel the one that the body did not wait for, and wait until it has ended."""
        self._ended = True
        if self._at_work is not None:
            self._at_work.cancel()
        async with self._one_at_a_time:
            return


class Call(Generic[R]):
    """One use of an agent method. Nothing happens until it is awaited; awaited again, it gives the same result."""

    def __init__(
        self, agent: type[Agent], pool: Pool, method: Method[..., R], arguments: Mapping[str, Any], target: Target
    ) -> None:
        self.agent = agent
        self.pool = pool
        self.method = method
        self.arguments = arguments
        self._scope = numbering_scope()
        self.step = self._scope.next_step()
        self.target = target
        self._outcome: asyncio.Future[R] | None = None
        if workflow.in_workflow():
            Run.current().unawaited.call(self)

    def __await__(self) -> Generator[Any, None, R]:
        if self._outcome is None:
            Run.current().unawaited.is_awaited(self)
            self._scope = current_scope()  # who waits for it, wherever it was made
            self._outcome = asyncio.ensure_future(self._make())
        return self._outcome.__await__()

    def __repr__(self) -> str:
        return f"<call {self.step} of {self.name}>"

    @property
    def name(self) -> str:
        """The activity type."""
        return method_name(self.agent.__name__, self.method.name)

    @property
    def queue(self) -> str:
        """The task queue: the method's own, or the class's for tools."""
        return self.agent.__name__ if self.method.kind == "tool" else self.name

    @property
    def _remembers(self) -> bool:
        """Whether the instance's conversation may have to do with this call: plain code may ask prompts inside."""
        return self.method.kind != "prompt" or self.method.options.memory

    async def _make(self) -> R:
        run = Run.current()
        with CallScope(self.step, self._label, self._scope, role=self.pool.role, method=self.name) as scope:
            async with self.target.claimed(scope) as instance:
                scope.instance = instance
                asks, work = self._work(run, scope)
                step = Step(self.step, f"{self.name} by {instance} ({self._label})", asks)
                outcome = await _not_resumed_after_cancel(lambda: run.journal.step(step, work))
                return await self.result(outcome, instance)

    def _work(self, run: Run, scope: CallScope) -> tuple[str, Callable[[], Awaitable[Outcome]]]:
        """Return a digest of what is asked, and what asks it: a question to a person, or a message to a worker."""
        instance = scope.instance
        request = self._request(instance)
        asked = request.id(self.name, instance)
        if issubclass(self.agent, Person):
            written = f"{{{request.arguments}}}"
            question = Question.of_call(asked, self.method, self.arguments, written, person=instance)
            return asked.digest, lambda: ask(run, self.method, question, scope)
        service = self.service(run)
        return asked.digest, lambda: send_until_done(run, service, request, scope, tools_of(self.agent))

    def service(self, run: Run) -> Service:
        """Return what this call has in common with others of the same method by the same role."""
        info = workflow.info()
        team = team_of(info.task_queue)
        belongs_to = of_team(team, self.agent.__name__) if self.pool.named else info.workflow_id
        return Service(
            name=self.name,
            role=self.pool.role,
            queue=of_team(team, self.queue),
            timeout=self.method.options.timeout,
            patience=patience_of(self.agent, self.method),
            retries=self.method.options.retries,
            heartbeat=heartbeat_timeout(len(self.pool)),
            model=run.options.model_of(self.pool.role, self.name),
            workflow_id=info.workflow_id,
            run_id=info.first_execution_run_id,
            conversations=belongs_to if self._remembers else None,
            outlives=self.pool.named,
            access=access_of(self.agent),
            source=run.options.repository,
        )

    def request(self) -> Request:
        """Return the call as data.

        Raises:
            TooLarge: Its arguments are more than the server takes, or no data.
        """
        return Request.of(self.method, self.step, self._label, self.arguments)

    def _request(self, instance: str) -> Request:
        try:
            return self.request()
        except TooLarge as error:
            raise TooLarge(f"{self.name} ({instance}, step {self.step}): {error}") from None

    async def result(self, outcome: Outcome, instance: str) -> R:
        """Return what the call gave, or raise how it failed.

        A result that is not of the declared type comes from another version of the program, as its worker had read it
        back by the type that it knew: the run waits for that version.
        """
        if outcome.data is None:
            if outcome.error is None:
                raise asyncio.CancelledError
            raise self._failed(instance, *outcome.error) from outcome.cause
        try:
            value: R = self.method.result_values.read(outcome.data)
        except ValidationError as error:
            about = f"step {self.step} expected a result of {self.name} by {instance} ({self._label}) as it declares it"
            await Run.current().wait_for_its_program(f"{about}, found {unreadable(outcome.data, error)}")
        return value

    def _failed(self, instance: str, kind: str, reason: str) -> CallFailed:
        return CallFailed(
            f"{self.name} ({instance}, step {self.step}, {self._label}) failed: {kind}: {reason}",
            method=self.name,
            instance=instance,
            step=self.step,
            kind=kind,
        )

    @functools.cached_property
    def _label(self) -> str:
        if item := self._scope.place.title:
            return item
        return label(next(iter(self.arguments.values()))) if self.arguments else self.method.name


def unreadable(data: str, error: ValidationError) -> str:
    """Say of a result that a worker had read back, by its own types, that it can't be read by those of the run."""
    received = clip(json.dumps(json.loads(data).get("value")), 300)
    return f"one that does not fit: {explain(error, skip=('value',))}; a worker sent {received}"


def heartbeat_timeout(instances: int) -> float:
    """Return the seconds without a sign of life after which a call is given to another worker.

    The calls of a wide pool give it less often, or the server would be busy with nothing else.
    """
    return min(max(HEARTBEAT_TIMEOUT_S, instances / _HEARTBEATS_PER_S), _LONGEST_HEARTBEAT_TIMEOUT_S)


async def _not_resumed_after_cancel(work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Await work; if it was to be cancelled but ended well nevertheless, be cancelled all the same.

    Otherwise the body of a cancelled item would go on to its next call.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    result = await work()
    if task.cancelling() > before:
        raise asyncio.CancelledError
    return result
