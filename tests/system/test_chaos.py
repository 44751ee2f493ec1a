from __future__ import annotations

import asyncio
from pathlib import Path

from tests.system.chaos import run_under_fire


async def test_kills_of_workers_and_server_change_nothing_and_cost_nothing_recorded(tmp_path: Path) -> None:
    calm, fired = await asyncio.gather(
        run_under_fire(tmp_path / "calm", 0, 0, server_too=False),
        run_under_fire(tmp_path / "fired", 1, 3, server_too=True),
    )
    assert calm[0].repeated == 0
    assert fired[0].kills == 3
    assert fired[0].is_good, f"{fired[0]}: {fired[0].wrong}"
    assert fired[1:] == calm[1:]
