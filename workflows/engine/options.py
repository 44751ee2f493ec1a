"""Options of a run: the last, optional input of every choreography."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from activities.contract.budgets import budget_name, budgets_for
from workflows.errors import InputInvalid
from workflows.steering.budget import Budget
from workflows.steering.steering import OnBudget

MOST_INSTANCES = 10_000
"""Instances in a pool: their names are kept in memory, and are sent in one payload to who ends their conversations."""


MOST_TAGS = 20

Tag = Annotated[str, Field(pattern=r"^[^\s]+$", max_length=100)]


class RunOptions(BaseModel):
    """What whoever starts a run may decide.

    `{"instances": {"coder": 5}, "models": {"coder": "anthropic/claude-sonnet-4-5"}, "budget": {"usd": 2}}`
    """

    model_config = ConfigDict(extra="forbid")

    instances: dict[str, Annotated[int, Field(ge=1, le=MOST_INSTANCES)]] = Field(
        default={}, description="Pool sizes by role"
    )
    models: dict[str, str] = Field(
        default={}, description="litellm model strings by role (coder) or method (Coder.implement_module)"
    )

    budget: Budget = Field(default=Budget(), description="Limits in usd, tokens, calls and hours")
    on_budget: OnBudget = Field(default="pause", description="What the run does at a limit")
    priority: Annotated[int, Field(ge=1, le=5)] | None = Field(
        default=None, description="Which calls go first where calls queue up: 1 is the most urgent, 3 the usual"
    )
    tenant: Tag | None = Field(default=None, description="Whose run it is: a budget may be set for all of a tenant's")
    repository: Annotated[str, Field(max_length=1_000)] = Field(
        default="", description="Path of a repository, or of a bundle of one, that the run's own begins from"
    )
    tags: Annotated[list[Tag], Field(max_length=MOST_TAGS)] = Field(
        default=[], description="Words by which to find the run again"
    )

    webhook: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2_000)] | None = Field(
        default=None, description="Where to tell of questions, of a budget that is reached, and of the run's end"
    )

    @property
    def budgets(self) -> list[str]:
        """The names of the budgets that there may be for the run: those of its tenant and tags."""
        return budgets_for(self.tenant, self.tags)

    @property
    def listed_tags(self) -> list[str]:
        """The words by which the server's list finds the run."""
        return [*self.tags, *([] if self.tenant is None else [budget_name("tenant", self.tenant)])]

    def model_of(self, role: str, method: str) -> str | None:
        """Return the model that the run sets for a call: the method's, else the role's, else none."""
        return self.models.get(method) or self.models.get(role)

    def check(self, roles: Mapping[str, Collection[str]]) -> None:
        """Check the names against a choreography's roles.

        Args:
            roles: The methods of each role, as `Coder.implement_module`; none for a person.

        Raises:
            InputInvalid: Names the role or method that there is not.
        """
        for role in self.instances:
            if role not in roles:
                raise InputInvalid(
                    f"options: 'instances' names the role '{role}', but the roles are {', '.join(roles)}."
                )
        asked = {role for role, methods in roles.items() if methods}
        known = {*asked, *(method for methods in roles.values() for method in methods)}
        for name in self.models:
            if name not in known:
                raise InputInvalid(
                    f"options: 'models' names '{name}', which is neither a role nor a method; "
                    f"there are {', '.join(sorted(known))}."
                )
