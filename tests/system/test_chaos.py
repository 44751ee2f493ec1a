from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.system.chaos import run_under_fire
from tests.system.stage import Kill

KILLS = (Kill("worker", "busy"), Kill("server", "continue-as-new"), Kill("both", "commit"))


@pytest.mark.timeout(300)
async def test_kills_of_workers_and_server_change_nothing_and_cost_nothing_recorded(tmp_path: Path) -> None:
    (report, calm), (fired, outcome) = await asyncio.gather(
        run_under_fire(tmp_path / "calm", 0, ()), run_under_fire(tmp_path / "fired", 1, KILLS)
    )
    assert report.is_good, f"{report}: {report.wrong}"
    assert report.repeated == 0
    assert fired.kills == len(KILLS)
    assert fired.is_good, f"{fired}: {fired.wrong}"
    assert calm.differences(outcome) == []
