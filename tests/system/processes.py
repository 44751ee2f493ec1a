"""Real worker processes and the real `temporal` program, for tests that stop, kill and read them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.limits import HEARTBEAT_TIMEOUT_S
from console.dev_server import find_program
from tests.system.forked import ForkedWorker

ROOT = Path(__file__).parent.parent.parent

T = TypeVar("T")

_OUTAGE = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNKNOWN)


class Process:
    """A program with files that keep what it says, in a session of its own."""

    def __init__(
        self, *command: str, folder: Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    async def exit_code(self) -> int:
        """Wait for the end."""
        await eventually(lambda: self._process.poll() is not None)
        return self._process.returncode

    async def says(self, text: str) -> None:
        """Wait until a text is in the output."""
        await eventually(
            lambda: text in self.output or self._process.poll() is not None,
            lambda: f"{text!r} in:\n{self.output}\n{self.errors}",
        )
        assert text in self.output, f"ended with {self._process.returncode}:\n{self.output}\n{self.errors}"

    async def serves(self) -> None:
        """Wait until a worker serves."""
        await self.says("Serving on")


class Workers:
    """Starts workers of one server; none outlives its test."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder
        self._started: list[Process | ForkedWorker] = []

    def fork(self, module: str, **environment: str) -> ForkedWorker:
        """Let a worker serve a module that has litellm in it already: where its start and words aren't the point."""
        worker = ForkedWorker(self._address, module, environment=environment, heartbeat_timeout=HEARTBEAT_TIMEOUT_S)
        self._started.append(worker)
        worker.serve()
        return worker

    def start(self, *options: str, cwd: Path = ROOT, **environment: str) -> Process:
        """Start a worker; `serves` tells when it does."""
        process = Process(
            *(sys.executable, str(ROOT / "worker.py"), *options),
            folder=self._folder / f"worker-{len(self._started) + 1}",
            cwd=cwd,
            environment={"TEMPORAL_ADDRESS": self._address, **environment},
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()


async def eventually(
    condition: Callable[[], object], told: Callable[[], str] = lambda: "", *, seconds: float = 60.0
) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain {told()}"
        await asyncio.sleep(0.02)


async def through_outages(ask: Callable[[], Awaitable[T]], *, seconds: float = 60.0) -> T:
    """Ask a server that may be killed and started again meanwhile; a lost connection is no answer.

    Args:
        ask: What is to be asked; it is asked anew.
        seconds: How long an outage may last.
    """
    answered = time.monotonic()
    while True:
        try:
            return await ask()
        except RPCError as error:
            if error.status not in _OUTAGE or time.monotonic() - answered > seconds:
                raise
        await asyncio.sleep(0.05)


async def result_of(run: WorkflowHandle[Any, Any], *, seconds: float = 300.0) -> Any:
    """Wait for a run's result, however often the connection to its server is lost until then."""
    async with asyncio.timeout(seconds):
        return await through_outages(run.result, seconds=seconds)


async def recorded(run: WorkflowHandle[Any, Any], text: str) -> None:
    """Wait until the server knows of a running call's progress so far."""
    async with asyncio.timeout(60):
        while True:
            calls = (await through_outages(run.describe)).raw_description.pending_activities
            if any(text in payload.data.decode() for call in calls for payload in call.heartbeat_details.payloads):
                return
            await asyncio.sleep(0.02)


async def temporal(address: str, *arguments: str) -> tuple[int, str]:
    """Run the `temporal` program; return its exit code and all that it says."""
    process = await asyncio.create_subprocess_exec(
        find_program(),
        *arguments,
        *("--address", address, "--command-timeout", "60s"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def is_alive(pid: int) -> bool:
    """Whether there is a process that has not ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def at_work_in(folder: Path) -> list[int]:
    """Return the processes that work in a folder, by whatever name they know it; zombies have none any more."""
    found = []
    for process in Path("/proc").glob("[1-9]*"):  # a longer pattern would fail where one ends meanwhile
        with suppress(OSError):
            if (process / "cwd").samefile(folder):
                found.append(int(process.name))
    return found


def free_port() -> str:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def is_listening(port: str | int) -> bool:
    """Whether something answers at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of a folder's files by their paths, without Python's caches."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
