from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Runs
from workflows.serving.unknown import unknown_choreography

OFFICE = "tests.office"


async def test_a_run_of_an_unknown_type_is_told_once_in_the_workers_log(
    runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start("one_cal", "nothing", [])
        async with asyncio.timeout(40):
            while (await run.describe()).raw_description.pending_workflow_task.attempt < 3:
                await asyncio.sleep(0.1)
    told = [record.getMessage() for record in caplog.records if "one_cal" in record.getMessage()]
    assert len(told) == 1
    assert f"run id {run.first_execution_run_id}: there is no choreography 'one_cal' on the worker; " in told[0]
    assert "did you mean one_call? There are: copy_at_once, " in told[0]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("build-project", "build_project"),
        ("buildProject", "build_project"),
        ("digest", None),
        ("", None),
        ("a\nb", None),
    ],
)
def test_another_name_is_proposed_only_if_it_is_close(asked: str, meant: str | None) -> None:
    told = unknown_choreography(
        f"Workflow class {asked} is not registered on this worker, available workflows: build_project, conversation"
    )
    assert (f"did you mean {meant}?" in told) == (meant is not None)
    assert told.count("build_project") == (2 if meant else 1)
    assert "conversation" not in told


@pytest.mark.parametrize("failure", ["", "a bug", "[TMPRL1100] Nondeterminism error", "Workflow class"])
def test_another_failure_is_none_of_an_unknown_type(failure: str) -> None:
    assert unknown_choreography(failure) == ""
