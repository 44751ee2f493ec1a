from __future__ import annotations

import pytest

from tests.system.overload import prompts, starts


@pytest.mark.timeout(300)
async def test_a_worker_that_starts_on_a_crowded_core_while_runs_wait_answers_them_all() -> None:
    results = await starts(runs=8, workers=1)
    assert all(result.is_good for result in results), f"{results}"


@pytest.mark.timeout(300)
async def test_prompts_on_a_loaded_machine_are_paid_once() -> None:
    result = await prompts(20, loops=6)
    assert result.is_good, f"{result}"
