"""`build_project` by the scripted model, whose files are really written and tested."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tests.conftest import Runs
from tests.system.processes import ROOT, Workers, files_of, without_delays


async def test_two_builds_at_once_never_mix(workers: Workers, runs: Runs, tmp_path: Path, workspaces: Path) -> None:
    script = Path(shutil.copy(ROOT / "examples" / "textkit.toml", tmp_path))
    without_delays(script)
    worker = workers.start(MODEL=f"scripted/{script}")
    await worker.serves()
    one_review, other_review = await asyncio.gather(*(runs.execute("build_project", "textkit") for _ in range(2)))
    one, other = (files_of(folder) for folder in workspaces.iterdir())
    assert (one, one_review) == (other, other_review)
    assert [review["verdict"] for review in one_review] == ["PASS", "PASS", "PASS"]
    assert sorted(one) == [
        "tests/test_redact.py",
        "tests/test_slugify.py",
        "tests/test_wrap.py",
        "textkit/__init__.py",
        "textkit/redact.py",
        "textkit/slugify.py",
        "textkit/wrap.py",
    ]
