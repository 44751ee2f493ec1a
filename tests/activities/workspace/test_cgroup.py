from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.workspace import cgroup
from activities.workspace.cgroup import bound
from activities.workspace.port import Limits


@pytest.fixture
def parent() -> Path:
    """The group in which groups can be made here."""
    found = cgroup._usable_parent()
    if found is None:
        pytest.skip("this process may make no control groups")
    return found


def mine(parent: Path) -> Iterator[Path]:
    return parent.glob(f"command-{os.getpid()}-*")


def test_the_kernel_bounds_the_processes_of_a_group(parent: Path) -> None:
    forks = "import os, time\nfor _ in range(30):\n    if os.fork() == 0: time.sleep(1); os._exit(0)"
    with bound(Limits(processes=16)) as enter:
        done = subprocess.run([*enter, sys.executable, "-c", forks], check=False, capture_output=True, text=True)
    assert "Resource temporarily unavailable" in done.stderr
    assert not list(mine(parent))


def test_a_group_is_gone_with_its_command(parent: Path) -> None:
    with bound(Limits()) as enter:
        (group,) = mine(parent)
        where = subprocess.run([*enter, "cat", "/proc/self/cgroup"], check=True, capture_output=True, text=True).stdout
        assert group.name in where
    assert not group.exists()


def test_groups_of_a_process_that_was_killed_are_removed_by_the_next(parent: Path) -> None:
    program = (
        "import os; from activities.workspace.cgroup import bound\n"
        "from activities.workspace.port import Limits\n"
        "with bound(Limits()): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program])
    killed.wait()
    assert list(parent.glob(f"command-{killed.pid}-*"))
    cgroup._remove_those_left(parent)
    assert not list(parent.glob(f"command-{killed.pid}-*"))


def test_where_no_group_can_be_made_a_command_runs_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cgroup, "_usable_parent", lambda: tmp_path / "nowhere")
    with bound(Limits()) as enter:
        assert enter == ()
