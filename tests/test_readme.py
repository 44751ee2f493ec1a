"""What the README and its neighbours show has to work as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docker/README.md")
EXAMPLES = [
    pytest.param(textwrap.dedent(block), id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^ *```python\n(.*?)^ *```", (ROOT / page).read_text(), re.S | re.M), 1)
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_has_no_undefined_name(example: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E9,F821",
        "--output-format",
        "concise",
        "-",
    ]
    checked = subprocess.run(command, input=example, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5
