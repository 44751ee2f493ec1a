"""`python -m console budget set tenant=acme usd=50 per=day`: budgets that runs share, by tenant and by tag."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.budgets import KINDS, keeper_id, name_of_keeper
from activities.contract.names import BUDGET, CHOREOGRAPHY_QUEUE, of_team
from activities.contract.text import clip
from workflows.errors import SettingsInvalid
from workflows.serving.client import connect
from workflows.steering.budget import SharedBudget, how_much
from workflows.steering.keeper import BudgetShown

_RPC_TIMEOUT = timedelta(seconds=20)
_BORROWERS_SHOWN = 20


class BudgetWishInvalid(RuntimeError):
    """What is wished of a budget can't be; says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """What is to be done.

    Attributes:
        action: `set`, `show` or `clear`.
        name: The budget, as `tenant=acme`; None to show all.
        limits: As `usd=50`, `tokens=1000000`, `calls=500`, `per=day`; `usd=none` takes one away.
        team: Whose workers keep it.
    """

    action: str
    name: str | None
    limits: Sequence[str] = ()
    team: str = ""


def budget(wish: Wish) -> int:
    """Set, show or clear a budget; return the exit code."""
    try:
        asyncio.run(_do(wish))
    except (BudgetWishInvalid, SettingsInvalid) as error:
        print(f"budget: {error}", file=sys.stderr)
        return 2
    except WorkflowUpdateFailedError as error:
        print(f"budget: {error.cause}", file=sys.stderr)
        return 2
    except RPCError as error:
        print(f"budget: {_trouble(error, wish)}", file=sys.stderr)
        return 2
    return 0


async def _do(wish: Wish) -> None:
    name = None if wish.name is None else _checked(wish.name)
    limits = _limits(wish.limits) if wish.action == "set" else dict.fromkeys(SharedBudget.model_fields)
    client = await connect()
    if wish.action == "show":
        await _show(client, name)
        return
    assert name is not None
    if wish.action == "clear":
        await client.get_workflow_handle(keeper_id(name)).execute_update("set_budget", limits, rpc_timeout=_RPC_TIMEOUT)
        print(f"{name}: no budget any more")
        return
    print(f"{name}: {await _set(client, name, limits, wish.team)}")


async def _set(client: Client, name: str, limits: dict[str, Any], team: str) -> str:
    start = WithStartWorkflowOperation[Any, Any](
        BUDGET,
        args=[limits],
        id=keeper_id(name),
        task_queue=of_team(team, CHOREOGRAPHY_QUEUE),
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary=f"the budget of {name}",
    )
    told: str = await client.execute_update_with_start_workflow(
        "set_budget", limits, start_workflow_operation=start, rpc_timeout=_RPC_TIMEOUT
    )
    return told


async def _show(client: Client, name: str | None) -> None:
    if name is not None:
        print(in_words(await _asked(client, keeper_id(name))))
        return
    ids = [
        found.id async for found in client.list_workflows(f"WorkflowType = '{BUDGET}' AND ExecutionStatus = 'Running'")
    ]
    kept = [one for one in sorted(ids) if name_of_keeper(one)]
    for one in kept:
        print(in_words(await _asked(client, one)))
    if not kept:
        print("There is no budget that runs share. Set one: python -m console budget set tenant=acme usd=50 per=day")


async def _asked(client: Client, workflow_id: str) -> BudgetShown:
    keeper = client.get_workflow_handle(workflow_id)
    if (await keeper.describe(rpc_timeout=_RPC_TIMEOUT)).status != WorkflowExecutionStatus.RUNNING:
        raise BudgetWishInvalid(f"there is no budget {name_of_keeper(workflow_id)} any more.")
    shown: BudgetShown = await keeper.query("budget", result_type=BudgetShown, rpc_timeout=_RPC_TIMEOUT)
    return shown


def in_words(shown: BudgetShown) -> str:
    """Say how a budget is, and who has what of it."""
    limits = [
        f"{how_much(limit, shown.spent[limit], amount)}, {shown.lent[limit]:,.2f} lent"
        for limit, amount in shown.limits.items()
    ]
    renews = f"; renews at {shown.renews:%Y-%m-%d %H:%M} UTC" if shown.renews else ""
    lines = [f"{shown.name}: {'; '.join(limits) or 'no limits'}{renews}", *(f"  {note}" for note in shown.notes)]
    for one in shown.borrowers[:_BORROWERS_SHOWN]:
        spent = ", ".join(f"{one.spent[limit]:,.2f} {limit}" for limit in shown.limits)
        lent = ", ".join(f"{one.lent[limit]:,.2f}" for limit in shown.limits)
        lines.append(f"  {clip(one.workflow_id, 60)}: {spent} spent, {lent} lent{', waits' if one.waits else ''}")
    if len(shown.borrowers) > _BORROWERS_SHOWN:
        lines.append(f"  … and {len(shown.borrowers) - _BORROWERS_SHOWN} more")
    return "\n".join(lines)


def _checked(name: str) -> str:
    kind, _, whose = name.partition("=")
    if kind not in KINDS or not whose or any(letter.isspace() for letter in whose):
        raise BudgetWishInvalid(f"{name}: name a budget as tenant=acme or tag=nightly.")
    return name


def _limits(words: Sequence[str]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    for word in words:
        limit, _, value = word.partition("=")
        if limit not in SharedBudget.model_fields or not value:
            raise BudgetWishInvalid(f"{word}: give limits as usd=50 tokens=1000000 calls=500, and per=day.")
        limits[limit] = None if value == "none" else value if limit == "per" else _number(word, value)
    if not limits:
        raise BudgetWishInvalid("give a limit: usd=50, tokens=1000000 or calls=500, and per=day where it renews.")
    return limits


def _number(word: str, value: str) -> float | int:
    try:
        number = float(value.replace("_", ""))
    except ValueError:
        raise BudgetWishInvalid(f"{word}: {value} is no number.") from None
    return int(number) if number.is_integer() else number


def _trouble(error: RPCError, wish: Wish) -> str:
    if error.status == RPCStatusCode.NOT_FOUND:
        return f"there is no budget {wish.name}. Set one: python -m console budget set {wish.name} usd=50 per=day"
    if error.status in (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION):
        return "no worker answers; start one: python worker.py --serve choreography"
    return f"the server refuses: {error.message}"
