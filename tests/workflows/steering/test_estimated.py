"""Usage that a provider does not tell counts all the same: in the budget, and in what a run shows."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities import Agent, prompt
from tests.conftest import Runs
from tests.hostile import says
from tests.provider import Provider
from workflows import choreography


class Talker(Agent):
    """You talk."""

    @prompt(memory=False)
    async def talk(self, number: int) -> str:
        """Talk, the {number}th time."""


@choreography
async def converse(times: int, talker: Talker) -> int:
    """Talk a few times."""
    for number in range(times):
        await talker.talk(number)
    return times


@pytest.mark.parametrize(
    "usage",
    [None, {"prompt_tokens": -(10**9), "completion_tokens": -(10**9)}, {"prompt_tokens": 10**30}],
    ids=["none", "negative", "endless"],
)
async def test_a_budget_of_tokens_holds_a_run_whose_provider_tells_no_usage_that_can_be_true(
    runs: Runs, provider: Provider, usage: Any
) -> None:
    provider.enqueue(*[says("word " * 800, usage=usage)] * 10)
    async with runs.serving(__name__):
        run = await runs.start(converse, 10, {"budget": {"tokens": 5_500}, "on_budget": "fail"})
        with pytest.raises(WorkflowFailureError) as caught:
            await run.result()
        told = await run.query("progress")

    assert "BudgetExceeded" in str(caught.value.cause)
    assert 5 <= len(provider.requests) < 8  # at about a thousand tokens each
    usage_told = told["usage"]
    assert usage_told["estimated"] == usage_told["model_calls"] == len(provider.requests)
    assert 800 <= usage_told["completion_tokens"] / len(provider.requests) <= 1_200
    assert any("are estimated by length" in note for note in told["notes"])
