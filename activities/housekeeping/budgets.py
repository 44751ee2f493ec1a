"""What keepers of shared budgets, and the runs under them, have to be told of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.budgets import (
    BUDGETS_OF_ACTIVITY,
    LOOK_AT_BORROWERS_ACTIVITY,
    TELL_RUNS_ACTIVITY,
    Borrower,
    Ended,
    keeper_id,
    tag_listed,
)

_AT_A_TIME = 20

_RPC_S = timedelta(seconds=2)
"""Seconds for an answer: the keeper takes in nothing else meanwhile, and asks again."""

T = TypeVar("T")
R = TypeVar("R")


def activities_of_budgets(client: Client) -> list[Callable[..., Any]]:
    """Return the local activities that keepers and runs need."""

    @activity.defn(name=BUDGETS_OF_ACTIVITY)
    async def budgets_of(names: list[str]) -> list[str]:
        found = await _each(names, lambda name: _goes_on(client, keeper_id(name)))
        return [name for name, is_kept in zip(names, found, strict=True) if is_kept]

    @activity.defn(name=LOOK_AT_BORROWERS_ACTIVITY)
    async def look_at_borrowers(name: str, borrowers: list[Borrower]) -> list[Ended]:
        seen = await _each(borrowers, lambda borrower: _ended(client, name, borrower))
        return [ended for ended in seen if ended is not None]

    @activity.defn(name=TELL_RUNS_ACTIVITY)
    async def tell_runs(name: str) -> int:
        listed = tag_listed(name).replace("\\", "\\\\").replace("'", "\\'")
        told = 0
        try:
            async for run in client.list_workflows(
                f"ExecutionStatus = 'Running' AND Tags = '{listed}'", rpc_timeout=_RPC_S
            ):
                with suppress(RPCError):  # it has just ended
                    await client.get_workflow_handle(run.id, run_id=run.run_id).signal(
                        "stands_under", name, rpc_timeout=_RPC_S
                    )
                    told += 1
        except RPCError as error:
            # A server without lists, or one that does not know the attribute: its runs ask when they begin.
            if error.status not in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT):
                raise
        return told

    return [budgets_of, look_at_borrowers, tell_runs]


async def _goes_on(client: Client, workflow_id: str, run_id: str | None = None) -> bool | None:
    """Whether a workflow goes on; None if there is none."""
    try:
        described = await client.get_workflow_handle(workflow_id, run_id=run_id).describe(rpc_timeout=_RPC_S)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise
    return described.status == WorkflowExecutionStatus.RUNNING


async def _ended(client: Client, name: str, borrower: Borrower) -> Ended | None:
    goes_on = await _goes_on(client, borrower.workflow_id, borrower.run_id)
    if goes_on:
        return None
    if goes_on is None:
        return Ended(run_id=borrower.run_id)
    handle = client.get_workflow_handle(borrower.workflow_id, run_id=borrower.run_id)
    try:
        spent: dict[str, float] = await handle.query("spent_of", name, result_type=dict[str, float], rpc_timeout=_RPC_S)
    except (RPCError, WorkflowQueryFailedError):  # its program is not here any more, or not as it was
        return Ended(run_id=borrower.run_id)
    return Ended(run_id=borrower.run_id, spent=spent)


async def _each(items: Sequence[T], look: Callable[[T], Awaitable[R]]) -> list[R]:
    places = asyncio.Semaphore(_AT_A_TIME)

    async def one(item: T) -> R:
        async with places:
            return await look(item)

    return await asyncio.gather(*map(one, items))
