"""`build_project` in one repository while workers are killed; `python -m tests.system.builders` does it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.dev_server import DevServer
from tests.system.builders import build_under_fire


async def test_killed_coders_commit_once_and_all_that_they_wrote_is_merged_also_in_a_fork(
    server: DevServer, tmp_path: Path, workspaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    built, forked = await build_under_fire(
        server.address, tmp_path, modules=2, coders=2, kills=(2, 0), pace=0.1, seed=7, one_file=True, heartbeat=3.0
    )
    assert built.wrong == []
    assert built.conflicts >= 1
    # The plan's, each module's, and that of the module that is wrong at first.
    assert built.merges == 1 + 2 + 1
    assert forked.wrong == []
    assert forked.merges == 1 + 2 + 2
