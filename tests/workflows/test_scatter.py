from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError

from tests.conftest import Runs
from tests.workflows import crew


async def test_results_come_in_the_order_of_the_items(runs: Runs) -> None:
    async with runs.serving("tests.workflows.crew"):
        assert await runs.execute(crew.double_all, list(range(20))) == [2 * n for n in range(20)]


async def test_a_bug_in_a_task_fails_the_run_and_says_where(runs: Runs) -> None:
    async with runs.serving("tests.workflows.crew"):
        with pytest.raises(WorkflowFailureError) as failure:
            await runs.execute(crew.fail_once, "no luck")
    assert "no luck (crew.py:" in str(failure.value.cause)
