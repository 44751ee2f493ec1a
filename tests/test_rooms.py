"""The rooms of the wings: what they may import is held by the linter, and each says what it is for."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from workflows.serving.discovery import discover

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
        ("workflows/tree/scope.py", "from workflows.shown import reading", "the rooms of workflows"),
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


@pytest.mark.parametrize("wing", WINGS)
def test_each_room_has_a_place_in_the_direction(wing: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract.get("containers") == [wing]]
    placed = {room for layer in layers for room in layer.split(" | ")}
    assert {room.name for room in ROOMS if room.parent.name == wing} <= placed


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_has_nothing_beside_its_rooms_but_errors_agents_and_choreographies(wing: str) -> None:
    beside = {path.stem for path in (ROOT / wing).glob("*.py")} - {"__init__", "errors"}
    assert beside
    for name in beside:
        offer = discover([f"{wing}.{name}"])
        assert offer.agents or offer.choreographies, name


def test_an_agent_and_a_choreography_are_added_without_a_word_elsewhere(tree: Path) -> None:
    agent, choreography = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tree / "activities" / "translator.py").write_text(agent)
    (tree / "workflows" / "translate_all.py").write_text(choreography)
    code, told = lint(tree)
    assert code == 0, told
    command = [sys.executable, "-c", "from workflows.serving.discovery import *; print(discover(own_modules()))"]
    offered = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout
    assert "Translator" in offered
    assert "<choreography translate_all>" in offered
