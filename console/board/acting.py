"""What people do on the board: start runs, answer, steer, and take runs up again. All of it is Temporal's to keep."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from activities.contract.names import CHOREOGRAPHY_QUEUE, conversation_id
from console.board.access import Refused, Visitor
from console.fork import ForkError, Wish, begin_fork

_TIMEOUT = timedelta(seconds=20)


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewRun(_Given):
    """A run to start."""

    choreography: str = Field(min_length=1, description="The choreography's name, such as build_project.")
    inputs: list[Any] = Field(default=[], description="Its inputs, in order; the run's options may follow.")
    id: str = Field(default="", description="Its workflow id; one is made where none is given.")
    queue: str = Field(default=CHOREOGRAPHY_QUEUE, description="The task queue of those that serve it.")


class Answer(_Given):
    """An answer to an open question."""

    question: str = Field(description="The question's id.")
    answer: Any = Field(
        description="What the question's answer_schema takes. Of a tool that is to be approved: true, or "
        '{"approve": false, "reason": "…"}, or {"approve": true, "arguments": {…}} with those that are changed.'
    )


class Budget(_Given):
    """Limits of a run; what is null has none."""

    usd: float | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)
    hours: float | None = Field(default=None, ge=0)


class NewFork(_Given):
    """How a run is taken up again."""

    at: str = Field(min_length=1, description="The step before which the new run begins, as the calls list it.")
    models: dict[str, str] = Field(default={}, description="Other models, by role or method.")
    id: str = Field(default="", description="The new run's id; RUN-fork-1 or the next that is free if none is given.")


class Tell(_Given):
    """Something to tell an agent of a run; it hears it before its next turn."""

    instance: str = Field(min_length=1, description="Such as coder-1.")
    text: str = Field(min_length=1)


class Done(BaseModel):
    """What was done."""

    id: str
    told: str


async def start(client: Client, new: NewRun) -> Done:
    """Start a run.

    Raises:
        Refused: There is a run of that id.
    """
    workflow_id = new.id or f"{new.choreography}-{uuid.uuid4().hex[:8]}"
    try:
        await client.start_workflow(new.choreography, args=new.inputs, id=workflow_id, task_queue=new.queue)
    except WorkflowAlreadyStartedError:
        raise Refused(409, f"there is a run '{workflow_id}' already; choose another id.") from None
    return Done(id=workflow_id, told=f"{workflow_id} has begun")


async def answer(client: Client, visitor: Visitor, workflow_id: str, given: Answer) -> Done:
    """Answer a question.

    Raises:
        Refused: The visitor may not answer for that person, or the answer does not fit.
    """
    if visitor.persons:
        questions: list[Mapping[str, Any]] = await client.get_workflow_handle(workflow_id).query("questions")
        person = next((one["person"] for one in questions if one["id"] == given.question), None)
        if person is None or not visitor.may_answer(person):
            raise Refused(403, f"{visitor.name} may answer for {', '.join(sorted(visitor.persons))} only.")
    told = {**given.model_dump(), **({"by": visitor.name} if visitor.name else {})}
    return Done(id=workflow_id, told=await _update(client, workflow_id, "answer", [told]))


async def steer(client: Client, workflow_id: str, how: str) -> Done:
    """Pause or resume a run, cancel it, or end it at once where nobody is there who could cancel it."""
    if how == "cancel":
        await client.get_workflow_handle(workflow_id).cancel(rpc_timeout=_TIMEOUT)
        return Done(id=workflow_id, told=f"{workflow_id} is being cancelled")
    if how == "terminate":
        await client.get_workflow_handle(workflow_id).terminate(reason="on the board", rpc_timeout=_TIMEOUT)
        return Done(id=workflow_id, told=f"{workflow_id} has ended")
    return Done(id=workflow_id, told=await _update(client, workflow_id, how, []))


async def set_budget(client: Client, workflow_id: str, budget: Budget) -> Done:
    """Set a run's limits anew; those that are not given stay as they are."""
    limits = budget.model_dump(exclude_unset=True)
    return Done(id=workflow_id, told=await _update(client, workflow_id, "set_budget", [limits]))


async def tell(client: Client, workflow_id: str, given: Tell) -> Done:
    """Tell an agent something."""
    conversation = conversation_id(workflow_id, given.instance)
    return Done(id=workflow_id, told=await _update(client, conversation, "tell", [given.text]))


async def fork(client: Client, workflow_id: str, new: NewFork) -> Done:
    """Take a run up again from a step.

    Raises:
        Refused: It can't be; says why.
    """
    models = [f"{who}={model}" for who, model in new.models.items()]
    try:
        begun = await begin_fork(client, Wish(workflow_id, new.at, models, new_id=new.id or None))
    except ForkError as error:
        raise Refused(409, str(error)) from error
    return Done(id=begun.workflow_id, told=begun.told)


async def _update(client: Client, workflow_id: str, name: str, inputs: Sequence[Any]) -> str:
    try:
        told = await client.get_workflow_handle(workflow_id).execute_update(name, args=inputs, rpc_timeout=_TIMEOUT)
    except WorkflowUpdateFailedError as error:
        raise Refused(409, f"{workflow_id}: {error.cause}", _places(error.cause)) from error
    return told if isinstance(told, str) and told else f"{name}: done"


def _places(cause: BaseException | None) -> dict[str, str]:
    """Return what was refused of an answer, by its parts."""
    told = cause.details[0] if isinstance(cause, ApplicationError) and cause.details else {}
    return {str(place): str(why) for place, why in told.items()} if isinstance(told, dict) else {}
