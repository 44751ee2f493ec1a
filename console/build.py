"""One run of `build_project`, from its start by the CLI to the tests of what it built."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.contract import CHOREOGRAPHY_QUEUE
from activities.converter import data_converter
from activities.workspace import Workspace
from console.dev_server import DevServer, find_program
from console.history import CallSeen, follow_calls, result_of
from console.team import SCRIPTED_MODEL, Team, environment_for, how_to_go_on, shown


class Build:
    """A run that a person watches."""

    def __init__(self, folder: Path, server: DevServer, team: Team, model: str) -> None:
        self.folder = folder
        self.server = server
        self.team = team
        self.model = model
        self.workflow_id = "textkit" if model == SCRIPTED_MODEL else "demo"

    async def run(self, spec: str) -> int:
        """Start it, tell what happens, and run the tests; return 0 if all is well."""
        run_id = _start_run(self.server, self.workflow_id, spec)
        self._introduce(spec, run_id)
        client = await Client.connect(self.server.address, data_converter=data_converter)
        try:
            reviews = await self.team.kept_up_during(_follow(client.get_workflow_handle(self.workflow_id)))
        except WorkflowFailureError as error:
            print(f"\nThe run failed: {error.cause}\nThe worker's log: {shown(self.team.log)}")
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
        print(f"\nFiles:    {shown(workspace.root)}")
        print(f"History:  {shown(self.folder / 'temporal.db')}; the worker's log is beside it")
        print(f"Web UI:   look at the run again with\n  {how_to_go_on(self.folder, self.model)}")
        return 0 if tests.passed else 1


async def _follow(handle: WorkflowHandle[Any, Any]) -> Any:
    """Print the run's calls as they are made and end; return its result."""
    start = time.monotonic()
    async for call in follow_calls(handle, data_converter, _lost):
        print(f"{time.monotonic() - start:6.1f} s {_line(call)}", flush=True)
    return await result_of(handle, _lost)


def _lost() -> None:
    print("         the server doesn't answer; trying again, the run goes on when it does", flush=True)


def _start_run(server: DevServer, workflow_id: str, spec: str) -> str:
    """Start the run as a user would, with the temporal CLI, and return the run's id."""
    command = ["workflow", "start", "--type", "build_project", "--task-queue", CHOREOGRAPHY_QUEUE]
    command += ["--workflow-id", workflow_id, "--input", json.dumps(spec)]
    print(f"$ temporal {shlex.join(command)}\n")
    done = subprocess.run(
        [find_program(), *command, "--output", "json"],
        env=environment_for(server),
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
