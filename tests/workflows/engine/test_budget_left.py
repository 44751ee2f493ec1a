"""What an agent is told of what is left of its call's budget."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from activities import Agent, prompt, task
from tests.conftest import Runs
from tests.provider import Provider, Text
from workflows import choreography

pytestmark = pytest.mark.usefixtures("served")


class Thrifty(Agent):
    """You are thrifty."""

    @prompt(memory=False, tell_budget=True)
    async def plan(self, what: str) -> str:
        """Plan {what}."""

    @prompt(memory=False)
    async def spend(self, what: str) -> str:
        """Spend on {what}."""

    @task
    async def left(self) -> Mapping[str, float] | None:
        """Return what is left."""
        return self.call.budget_left if self.call else None


@choreography
async def plan_twice(thrifty: Thrifty) -> list[Mapping[str, float] | None]:
    """Plan, and look what is left."""
    before = await thrifty.left()
    await thrifty.plan("a party")
    await thrifty.spend("cake")
    await thrifty.plan("a smaller party")
    return [before, await thrifty.left()]


async def test_a_prompt_ends_with_what_is_left_where_that_is_asked_for(runs: Runs, provider: Provider) -> None:
    provider.enqueue(*[Text("Fine.")] * 3)
    run = await runs.start(plan_twice, {"budget": {"calls": 9, "tokens": 10_000}})
    before, after = await run.result()
    told = "Left of the budget, for this and all that comes after it: "
    first, spent, last = [request.last_user for request in provider.requests]
    assert first == f"Plan a party.\n\n{told}10,000 tokens, 8 calls."
    assert spent == "Spend on cake."
    assert last.startswith(f"Plan a smaller party.\n\n{told}9,9")
    assert before == {"tokens": 10_000, "calls": 9}
    assert after["calls"] == 5
    assert after["tokens"] < 10_000


async def test_nothing_is_told_where_nothing_is_limited(runs: Runs, provider: Provider) -> None:
    provider.enqueue(*[Text("Fine.")] * 3)
    assert await runs.execute(plan_twice) == [None, None]
    assert provider.requests[0].last_user == "Plan a party."
