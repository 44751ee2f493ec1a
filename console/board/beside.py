"""The board as a process beside a dev server."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import console
from console import guarded
from console.dev_server import HOST, DevServer, free_port

PORT = 8234


@contextlib.contextmanager
def board_beside(server: DevServer, port: int | None) -> Iterator[str]:
    """Serve the board of a server for as long as the block lasts, and yield its address; it is there within seconds.

    Args:
        server: The server; what goes wrong with the board is told in a file beside its log.
        port: The board's port. Without one: 8234 if it is free, else any free port.
    """
    with contextlib.ExitStack() as taken:
        port = port or free_port(PORT, taken)
    log_file = server.log_file.with_name(f"{server.log_file.name}.board")
    with log_file.open("wb") as log:
        process = guarded.start(
            [sys.executable, "-m", "console", "board", "--port", str(port)],
            log,
            environment=_environment(server.address),
        )
    try:
        yield f"http://{HOST}:{port}/"
    finally:
        guarded.end(process)


def _environment(address: str) -> dict[str, str]:
    """Return this process's environment, with that server and no other, and with the project wherever one stands."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    path = os.pathsep.join(filter(None, [str(Path(console.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    return {**others, "TEMPORAL_ADDRESS": address, "PYTHONPATH": path}
