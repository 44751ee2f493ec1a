"""The replay check: whether runs that began with a program still fit it, as it is now.

temporal workflow show --workflow-id march --output json > history/march.json

async def test_runs_of_last_month_still_fit() -> None:
    await replays("history", digest)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHistory

from workflows.program.choreography import Choreography
from workflows.serving.workers import replayer
from workflows.shown.changed import change_in_words


class DoesNotReplay(AssertionError):
    """A run does not fit its program any more; says which, and where they differ."""


async def replays(
    histories: str | Path | WorkflowHistory, *choreographies: Choreography[..., Any], client: Client | None = None
) -> None:
    """Check that runs go on with their choreographies as these are now.

    Args:
        histories: A file that `temporal workflow show --output json` or the Web UI wrote, a folder of such files, or
            what `handle.fetch_history()` gives.
        *choreographies: Whose runs they are.
        client: For runs that have much to remember, and keep it outside of their histories: what
            `workflows.serving.client.connect` gives.

    Raises:
        DoesNotReplay: One does not; names it, and the step.
        FileNotFoundError: There is no history.
    """
    for name, history in _read(histories):
        result = await replayer(*choreographies, client=client).replay_workflow(history, raise_on_replay_failure=False)
        if result.replay_failure is not None:
            said = change_in_words(str(result.replay_failure), history.events)
            raise DoesNotReplay(f"{name} does not replay: {said}")


def _read(histories: str | Path | WorkflowHistory) -> Iterator[tuple[str, WorkflowHistory]]:
    if isinstance(histories, WorkflowHistory):
        yield histories.workflow_id, histories
        return
    path = Path(histories)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(
            f"There is no history in {path}: write one with 'temporal workflow show --output json'."
        )
    for file in files:
        written = json.loads(file.read_text(encoding="utf-8"))
        yield str(file), WorkflowHistory.from_json(_workflow_id(written) or file.stem, written)


def _workflow_id(written: Any) -> str:
    """Return of which workflow it is, where the server tells."""
    started = written["events"][0].get("workflowExecutionStartedEventAttributes", {})
    return str(started.get("workflowId", ""))
