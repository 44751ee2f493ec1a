"""`python -m console fork textkit --at 4`: a new run that takes over what another one did, and goes on differently."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowQueryFailedError
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.border.context import workspaces_folder
from activities.contract.branches import branch_in
from activities.errors import AgentError
from activities.workspace.git import GitFailed
from activities.workspace.site import Site
from activities.workspace.workspace import Workspace
from console.view import from_here
from workflows.engine.fork import ForkPoint
from workflows.errors import SettingsInvalid
from workflows.serving.client import connect

_RPC_TIMEOUT = timedelta(seconds=20)
_FIRST_ID = 1


class ForkError(RuntimeError):
    """A run can't be forked; says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """What is to be forked, and how the fork differs.

    Attributes:
        workflow_id: The run.
        step: The step before which the fork begins, as `show` lists it.
        models: Models by role or method, instead of those of the run.
        inputs: All inputs of the choreography, as JSON; those of the run where none are given.
        new_id: The fork's workflow id.
    """

    workflow_id: str
    step: str
    models: Sequence[str] = ()
    inputs: Sequence[str] = ()
    new_id: str | None = None


def fork(wish: Wish) -> int:
    """Fork a run, and tell how to go on; return the exit code."""
    try:
        asyncio.run(_fork(wish))
    except (ForkError, SettingsInvalid) as error:
        print(f"fork: {error}", file=sys.stderr)
        return 2
    except RPCError as error:
        print(f"fork: {_trouble(error, wish.workflow_id)}", file=sys.stderr)
        return 2
    return 0


async def _fork(wish: Wish) -> None:
    begun = await begin_fork(await connect(), wish)
    print(begun.told)
    print(f"Watch it:  python -m console watch {begun.workflow_id}")


@dataclass(frozen=True)
class Begun:
    """A fork that has begun.

    Attributes:
        workflow_id: Its id.
        told: What it took over.
    """

    workflow_id: str
    told: str


async def begin_fork(client: Client, wish: Wish) -> Begun:
    """Fork a run.

    Raises:
        ForkError: It can't be; says why.
        RPCError: There is no such run, or no worker answers for it.
    """
    old = client.get_workflow_handle(wish.workflow_id)
    described = await old.describe(rpc_timeout=_RPC_TIMEOUT)
    point = await _point(old, wish.step)
    inputs = _inputs(point.inputs, wish)
    new = await _start(client, described.workflow_type, described.task_queue, point, inputs, wish)
    first_run = described.raw_description.workflow_execution_info.first_run_id
    try:
        copied = _copy_files((wish.workflow_id, first_run), new, point)
    except (OSError, shutil.Error, AgentError, GitFailed) as error:
        await new.terminate("its workspace could not be copied")
        raise ForkError(f"the workspace can't be copied, so {new.id} was not begun: {error}") from error
    await _let_go(new)
    took_over = f"{new.id} goes on from step {wish.step} of {wish.workflow_id}: {point.calls} results are taken over."
    return Begun(new.id, "\n".join([took_over, *copied]))


async def _let_go(new: WorkflowHandle[Any, Any]) -> None:
    """Resume the fork, once it has begun."""
    try:
        await new.query("progress", rpc_timeout=_RPC_TIMEOUT)
        await new.execute_update("resume", rpc_timeout=_RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        if failure := await _failure_of(new):  # its program did not come to the step
            raise ForkError(f"{new.id} has failed at once: {failure}") from error


async def _failure_of(new: WorkflowHandle[Any, Any]) -> str:
    try:
        await new.result(rpc_timeout=_RPC_TIMEOUT)
    except WorkflowFailureError as error:
        return str(error.cause)
    return ""


async def _point(old: WorkflowHandle[Any, Any], step: str) -> ForkPoint:
    try:
        point: ForkPoint = await old.query("fork_point", step, result_type=ForkPoint, rpc_timeout=_RPC_TIMEOUT)
    except WorkflowQueryFailedError as error:
        raise ForkError(error.message) from error
    return point


def _inputs(given: Sequence[Any], wish: Wish) -> list[Any]:
    """Return the fork's inputs, those of the run or others, and last its options, with the models that are wished."""
    *inputs, options = given
    if wish.inputs:
        wished = [_as_json(text) for text in wish.inputs]
        if len(wished) < len(inputs):
            raise ForkError(
                f"{len(wished)} inputs are given, and the choreography takes {len(inputs)}: give all of them."
            )
        inputs, options = wished[: len(inputs)], (wished[len(inputs) :] or [options])[0]
    models = {**options.get("models", {}), **dict(_model(word) for word in wish.models)}
    return [*inputs, {**options, "models": models}]


def _model(word: str) -> tuple[str, str]:
    who, separator, model = word.partition("=")
    if not (who and separator and model):
        raise ForkError(f"--model {word}: write ROLE=MODEL, as in coder=openai/gpt-4o.")
    return who, model


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ForkError(
            f"--input {text}: is not JSON ({error}); a text is written in quotes, as in '\"Build …\"'."
        ) from None


async def _start(
    client: Client, kind: str, queue: str, point: ForkPoint, inputs: Sequence[Any], wish: Wish
) -> WorkflowHandle[Any, Any]:
    """Start the fork, paused, under its id or else under the first that is free."""
    number = _FIRST_ID
    while True:
        new_id = wish.new_id or f"{wish.workflow_id}-fork-{number}"
        try:
            return await client.start_workflow(
                kind,
                args=point.inputs_of_fork(new_id, wish.workflow_id, inputs, datetime.now(UTC)),
                id=new_id,
                task_queue=queue,
                memo={"forked": f"{wish.workflow_id}, before step {wish.step}"},
                static_summary=f"forked from {wish.workflow_id} before step {wish.step}",
            )
        except WorkflowAlreadyStartedError:
            if wish.new_id is not None:
                raise ForkError(f"There is a run '{new_id}' already; choose another --id.") from None
            number += 1


def _copy_files(old: tuple[str, str], new: WorkflowHandle[Any, Any], point: ForkPoint) -> list[str]:
    """Copy the run's files and its repository for the fork; say what was done.

    Args:
        old: The run's workflow id, and the first run of its chain.
        new: The fork.
        point: Where the run was.
    """
    base, own = workspaces_folder(), (new.id, new.first_execution_run_id or "")
    told = []
    source, target = Site.of_run(base, *old), Site.of_run(base, *own)
    if source.exists:
        stand = {branch: at.commit for key, at in point.positions.items() if (branch := branch_in(key)) is not None}
        source.copy_to(target, stand)
        told.append(f"Repository: {from_here(target.git.folder)}, with each branch as it was at that step")
    plain, copy = Workspace.of_run(base, *old).root, Workspace.of_run(base, *own).root
    if plain.is_dir():
        shutil.copytree(plain, copy, symlinks=True)
        told.append(f"Workspace: copied to {from_here(copy)} as it is now, not as it was at that step")
    nowhere = f"there is none under {base}; if workers keep it elsewhere, set WORKSPACES, or copy it yourself"
    return told or [f"Workspace: {nowhere}"]


def _trouble(error: RPCError, workflow_id: str) -> str:
    if error.status == RPCStatusCode.NOT_FOUND:
        return f"there is no run '{workflow_id}' (any more). 'temporal workflow list' shows what there is."
    if error.status in (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION):
        return f"no worker answers for '{workflow_id}'; start one: python worker.py --serve choreography"
    return f"the server refuses: {error.message}"
