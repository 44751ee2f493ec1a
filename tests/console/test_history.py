from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError

from activities.converter import data_converter
from console.history import follow_calls
from tests.conftest import Ledger, Runs
from tests.office import note_numbers, one_call

OFFICE = "tests.office"


async def test_every_call_is_seen_when_it_is_made_and_when_it_has_ended(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 4], str(ledger.path), False, {"instances": {"clerk": 1}})
        seen = [(call.summary, call.ended is None, call.value) async for call in follow_calls(run, data_converter)]
    assert seen == [
        ("clerk-1 · 2", True, None),
        ("clerk-1 · 2", False, 2),
        ("clerk-1 · 4", True, None),
        ("clerk-1 · 4", False, 4),
    ]


async def test_a_call_that_failed_tells_why(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "fail_if_odd", [3, str(ledger.path)])
        *_, last = [call async for call in follow_calls(run, data_converter)]
    assert last.method == "Clerk.fail_if_odd"
    assert last.error is not None
    assert last.error.startswith("3 is odd (office.py:")


async def test_a_call_that_was_cancelled_says_so(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "meet", ["nobody"])
        async for call in follow_calls(run, data_converter):
            if call.ended is None:
                await run.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
    assert call.error == "cancelled"
