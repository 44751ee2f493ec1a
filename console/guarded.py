"""Programs that never outlive the process that started them, not even one that was killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_S = 10.0
"""Seconds that a program gets to end by itself."""

# The shell becomes the program, so its process id is the program's. The guard in its background reads the pipe from
# the parent: a line means that the parent ended the program, the pipe's end that the parent is gone. Then it kills
# outright: what the parent held, a lock on a database, is free by then, and a slow end would meet whoever takes it.
_GUARDED = 'exec 3<&0; { read -r _ <&3 || kill -KILL $$; } & exec "$@" 3<&- </dev/null'


def start(
    command: Sequence[str], log: IO[bytes], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own: Ctrl-C in the terminal is the parent's to answer.

    Args:
        command: The program and its arguments.
        log: Where its output goes.
        cwd: Its working folder.
        environment: Its whole environment; the parent's where none is given.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARDED, "guard", *command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program, and its guard; kill it if it takes longer than `STOP_S`."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError), process.stdin as guard:
            guard.write(b"\n")
