from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.dev_server import DevServer
from tests.system.processes import Workers


@pytest.fixture
def workers(server: DevServer, tmp_path: Path) -> Iterator[Workers]:
    """A way to start worker processes on the session's server."""
    started = Workers(server.address, tmp_path)
    yield started
    started.end()
