from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.dev_server import DevServer
from tests.system.playground import Playground
from tests.system.processes import Workers


@pytest.fixture
def workers(server: DevServer, tmp_path: Path) -> Iterator[Workers]:
    """A way to start worker processes on the session's server."""
    started = Workers(server.address, tmp_path)
    yield started
    started.end()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """A loop that lasts for all examples of a property."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def playground(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """Where random programs are run and disturbed, on a server of its own."""
    with DevServer.start(ui=False) as server:
        made = Playground(server.address, Path(tmp_path_factory.mktemp("playground")))
        runner.run(made.__aenter__())
        yield made
        runner.run(made.__aexit__())
