from __future__ import annotations

from pathlib import Path

import pytest

from activities.workspace.isolation import Isolation, NoSandbox, isolation
from activities.workspace.unsandboxed import Unsandboxed
from activities.workspace.workspace import Workspace


@pytest.fixture(scope="session")
def sandbox() -> Isolation:
    """The sandbox of this machine; a test that needs one is skipped where there is none."""
    try:
        return isolation()
    except NoSandbox as error:
        pytest.skip(str(error))


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
