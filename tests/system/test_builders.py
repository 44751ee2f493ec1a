"""Coders build in one repository while workers are killed; `python -m tests.system.builders` does it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.dev_server import DevServer
from tests.system.builders import build_under_fire


async def test_killed_coders_commit_once_and_all_that_they_wrote_is_merged(
    server: DevServer, tmp_path: Path, workspaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    report = await build_under_fire(server.address, tmp_path, modules=3, coders=2, kills=2, pace=1.0, seed=7)
    assert report.wrong == []
    assert report.merges == 3
