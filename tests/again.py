"""Run the tests; where few fail beside others, run these once more, alone, and say which.

    python -m tests.again

The tests run beside each other, on a real server and by a real clock, and use all of the machine: now and then a
test's moment is missed. One that fails alone too has failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.system.processes import ROOT

FEW = 3
"""How many may have been missed moments; more are a fault."""

SOME_FAILED = 1
"""The exit code of pytest that says so; others are of no test's."""


def main(root: Path = ROOT) -> int:
    """Run the tests of a folder; return pytest's exit code, or that of the second time."""
    code = _pytest(root)
    if code != SOME_FAILED:
        return code
    failed = sorted(json.loads((root / ".pytest_cache/v/cache/lastfailed").read_text()))
    if len(failed) > FEW:
        return code
    print("\nThese failed beside others, and are run again, alone:", *failed, sep="\n", flush=True)
    return _pytest(root, "-n", "0", *failed)


def _pytest(root: Path, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=root).returncode


if __name__ == "__main__":
    sys.exit(main())
