"""Commands as plain processes, with the rights of the worker, where whoever started it has said that this may be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from pathlib import Path

from activities.workspace.port import Command, Ended
from activities.workspace.process import Setting, environment, run_process


class Unsandboxed:
    """Does not isolate: bounds what it can, and ends what it finds."""

    name = "none (--allow-unsandboxed)"
    promise = (
        "NOT sandboxed: what models write runs with this worker's rights. It reaches the network, files outside the "
        "workspace, and other processes with their environment and its keys; it can fill the disk outside the "
        "workspace, end the worker, and leave processes behind."
    )

    async def run(self, command: Command) -> Ended:
        """Run a command with a home of its own, which is removed."""
        home = tempfile.mkdtemp(prefix="command-")
        try:
            inside = environment(home, os.environ.get("PATH", os.defpath))
            return await run_process(
                command,
                Setting(
                    command.folder, (), inside, alone=False, isolation=self.promise, sweep=lambda: _kill_marked(home)
                ),
            )
        finally:
            await asyncio.shield(asyncio.to_thread(_remove, home))


def _kill_marked(home: str) -> None:
    """Kill what the warden no longer finds below itself: on Linux the environment still tells where it comes from."""
    mark = f"\0HOME={home}\0".encode()
    for process in Path("/proc").glob("[1-9]*"):  # a longer pattern would fail where one ends meanwhile
        with contextlib.suppress(OSError):
            if mark in b"\0" + (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def _remove(folder: str) -> None:
    """Remove a folder with all that is in it, however deep tests have nested folders: none is entered in another."""
    emptied, number = [folder], 0
    for inner in emptied:  # it grows meanwhile
        with contextlib.suppress(OSError):
            Path(inner).chmod(0o700)
            for entry in list(os.scandir(inner)):
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    Path(entry).chmod(0o700)
                    emptied.append(str(Path(entry).rename(f"{folder}/.removed-{number}-{os.urandom(4).hex()}")))
                else:
                    Path(entry).unlink()
    for inner in reversed(emptied):
        with contextlib.suppress(OSError):
            Path(inner).rmdir()
