"""A run of pytest in a process of its own: limited, watched, and gone when it is over.

The child gets its environment from nothing, so no credential of the worker reaches the code under test. Whatever it
starts is killed with it, and of what it prints both ends are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

from pydantic import BaseModel, ConfigDict

# In pytest's own order; the mark tells a file that configures pytest from one that does not.
CONFIGURATIONS = (
    *((name, "") for name in ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")),
    ("pyproject.toml", "[tool.pytest"),
    ("tox.ini", "[pytest]"),
    ("setup.cfg", "[tool:pytest]"),
)

_KEPT = 10_000  # bytes of output kept from either end
_GRACE = 2.0  # seconds for killed processes to let go of their output

# Only plugins that the workspace names itself are loaded (`addopts = -p pytest_asyncio`): a verdict must not
# depend on what else is installed beside the worker that happens to give it.
_PYTEST = ["-u", "-m", "pytest", "-q", "--disable-plugin-autoload", "-p", "no:cacheprovider"]
_PYTEST += ["--rootdir=.", "--confcutdir=."]

# Runs before pytest, in the child: preexec_fn is not safe in a process with threads.
_LIMITED = """
import os, resource, sys
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
limit = int(sys.argv[1]) if hard == resource.RLIM_INFINITY else min(int(sys.argv[1]), hard)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.execv(sys.argv[2], sys.argv[2:])
"""


class TestRun(BaseModel):
    """What a run of tests gave: the verdict and, bounded, what it printed."""

    __test__: ClassVar[bool] = False  # pytest takes classes of this name for tests
    model_config = ConfigDict(frozen=True)

    passed: bool
    output: str

    def __str__(self) -> str:
        return f"The tests {'passed' if self.passed else 'did not pass'}.\n\n{self.output}"


async def run_pytest(
    folder: Path, selected: Sequence[str], *, configuration: str, timeout: float, memory_mb: int
) -> TestRun:
    """Run pytest in a folder.

    Whatever the tests started is killed when they end, when time is up and when this call is cancelled.

    Args:
        folder: Where the tests run, and what they can import from.
        selected: Files, folders or tests as pytest takes them; all of the folder's without any.
        configuration: The file that configures pytest; `/dev/null` for none at all.
        timeout: Seconds for the whole run.
        memory_mb: Address space of each process, in MiB.
    """
    home = tempfile.mkdtemp(prefix="tests-")
    report = Path(home, "report.xml")
    command = [sys.executable, "-I", "-S", "-c", _LIMITED, str(memory_mb * 1024 * 1024)]
    command += [sys.executable, *_PYTEST, "-c", configuration, f"--junitxml={report}"]
    # If a test hangs, pytest says where when half of the time is gone.
    command += ["-o", f"faulthandler_timeout={timeout / 2}"]
    try:
        watch = await _watched([*command, *selected], folder, home, timeout)
        remark = _remark(watch.code, timeout, report)
    finally:
        await asyncio.shield(asyncio.to_thread(_remove, home))
    return TestRun(passed=watch.code == 0 and not remark, output=f"{watch.text()}\n\n{remark}".strip())


class _Watch(asyncio.SubprocessProtocol):
    """Watch over a process: keep both ends of its output, and leave nothing of it behind."""

    def __init__(self, home: str) -> None:
        self.exited, self.closed = asyncio.Event(), asyncio.Event()
        self.code: int | None = None  # None: it did not end by itself
        self._home = home
        self._head, self._tail, self._size = b"", b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        room = _KEPT - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-_KEPT:]
        self._size += len(data)

    def process_exited(self) -> None:
        self.kill()
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def kill_daemons(self) -> None:
        """Kill what has left the process's group: on Linux its environment still tells where it comes from."""
        mark = f"\0HOME={self._home}".encode()
        for environment in Path("/proc").glob("[1-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in b"\0" + environment.read_bytes():
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    def text(self) -> str:
        cut = self._size - len(self._head) - len(self._tail)
        middle = f"\n[… {cut:,} bytes left out …]\n".encode() if cut else b""
        return (self._head + middle + self._tail).decode(errors="replace").strip()


async def _watched(command: Sequence[str], folder: Path, home: str, timeout: float) -> _Watch:
    """Run a command to its end or to the end of its time, and kill what it leaves behind."""
    watch = _Watch(home)
    transport, _ = await asyncio.get_running_loop().subprocess_exec(
        lambda: watch,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=_environment(home),
        start_new_session=True,
    )
    try:
        if await _happens(watch.exited, timeout):
            watch.code = transport.get_returncode()
    finally:
        if not watch.exited.is_set():
            watch.kill()
        try:
            await asyncio.shield(asyncio.to_thread(watch.kill_daemons))
            await _happens(watch.closed, _GRACE)
        finally:
            transport.close()
    return watch


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


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


def _environment(home: str) -> dict[str, str]:
    """Build the environment of a test run from nothing, so that no credential gets into it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    python = {"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": path, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", **python}


def _remark(code: int | None, timeout: float, report: Path) -> str:
    """Say what pytest's own output does not tell."""
    if code is None:
        return f"Stopped after {timeout:g} seconds. Look for an endless loop or a wait without a limit."
    if code < 0:
        return f"The test process was killed by signal {-code} ({signal.strsignal(-code)})."
    if code == 5:
        return "No tests were collected: pytest looks for functions test_… in files test_….py."
    if not report.exists():
        return f"The process ended (exit code {code}) before pytest was done. Does the code use os._exit?"
    return ""
