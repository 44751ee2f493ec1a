"""What the budgets are called that runs share, `tenant=acme` or `tag=nightly`, and the workflows that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import BaseModel

from activities.contract.names import BUDGET

Kind = Literal["tenant", "tag"]

BUDGETS_OF_ACTIVITY = "budgets_of"
"""The local activity that tells which shared budgets there are."""

LOOK_AT_BORROWERS_ACTIVITY = "look_at_borrowers"
"""The local activity that tells which of those that borrow of a budget have ended."""

TELL_RUNS_ACTIVITY = "tell_runs_of_budget"
"""The local activity that tells the runs which go on of a new budget."""

KINDS: Sequence[Kind] = get_args(Kind)


class Borrower(BaseModel):
    """An execution of a workflow that borrows of a budget."""

    workflow_id: str
    run_id: str


class Ended(BaseModel):
    """One that has ended, and what it had spent; None if nobody can tell any more."""

    run_id: str
    spent: dict[str, float] | None = None


def budget_name(kind: Kind, name: str) -> str:
    """Return how a budget is called."""
    return f"{kind}={name}"


def budgets_for(tenant: str | None, tags: Sequence[str]) -> list[str]:
    """Return what budgets there may be for a run, in one order for all.

    >>> budgets_for("acme", ["nightly"])
    ['tag=nightly', 'tenant=acme']
    """
    tenants = [] if tenant is None else [budget_name("tenant", tenant)]
    return sorted({*tenants, *(budget_name("tag", tag) for tag in tags)})


def keeper_id(name: str) -> str:
    """Return the workflow id of a budget's keeper.

    >>> keeper_id("tenant=acme")
    'budget/tenant/acme'
    """
    kind, _, whose = name.partition("=")
    return f"{BUDGET}/{kind}/{whose}"


def name_of_keeper(workflow_id: str) -> str | None:
    """Return the budget that a workflow keeps by its id; None if it is not that of a keeper.

    >>> name_of_keeper("budget/tag/a/b"), name_of_keeper("textkit")
    ('tag=a/b', None)
    """
    begin, _, rest = workflow_id.partition("/")
    kind, _, whose = rest.partition("/")
    return f"{kind}={whose}" if begin == BUDGET and kind in KINDS and whose else None


def tag_listed(name: str) -> str:
    """Return the word by which the server's list finds the runs that a budget is for."""
    kind, _, whose = name.partition("=")
    return whose if kind == "tag" else name
