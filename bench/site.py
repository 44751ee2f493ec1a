"""Where a case is measured: a dev server of its own, with real worker processes.

async with site(tuned=False) as here:
    await here.worker("--serve", "Hand")
    run = await here.run(nothing_at_once, 100, instances={"hand": 10})
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console import guarded
from console.dev_server import HOST, DevServer
from workflows.program.choreography import Choreography

ROOT = Path(__file__).parent.parent
TEAM = ("worker.py", "--bare", "--module", "bench.team", "--log-level", "warning")
LONGEST_RUN = timedelta(hours=1)


class BenchFailed(RuntimeError):
    """A case can't be measured, or a result is wrong."""


@dataclass(frozen=True)
class Ran:
    """A run that has ended.

    Attributes:
        workflow_id: Its workflow id.
        result: What came back, as plain JSON values.
        seconds: From the client's call to the client's answer.
    """

    workflow_id: str
    result: Any
    seconds: float


@dataclass(frozen=True)
class Requests:
    """What a worker has asked of the server.

    Attributes:
        address: Where the worker tells it.
    """

    address: str

    def counts(self) -> Counter[str]:
        """Return how often it has made each kind of request so far."""
        with urllib.request.urlopen(f"http://{self.address}/metrics") as answer:
            told = answer.read().decode()
        found = re.findall(r'^temporal_request(?:_total)?\{[^}]*operation="(\w+)"[^}]*\} (\d+)', told, re.MULTILINE)
        counts: Counter[str] = Counter()
        for operation, number in found:
            counts[operation] += int(number)
        return counts


@dataclass(frozen=True)
class Board:
    """A board that is served.

    Attributes:
        address: Where.
        requests: What it has asked of the server.
        pid: Its process.
    """

    address: str
    requests: Requests
    pid: int


class Site:
    """A server, a client of it, and the processes that were started there."""

    def __init__(self, server: DevServer, client: Client, folder: Path) -> None:
        self.server = server
        self.client = client
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._workers: list[subprocess.Popen[bytes]] = []

    async def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of `bench.team`, and wait until it serves."""
        self._workers.append(await self.program(*TEAM, *options, **environment))
        return self._workers[-1]

    async def counted_worker(self, **environment: str) -> Requests:
        """Start a worker whose requests to the server are counted, and wait until it serves."""
        address = f"{HOST}:{_free_port()}"
        await self.program("-m", "bench.counted", address, **environment)
        return Requests(address)

    async def counted_board(self) -> Board:
        """Start a board whose requests to the server are counted, and wait until it serves."""
        address = f"{HOST}:{_free_port()}"
        process = await self.program("-m", "bench.counted", address, "board", says="Board: ")
        said = self._log(process).read_text()
        return Board(said.partition("Board: ")[2].split()[0].rstrip("/"), Requests(address), process.pid)

    async def model(self, seconds: float) -> str:
        """Start a model that thinks for some seconds; return its address."""
        port = _free_port()
        await self.program("-m", "bench.model_server", str(port), str(seconds))
        return f"http://{HOST}:{port}/v1"

    async def program(self, *arguments: str, says: str = "Serving on", **environment: str) -> subprocess.Popen[bytes]:
        """Start a Python program that serves, and wait until it says so."""
        path = self.folder / f"{len(self._processes)}.log"
        with path.open("wb") as log:
            process = guarded.start(
                [sys.executable, *arguments],
                log,
                cwd=ROOT,
                environment={
                    **os.environ,
                    "TEMPORAL_ADDRESS": self.server.address,
                    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
                    **environment,
                },
            )
        self._processes.append(process)
        while says not in path.read_text():
            if process.poll() is not None:
                raise BenchFailed(f"{' '.join(arguments)} ended: {path.read_text()}")
            await asyncio.sleep(0.02)
        return process

    async def run(
        self, workflow: Choreography[..., Any], *inputs: Any, instances: Mapping[str, int], name: str = ""
    ) -> Ran:
        """Run a choreography with pools of some sizes."""
        return await self.run_workflow(
            workflow.name, *inputs, {"instances": instances}, queue=CHOREOGRAPHY_QUEUE, name=name
        )

    async def run_workflow(self, workflow: str, *inputs: Any, queue: str, name: str = "") -> Ran:
        """Run any workflow."""
        workflow_id = name or f"{workflow}-{uuid.uuid4().hex[:8]}"
        start = time.perf_counter()
        result = await self.client.execute_workflow(
            workflow, args=inputs, id=workflow_id, task_queue=queue, execution_timeout=LONGEST_RUN
        )
        return Ran(workflow_id, result, time.perf_counter() - start)

    def cpu_of_workers(self) -> float:
        """Return the seconds of a processor that the workers have used so far."""
        return sum(cpu_of(process.pid) for process in self._workers)

    def _log(self, process: subprocess.Popen[bytes]) -> Path:
        return self.folder / f"{self._processes.index(process)}.log"

    def end(self) -> None:
        """End all processes."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            guarded.end(process)


def cpu_of(pid: int) -> float:
    """Return the seconds of a processor that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def site(*, tuned: bool) -> AsyncIterator[Site]:
    """Start a dev server for as long as the block lasts.

    Args:
        tuned: Whether with the settings of `make demo`; False gives the server as it comes.
    """
    with tempfile.TemporaryDirectory() as folder, DevServer.start(ui=False, tuned=tuned) as server:
        here = Site(server, await Client.connect(server.address, data_converter=data_converter), Path(folder))
        try:
            yield here
        finally:
            here.end()


def right(ran: Ran, expected: Any) -> Ran:
    """Return the run if its result is right.

    Raises:
        BenchFailed: It is not.
    """
    if ran.result != expected:
        raise BenchFailed(f"the result of {ran.workflow_id} is wrong")
    return ran
