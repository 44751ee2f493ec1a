from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from activities.workspace.port import Command
from activities.workspace.process import Setting, run_process


async def test_a_command_that_is_cancelled_while_it_fails_to_start_makes_no_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setting = Setting(folder=tmp_path / "nowhere", around=(), environment={}, alone=False, isolation="none")
    running = asyncio.create_task(run_process(Command(["true"], tmp_path), setting))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    del running
    gc.collect()
    assert "never retrieved" not in caplog.text
