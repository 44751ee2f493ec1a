from __future__ import annotations

import re
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowFailureError

from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import Handle, events
from workflows import choreography, scatter

pytestmark = pytest.mark.usefixtures("served")


@choreography(worker=2)
async def work_on(items: list[str], worker: Worker) -> list[Any]:
    """Work on items; those named 'bad' fail."""
    return await scatter(
        items, worker, lambda w, i: w.fail("no *luck") if i == "bad" else w.wait(i), on_error="collect"
    )


async def details(run: Handle) -> str:
    """Return what the UI shows as the run's current details, as it is read."""
    metadata: WorkflowMetadata = await run.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details


async def test_the_page_tells_what_goes_on_now(runs: Runs) -> None:
    run = await runs.start(work_on, ["bad", "a_b *c", "c", "d"])
    await diary.wait_for(run.id, "begin", 2)
    page = await details(run)
    assert page.startswith("**running: Worker.fail**\n\n0 calls done, 2 running, 1 failed\n\nScatters:\n\n- ")
    assert "- ■■□□□□□□□□ 25 % **Worker.fail**: 0 of 4 done, 2 running, 1 waiting, 1 failed" in page
    assert re.search(r"- \*\*worker-\d\*\*: Worker\.wait · a_b \\\*c · since \d\d:\d\d:\d\d UTC", page)
    assert "- **worker** (2 instances): 0 calls done, 2 running, 1 failed" in page
    assert "no \\*luck" in page


async def test_the_page_of_a_run_that_has_ended_says_how(runs: Runs) -> None:
    run = await runs.start(work_on, ["a"])
    diary.gate(run.id).set()
    await run.result()
    assert (await details(run)).startswith("**done**\n\n1 call done, 0 running\n\nScatters:")


async def test_the_page_of_a_cancelled_run_says_so(runs: Runs) -> None:
    run = await runs.start(work_on, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    await run.cancel()
    with pytest.raises(WorkflowFailureError):
        await run.result()
    assert (await details(run)).startswith("**cancelled**")


async def test_the_page_of_a_run_whose_input_does_not_fit_says_that_it_failed(runs: Runs) -> None:
    run = await runs.start(work_on, 7)
    with pytest.raises(WorkflowFailureError):
        await run.result()
    assert (await details(run)).startswith("**failed**")


async def test_looking_at_the_page_leaves_nothing_in_the_history(runs: Runs) -> None:
    run = await runs.start(work_on, ["a"])
    await diary.wait_for(run.id, "begin", 1)
    before = len(await events(run))
    for _ in range(5):
        await details(run)
    kinds = [event.event_type for event in await events(run)]
    assert len(kinds) == before
    assert EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED not in kinds
