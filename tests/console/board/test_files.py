"""What the board shows of a run's files, with the real git."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from activities.workspace import log
from activities.workspace.git import has_git
from activities.workspace.site import Site
from tests.activities.workspace import test_repository
from tests.conftest import Runs
from tests.provider import Provider, Text
from tests.workflows.council import produce_twice

PAGE = {"Accept": "text/html"}
HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m {{ 7*7 }}"

pytestmark = pytest.mark.skipif(not has_git(), reason="there is no git on this machine")


async def test_commits_are_shown_with_their_steps_and_differences_where_they_can_be_read(
    runs: Runs, board: httpx.AsyncClient, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKSPACES", str(tmp_path))
    monkeypatch.setattr(log, "_SECONDS", 60.0)  # time enough also where much else goes on
    provider.enqueue(Text("one"), Text("two"))
    async with runs.serving("tests.workflows.council"):
        run = await runs.start(produce_twice, "Roses")
        await run.result()
    address = f"/runs/{run.id}/files"
    elsewhere = (await board.get(address)).json()
    assert (elsewhere["is_here"], elsewhere["commits"], elsewhere["workspaces"]) == (False, [], str(tmp_path))
    assert "Start the board where that folder can be read" in (await board.get(address, headers=PAGE)).text

    assert run.first_execution_run_id is not None
    site = Site.of_run(tmp_path, run.id, run.first_execution_run_id)
    test_repository.Run(site).does("coder-1", {"wrap.py": f"{HOSTILE}\n", "long.py": "x" * 1_000_000}, HOSTILE)
    [commit] = (await board.get(address)).json()["commits"]
    assert (commit["by"], commit["step"], commit["method"], commit["run"]) == ("coder-1", "1", "Coder.make", "textkit")
    assert [(file["path"], file["added"], file["is_cut"]) for file in commit["files"]] == [
        ("long.py", 1, True),
        ("wrap.py", 1, commit["files"][0]["diff"] is None),
    ]
    pages = [(await board.get(path, headers=PAGE)).text for path in (address, f"{address}/{commit['commit']}")]
    for page in pages:
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\x1b" not in page
        assert " 49" not in page
        assert len(page) < 500_000
        assert "step 1 · Coder.make" in page
        assert "of the run textkit" in page
    assert "+&lt;/pre&gt;&lt;script&gt;alert(1)" in pages[1]
    missing = await board.get(f"{address}/{'0' * 40}")
    assert (missing.status_code, "there is no commit 000" in missing.json()["error"]) == (404, True)
