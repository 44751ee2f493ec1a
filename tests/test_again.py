from __future__ import annotations

from pathlib import Path

import pytest

from tests.again import FEW, main

ONCE = """
from pathlib import Path

def test_that_fails_once():
    seen = Path("seen")
    was_there = seen.exists()
    seen.touch()
    assert was_there
"""


def test_what_fails_beside_others_and_passes_alone_is_told_and_no_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_once.py").write_text(ONCE)
    assert main(tmp_path) == 0
    assert "run again, alone:\ntest_once.py::test_that_fails_once\n" in capfd.readouterr().out


@pytest.mark.parametrize("count", [1, FEW + 1])
def test_what_fails_alone_too_is_one_and_so_are_many(tmp_path: Path, count: int) -> None:
    (tmp_path / "test_always.py").write_text("".join(f"def test_{n}():\n    assert False\n" for n in range(count)))
    assert main(tmp_path) == 1
