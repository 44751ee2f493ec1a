"""The demo: a dev server, a worker, a run of `build_project`, and the tests of what it built."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.contract import CHOREOGRAPHY_QUEUE, SEARCH_ATTRIBUTES
from activities.converter import data_converter
from activities.workspace import Workspace
from console import guarded
from console.dev_server import DevServer, DevServerError, find_program
from console.history import CallSeen, follow_calls

ROOT = Path(__file__).parent.parent
SCRIPTED_MODEL = "scripted/examples/textkit.toml"
SPEC = "Build textkit, a small library for plain text: slugify titles, wrap paragraphs, redact personal data."


def run_demo(spec: str | None) -> int:
    """Run the demo; return 0 if the run ended well and the library's own tests pass.

    Args:
        spec: What to build. A scripted model builds textkit, whatever it says.
    """
    # The process id keeps apart what two demos do that are started in the same second.
    folder = ROOT / ".demo" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    model = os.environ.get("MODEL") or SCRIPTED_MODEL
    try:
        with (
            DevServer.start(db_file=folder / "temporal.db", search_attributes=SEARCH_ATTRIBUTES) as server,
            Team(folder, server, model) as team,
        ):
            return asyncio.run(_Demo(folder, server, team, model).run(spec or SPEC))
    except (DevServerError, TeamError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped. The run is kept; go on with it:\n  {_go_on(folder, model)}")
        return 130


class TeamError(RuntimeError):
    """The worker can't do its work; the message has its last words."""


class Team:
    """The worker process, started anew if something kills it."""

    def __init__(self, folder: Path, server: DevServer, model: str) -> None:
        self.log = folder / "worker.log"
        self._environment = {
            **_environment_for(server),
            "MODEL": model,
            "WORKSPACES": str(folder / "workspaces"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Team:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        guarded.end(self._process)

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        assert self._process is not None
        return self._process.pid

    async def kept_up_during(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await work, and start the worker again whenever it is killed meanwhile.

        Raises:
            TeamError: The worker ended by itself, as another one would.
        """
        working = asyncio.create_task(work)
        while not (await asyncio.wait([working], timeout=0.2))[0]:
            self._look_after_worker()
        return await working

    def _look_after_worker(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        if code >= 0:
            last_words = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise TeamError(f"The worker ended (exit code {code}). Its last words: {last_words}")
        died = f"worker {self.pid} died (exit code {code})"
        guarded.end(self._process)
        self._start()
        print(f"         {died}; started another one, {self.pid}: the run goes on", flush=True)

    def _start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "worker.py", "--grace", "1"]
            self._process = guarded.start(command, log, cwd=ROOT, environment=self._environment)


class _Demo:
    """One run of `build_project`, from its start by the CLI to the tests of what it built."""

    def __init__(self, folder: Path, server: DevServer, team: Team, model: str) -> None:
        self.folder = folder
        self.server = server
        self.team = team
        self.model = model
        self.workflow_id = "textkit" if model == SCRIPTED_MODEL else "demo"

    async def run(self, spec: str) -> int:
        run_id = _start_run(self.server, self.workflow_id, spec)
        self._introduce(spec, run_id)
        client = await Client.connect(self.server.address, data_converter=data_converter)
        try:
            reviews = await self.team.kept_up_during(_follow(client.get_workflow_handle(self.workflow_id)))
        except WorkflowFailureError as error:
            print(f"\nThe run failed: {error.cause}\nThe worker's log: {_shown(self.team.log)}")
            return 1
        print(f"\nAll {len(reviews)} modules passed review. The library's own tests:\n")
        return await self._check(Workspace.of_run(self.folder / "workspaces", self.workflow_id, run_id))

    def _introduce(self, spec: str, run_id: str) -> None:
        if self.model == SCRIPTED_MODEL:
            print(f"Model:   scripted. Its answers stand in {SCRIPTED_MODEL.removeprefix('scripted/')}; no provider")
            print("         is asked. Files, test runs, history and recovery are real; the prices are pretended.")
        else:
            print(f"Model:   {self.model}")
        print(f"Spec:    {spec}")
        print(f"Web UI:  {self.server.ui_url}/namespaces/default/workflows/{self.workflow_id}/{run_id}/timeline")
        print(f"Worker:  process {self.team.pid}; kill -9 it, if you like\n", flush=True)

    async def _check(self, workspace: Workspace) -> int:
        tests = await workspace.run_tests()
        print(tests)
        print(f"\nFiles:    {_shown(workspace.root)}")
        print(f"History:  {_shown(self.folder / 'temporal.db')}; the worker's log is beside it")
        print(f"Web UI:   look at the run again with\n  {_go_on(self.folder, self.model)}")
        return 0 if tests.passed else 1


async def _follow(handle: WorkflowHandle[Any, Any]) -> Any:
    """Print the run's calls as they are made and end; return its result."""
    start = time.monotonic()
    async for call in follow_calls(handle, data_converter):
        print(f"{time.monotonic() - start:6.1f} s {_line(call)}", flush=True)
    return await handle.result()


def _environment_for(server: DevServer) -> dict[str, str]:
    """Return this environment with the dev server instead of whatever server its user has set up."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return {**others, "TEMPORAL_ADDRESS": server.address, "TEMPORAL_CONFIG_FILE": os.devnull}


def _start_run(server: DevServer, workflow_id: str, spec: str) -> str:
    """Start the run as a user would, with the temporal CLI, and return the run's id."""
    command = ["workflow", "start", "--type", "build_project", "--task-queue", CHOREOGRAPHY_QUEUE]
    command += ["--workflow-id", workflow_id, "--input", json.dumps(spec)]
    print(f"$ temporal {shlex.join(command)}\n")
    done = subprocess.run(
        [find_program(), *command, "--output", "json"],
        env=_environment_for(server),
        check=True,
        capture_output=True,
        text=True,
    )
    return str(json.loads(done.stdout)["runId"])


def _line(call: CallSeen) -> str:
    who = f"{call.method.partition('.')[2]:17} {call.summary}"
    if call.ended is None:
        return f"  {who}"
    if call.error is not None:
        return f"✗ {who}: {call.error}"
    verdict = call.value.get("verdict") if isinstance(call.value, dict) else None
    return f"✓ {who} ({call.seconds:.1f} s){f': {verdict}' if verdict else ''}"


def _go_on(folder: Path, model: str) -> str:
    settings = f"MODEL={shlex.quote(model)} WORKSPACES={shlex.quote(_shown(folder / 'workspaces'))}"
    python = shlex.quote(_shown(Path(sys.executable)))
    return f"{settings} {python} worker.py dev --db {shlex.quote(_shown(folder / 'temporal.db'))}"


def _shown(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(ROOT))
    return str(path)
