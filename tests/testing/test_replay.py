"""The replay check, on histories as users keep them."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHandle

from console.dev_server import DevServer
from testing import DoesNotReplay, replays
from tests.conftest import Runs
from tests.system.processes import temporal
from tests.workflows import changed
from tests.workflows.crew import Worker
from workflows import choreography


@choreography(worker=2)
async def ask_twice(worker: Worker) -> None:
    """Make two calls; in `changed` there is one."""
    await worker.whoami()
    await worker.whoami()


@pytest.fixture
async def run(runs: Runs) -> WorkflowHandle[object, object]:
    """A run that has ended."""
    async with runs.serving(__name__):
        handle = await runs.start(ask_twice)
        await handle.result()
    return handle


@pytest.fixture
async def histories(run: WorkflowHandle[object, object], server: DevServer, tmp_path: Path) -> Path:
    """A folder with its history, as the CLI writes it."""
    code, history = await temporal(server.address, "workflow", "show", "--workflow-id", run.id, "--output", "json")
    assert code == 0, history
    folder = tmp_path / "history"
    folder.mkdir()
    (folder / "march.json").write_text(history)
    return folder


async def test_a_history_from_the_server_replays(run: WorkflowHandle[object, object]) -> None:
    await replays(await run.fetch_history(), ask_twice)


async def test_a_file_of_the_cli_and_a_folder_of_such_replay(histories: Path) -> None:
    await replays(histories / "march.json", ask_twice)
    await replays(str(histories), ask_twice)


async def test_a_changed_program_is_told_with_the_file_and_the_step(histories: Path) -> None:
    with pytest.raises(DoesNotReplay) as failure:
        await replays(histories, changed.ask_twice)
    said = str(failure.value)
    assert said.startswith(f"{histories / 'march.json'} does not replay: its program was changed: step 2 expected ")
    assert "Worker.whoami by worker-" in said
    assert said.rpartition("found ")[2].startswith("the program's end")


async def test_a_changed_program_is_told_with_the_workflow_id(run: WorkflowHandle[object, object]) -> None:
    with pytest.raises(DoesNotReplay, match=f"^{run.id} does not replay: "):
        await replays(await run.fetch_history(), changed.ask_twice)


async def test_no_history_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="workflow show --output json"):
        await replays(tmp_path, ask_twice)
    with pytest.raises(FileNotFoundError):
        await replays(tmp_path / "march.json", ask_twice)
