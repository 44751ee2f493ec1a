"""The rooms of the wings: what they may import is held by the linter, and each says what it is for."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = ("activities", "workflows")
ROOMS = [room for wing in WINGS for room in sorted((ROOT / wing).iterdir()) if (room / "__init__.py").exists()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all that the contracts are about."""
    for package in (*WINGS, "console", "testing"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    code, told = lint(tree)
    assert code == 0, told


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("activities/contract/names.py", "from activities.calls import activity", "the rooms of activities"),
        ("activities/models/model.py", "from activities.declarations.agent import Agent", "the rooms of activities"),
        ("activities/border/logs.py", "from workflows.engine import run", "knows nothing of choreographies"),
        ("workflows/steering/budget.py", "from workflows.engine.run import Run", "the rooms of workflows"),
        ("workflows/engine/run.py", "import litellm", "only one room knows of litellm"),
        ("workflows/shown/board.py", "from console import history", "knows nothing of choreographies"),
    ],
)
def test_an_import_against_the_direction_is_told(tree: Path, file: str, line: str, broken: str) -> None:
    path = tree / file
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    code, told = lint(tree)
    assert code == 1
    assert any(broken in one and "BROKEN" in one for one in told.splitlines()), told


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: f"{room.parent.name}/{room.name}")
def test_a_room_says_what_it_is_for_and_where_to_begin(room: Path) -> None:
    told = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    assert len(told.splitlines()[0]) > 20
    assert "Begin with" in told or "adapters" in told


def test_a_wing_has_nothing_beside_its_rooms_but_errors_and_the_example() -> None:
    beside = {f"{wing}/{path.name}" for wing in WINGS for path in (ROOT / wing).glob("*.py")}
    assert beside == {
        "activities/__init__.py",
        "activities/errors.py",
        "activities/build_team.py",
        "workflows/__init__.py",
        "workflows/errors.py",
        "workflows/build_project.py",
    }
