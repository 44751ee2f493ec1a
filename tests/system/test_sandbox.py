"""What isolates the code of models, as a worker says it, and as a run and its models come to know it."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowFailureError

from activities.workspace.isolation import is_sandboxed
from tests.conftest import Runs
from tests.provider import Provider, Text, ToolCall, Tools
from tests.system.processes import Process, Workers
from tests.system.steered import look_twice

STEERED = ("--bare", "--module", "tests.system.steered")
A_TEST = "def test_it(): pass"


def asks_for_tests(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("run_tests", {"paths": ["test_it.py"]}),)), Text("It is good."), Text("Still."))


def says(worker: Process, beginning: str) -> None:
    """See that a worker says in one line what isolates the code of models."""
    [line] = [line for line in worker.output.splitlines() if line.startswith("Sandbox: ")]
    assert line.startswith(f"Sandbox: {beginning}")


@pytest.mark.skipif(not is_sandboxed(), reason="bubblewrap is not there, or can't isolate here")
async def test_a_worker_with_a_sandbox_says_which(workers: Workers, runs: Runs, provider: Provider) -> None:
    worker = workers.start(*STEERED)
    await worker.serves()
    says(worker, "bubblewrap 0.")
    asks_for_tests(provider)
    await runs.execute(look_twice, A_TEST)
    assert "The tests passed." in str(provider.requests[1].body)
    assert "runs without network, secrets and other processes in sight" in str(provider.requests[1].body)


async def test_without_a_sandbox_a_worker_says_so_and_a_call_fails_at_once_with_the_mend(
    workers: Workers, runs: Runs, provider: Provider, tmp_path: Path
) -> None:
    worker = workers.start(*STEERED, PATH=str(tmp_path), ALLOW_UNSANDBOXED="")
    await worker.serves()
    says(worker, "none. There is no sandbox here for code that a model wrote, so it is not run: bwrap is not")
    asks_for_tests(provider)
    with pytest.raises(WorkflowFailureError) as failure:
        await runs.execute(look_twice, A_TEST)
    assert "There is no sandbox here for code that a model wrote, so it is not run" in str(failure.value.cause)
    assert "--allow-unsandboxed" in str(failure.value.cause)
    assert len(provider.requests) == 1


async def test_without_a_sandbox_a_worker_and_a_model_are_told_what_is_not_stopped(
    workers: Workers, runs: Runs, provider: Provider, tmp_path: Path
) -> None:
    worker = workers.start(*STEERED, "--allow-unsandboxed", PATH=str(tmp_path), ALLOW_UNSANDBOXED="")
    await worker.serves()
    says(worker, "none (--allow-unsandboxed). NOT sandboxed: what models write runs with")
    asks_for_tests(provider)
    await runs.execute(look_twice, A_TEST)
    assert "The tests passed." in str(provider.requests[1].body)
    assert "NOT sandboxed: what models write runs with this worker's rights" in str(provider.requests[1].body)
