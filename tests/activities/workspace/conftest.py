from __future__ import annotations

from pathlib import Path

import pytest

from activities.workspace.bubblewrap import Bubblewrap
from activities.workspace.isolation import is_sandboxed, isolation
from activities.workspace.port import Isolation
from activities.workspace.unsandboxed import Unsandboxed
from activities.workspace.workspace import Workspace


@pytest.fixture(scope="session")
def sandbox() -> Isolation:
    """The sandbox of this machine; a test that needs one is skipped where there is none.

    What is allowed in the environment does not count: what these tests do is to be done in a sandbox only.
    """
    if not is_sandboxed():
        pytest.skip("bubblewrap is not there, or can't isolate here")
    found = isolation()
    assert isinstance(found, Bubblewrap)
    return found


@pytest.fixture(params=["sandboxed", "unsandboxed"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace whose commands run in the sandbox, and one whose commands run without."""
    way = request.getfixturevalue("sandbox") if request.param == "sandboxed" else Unsandboxed()
    return Workspace(tmp_path / "enclosing project" / "work space", isolation=way)


@pytest.fixture
def sandboxed(sandbox: Isolation, tmp_path: Path) -> Workspace:
    """A workspace whose commands run in the sandbox."""
    return Workspace(tmp_path / "sandboxed", isolation=sandbox)


@pytest.fixture
def unsandboxed(tmp_path: Path) -> Workspace:
    """A workspace whose commands run without a sandbox."""
    return Workspace(tmp_path / "unsandboxed", isolation=Unsandboxed())
