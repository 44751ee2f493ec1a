"""What the types promise to whoever writes agents and choreographies: `types_sample.py` spells it out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SAMPLE = Path(__file__).parent / "types_sample.py"
MARK = re.compile(r"  # type: ignore\[(.+)\]$")


def errors_marked(text: str) -> set[tuple[int, str]]:
    marks = ((number, MARK.search(line)) for number, line in enumerate(text.splitlines(), 1))
    return {(number, mark[1]) for number, mark in marks if mark}


def errors_found(path: Path, text: str, folder: Path) -> set[tuple[int, str]]:
    """Run mypy as the project does, on another text in place of the file's."""
    shadow = folder / path.name
    shadow.write_text(text)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--shadow-file", str(path), str(shadow), str(path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    errors = re.findall(rf"^\S*{path.name}:(\d+): error: .*\[(.+)\]$", run.stdout, re.MULTILINE)
    assert len(errors) == run.stdout.count(": error: "), run.stdout
    return {(int(line), code) for line, code in errors}


def test_results_have_their_types_and_mistakes_are_red_where_they_are(tmp_path: Path) -> None:
    marked = SAMPLE.read_text()
    unmarked = "\n".join(MARK.sub("", line) for line in marked.splitlines())
    assert errors_found(SAMPLE, unmarked, tmp_path) == errors_marked(marked)
