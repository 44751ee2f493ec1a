"""`make audit`: what its own script finds in lock files, in what is installed, and by advisories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCK = """# by a tool
litellm==1.82.6 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via choreography
some.package==2.0 ; python_version < '4' \\
    --hash=sha256:cc
"""
ADVISORY = """
id: PYSEC-1
modified: 2026-04-01T00:00:00Z
details: It sends keys away.
affected:
- package: {ecosystem: PyPI, name: Some_Package}
  ranges:
  - type: ECOSYSTEM
    events: [%s]
"""


def audit(*words: str | Path) -> tuple[int, str]:
    """Return the exit code and the words of the script."""
    ran = subprocess.run([sys.executable, ROOT / ".ci/audit.py", *words], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file of two packages."""
    (tmp_path / "some.lock").write_text(LOCK)
    return tmp_path / "some.lock"


def test_all_that_is_locked_here_has_hashes_and_a_licence_for_all_use() -> None:
    assert audit("hashes", *sorted(ROOT.glob("requirements*.lock"))) == (0, "hashes: no faults\n")
    assert audit("licences") == (0, "licences: no faults\n")


def test_what_is_not_pinned_or_has_no_hash_is_named(lock: Path) -> None:
    assert audit("hashes", lock)[0] == 0
    lock.write_text(LOCK + "bare==1.0\nopen>=3 \\\n    --hash=sha256:dd\n")
    code, said = audit("hashes", lock)
    assert code == 1
    assert "'bare==1.0' has no hash" in said
    assert "'open>=3' is not pinned" in said


@pytest.mark.parametrize(
    ("events", "is_known"),
    [
        ("{introduced: '0'}", True),
        ("{introduced: '0'}, {fixed: '2.0'}", False),
        ("{introduced: '0'}, {fixed: '2.0.1'}", True),
        ("{introduced: '1.5'}, {last_affected: '2.0'}", True),
        ("{introduced: '1.5'}, {last_affected: '1.9'}", False),
        ("{introduced: '0'}, {fixed: '1.0'}, {introduced: '2.0'}, {fixed: '2.1'}", True),
        ("{introduced: '2.1'}", False),
    ],
)
def test_a_version_that_an_advisory_names_is_told(lock: Path, tmp_path: Path, events: str, is_known: bool) -> None:
    folder = tmp_path / "vulns" / "some-package"
    folder.mkdir(parents=True)
    (folder / "PYSEC-1.yaml").write_text(ADVISORY % events)
    code, said = audit("advisories", tmp_path / "vulns", lock)
    assert "the newest of 2026-04-01" in said
    assert (code, "some-package 2.0: PYSEC-1: It sends keys away." in said) == (int(is_known), is_known)


def test_an_advisory_that_was_withdrawn_counts_no_more(lock: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ADVISORY % "{introduced: '0'}" + "withdrawn: 2026-05-01T00:00:00Z\n")
    assert audit("advisories", tmp_path, lock)[0] == 0


def test_a_folder_without_advisories_is_no_good_news(lock: Path, tmp_path: Path) -> None:
    code, said = audit("advisories", tmp_path / "nowhere", lock)
    assert code == 1
    assert "There are no advisories in" in said
