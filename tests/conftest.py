"""Fixtures, named for what they give: a real server, a client, a provider on loopback, a way to run choreographies."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import asyncio
import io
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.contract.spans import Tell
from activities.housekeeping.attributes import known_attributes
from activities.models import model
from activities.values.converter import data_converter
from activities.workspace.isolation import ALLOWED, is_sandboxed
from console.dev_server import DevServer
from console.history import read_run
from console.mermaid import sequence_diagram
from console.show import print_table
from tests.provider import Provider
from workflows.program.choreography import Choreography
from workflows.serving.client import open_client
from workflows.serving.running import Running
from workflows.serving.settings import Settings
from workflows.serving.workers import workers

if not is_sandboxed():
    os.environ[ALLOWED] = "1"  # for the processes that tests start, too


TESTS = Path(__file__).parent

LONGEST = (
    "system/test_properties.py",
    "workflows/engine/test_journal.py",
    "system/test_builds.py",
    "system/test_properties_of_edits.py",
    "activities/models/test_patience.py",
    "test_readme.py",
    "system/test_chaos.py",
    "system/test_large.py",
    "system/test_encryption.py",
)
"""The files that take longest, as many seconds as a hundred others: begun late, one would be left at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; spread those of systems, which mostly wait, among the others, which compute."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    systems = [path for path in files if "system" in path.parts]
    others = [path for path in files if path not in systems]
    places = {path: (number + 0.5) / len(kind) for kind in (systems, others) for number, path in enumerate(kind)}
    places |= {path: LONGEST.index(name) - len(LONGEST) for path in files if (name := _name(path)) in LONGEST}
    items[:] = [item for path in sorted(files, key=places.__getitem__) for item in files[path]]


def _name(path: Path) -> str:
    return path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""


@pytest.fixture(scope="session")
def server() -> Iterator[DevServer]:
    """A dev server for the whole session."""
    with DevServer.start(ui=False) as started:
        yield started


@pytest.fixture(scope="session")
async def client(server: DevServer) -> Client:
    """A client of that server."""
    return await Client.connect(server.address, data_converter=data_converter)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A model provider on loopback, which `MODEL` names."""
    # On a busy machine the import takes longer than a call may be silent, if a call has to wait for it.
    model.load()
    monkeypatch.setattr("activities.models.gates._gates", {})  # nobody waits for what failed in another test
    with Provider() as started:
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture(autouse=True)
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder under which this test's runs and agents have their workspaces."""
    folder = tmp_path / "workspaces"
    monkeypatch.setenv("WORKSPACES", str(folder))
    return folder


class Ledger:
    """A file in which agents write a line for what they do, whatever process they are in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self, beginning: str = "") -> list[str]:
        """Return the whole lines that begin so, without their beginning."""
        whole = self.path.read_text().rpartition("\n")[0].splitlines()
        return [line.removeprefix(beginning) for line in whole if line.startswith(beginning)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Where this test's agents write down what they do."""
    return Ledger(tmp_path / "ledger")


class Runs:
    """Starts choreographies, serves what they need in this process, and ends what a test leaves running."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._started: list[WorkflowHandle[Any, Any]] = []

    @asynccontextmanager
    async def serving(
        self,
        *modules: str,
        serve: tuple[str, ...] = (),
        concurrency: tuple[str, ...] = (),
        grace: float = 0.0,
        team: str = "",
        traces: Tell | None = None,
    ) -> AsyncIterator[None]:
        """Serve modules, or a part of them, as `python worker.py --bare` does, for as long as the block lasts."""
        settings = Settings.read(
            modules=modules, serve=serve, concurrency=concurrency, bare=True, grace=grace, team=team
        )
        # A client takes only one worker for a queue; a test may want two.
        client = await open_client(target_host=self.client.service_client.config.target_host)
        made = workers(client, settings, await known_attributes(client), traces)
        async with Running(made, grace) as running:
            yield
        for failure in running.failures:
            raise failure

    async def start(
        self,
        choreography: Choreography[..., Any] | str,
        *inputs: Any,
        id: str | None = None,
        task_timeout: timedelta | None = None,
    ) -> WorkflowHandle[Any, Any]:
        """Start a run, by inputs as the CLI would send them."""
        name = choreography if isinstance(choreography, str) else choreography.name
        handle = await self.client.start_workflow(
            name,
            args=list(inputs),
            id=id or f"{name}-{uuid.uuid4().hex[:8]}",
            task_queue=CHOREOGRAPHY_QUEUE,
            task_timeout=task_timeout,
        )
        self._started.append(handle)
        return handle

    async def execute(self, choreography: Choreography[..., Any] | str, *inputs: Any) -> Any:
        """Start a run and return its result, as plain JSON values."""
        return await (await self.start(choreography, *inputs)).result()

    async def end(self) -> None:
        """Look at each run as a person does afterwards, whatever it has come to; terminate what is still running."""
        for handle in self._started:
            try:
                with suppress(TimeoutError):  # a few have thousands of calls
                    async with asyncio.timeout(2):
                        await look_at(self.client, handle.id)
                await handle.terminate("the test is over")
            except RPCError:  # it has ended by itself
                continue


async def look_at(client: Client, workflow_id: str) -> str:
    """Show a run in both forms: that may never fail, whatever is in its history."""
    seen = await read_run(client, workflow_id)
    screen = Console(file=io.StringIO(), width=160)
    print_table(seen, screen)
    return sequence_diagram(seen)


@pytest.fixture
async def runs(client: Client) -> AsyncIterator[Runs]:
    """A way to serve and run choreographies."""
    made = Runs(client)
    yield made
    await made.end()
