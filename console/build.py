"""One run of `build_project`, from its start by the CLI to the tests of what it built."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError

from activities.contract.branches import MAIN
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.workspace.isolation import isolation_in_words
from activities.workspace.site import Site
from activities.workspace.workspace import Workspace
from console.dev_server import DevServer, find_program
from console.history import CallSeen, follow_calls, result_of
from console.narrator import Narrator
from console.team import SCRIPTED_MODEL, Team, environment_for, how_to_ask, how_to_go_on, python, shown
from workflows.serving.client import open_client


class Build:
    """A run that a person watches."""

    def __init__(self, folder: Path, server: DevServer, team: Team, model: str, narrator: Narrator) -> None:
        self.folder = folder
        self.server = server
        self.team = team
        self.model = model
        self.workflow_id = "textkit" if model == SCRIPTED_MODEL else "demo"
        self.page = ""
        self._say = narrator.say
        self._waits_for = narrator.waits_for

    async def run(self, spec: str, *, kill: bool = False) -> int:
        """Start it, tell what happens, and run the tests; return 0 if all is well.

        Args:
            spec: What to build.
            kill: Whether to kill the worker as soon as calls have ended and others go on.
        """
        run_id = self._start(spec)
        self._introduce(spec)
        client = await open_client(target_host=self.server.address)
        calls = _Calls(self._say, self.team.kill if kill else None)
        site = Site.of_run(self.folder / "workspaces", self.workflow_id, run_id)
        self._waits_for(lambda: calls.in_words() if self.team.serves else _WORKER_STARTS)
        try:
            reviews = await self.team.kept_up_during(calls.follow(client, self.workflow_id))
        except WorkflowFailureError as error:
            self._say(f"\nThe run failed: {error.cause}\nThe worker's log: {shown(self.team.log)}")
            self._tell_where(site)
            return 1
        passed = sum(review["verdict"] == "PASS" for review in reviews)
        how_many = f"All {passed}" if passed == len(reviews) else f"{passed} of {len(reviews)}"
        self._say(f"\n{how_many} modules passed review. The library's own tests:\n")
        passed_tests = await self._check(site)
        self._tell_where(site)
        return 0 if passed_tests else 1

    def what_to_try_next(self) -> str:
        """Say how to look at the run again, and how to see that it holds."""
        model = "" if self.model == SCRIPTED_MODEL else f"MODEL={shlex.quote(self.model)} "
        return (
            "\nWhat to try next. The server has ended; this starts it again, with the run, until Ctrl-C:\n"
            f"  {how_to_go_on(self.folder, self.model)}{self._ports()}\n"
            "Then look at the run's page in the Web UI, and at who was asked what, in another terminal:\n"
            f"  {self.page}\n"
            f"  {how_to_ask(self.folder, self.server)} show {self.workflow_id}\n"
            "Or kill the worker (kill -9) in the middle of a run, and see it go on:\n"
            f"  {model}{python()} -m console demo --kill"
        )

    def _start(self, spec: str) -> str:
        """Start the run as a user would, with the temporal CLI, and return the run's id."""
        command = ["workflow", "start", "--type", "build_project", "--task-queue", CHOREOGRAPHY_QUEUE]
        command += ["--workflow-id", self.workflow_id, "--input", json.dumps(spec)]
        self._say(f"$ temporal {shlex.join(command)}\n")
        self._waits_for("the run to begin")
        done = subprocess.run(
            [find_program(), *command, "--output", "json"],
            env=environment_for(self.server),
            check=True,
            capture_output=True,
            text=True,
        )
        run_id = str(json.loads(done.stdout)["runId"])
        self.page = f"{self.server.ui_url}/namespaces/default/workflows/{self.workflow_id}/{run_id}/timeline"
        return run_id

    def _introduce(self, spec: str) -> None:
        if self.model == SCRIPTED_MODEL:
            self._say(
                f"Model:   scripted. Its answers stand in {SCRIPTED_MODEL.removeprefix('scripted/')}; no provider"
            )
            self._say("         is asked. Files, test runs, history and recovery are real; the prices are pretended.")
        else:
            self._say(f"Model:   {self.model}")
        self._say(f"Spec:    {spec}")
        self._say(isolation_in_words(allow_unsandboxed=True))
        self._say(f"Web UI:  {self.page}")
        self._say(
            f"Worker:  process {self.team.pid}; kill it in another terminal, if you like: kill -9 {self.team.pid}\n"
        )

    async def _check(self, site: Site) -> bool:
        self._waits_for("the library's tests")
        tests = await Workspace(site.tree(MAIN), allow_unsandboxed=True).run_tests()
        self._say(str(tests))
        return tests.passed

    def _tell_where(self, site: Site) -> None:
        """Say where all is that came of the run."""
        self._say("")
        if site.tree(MAIN).is_dir():  # since the first merge
            repository = shown(site.git.folder)
            self._say(f"Files:       {shown(site.tree(MAIN))}")
            self._say(f"Repository:  {repository}")
            self._say(f"Who did it:  git -C {shlex.quote(repository)} log --graph {MAIN}")
        self._say(f"History:     {shown(self.folder / 'temporal.db')}; the worker's log is beside it")

    def _ports(self) -> str:
        """Return the options by which a server has the addresses that this one has."""
        ui = f" --ui-port {self.server.ui_url.rpartition(':')[2]}" if self.server.ui_url else ""
        return f" --port {self.server.address.rpartition(':')[2]}{ui}"


_TOO_SHORT = "Merger.merge"
"""A call that is over before anybody could be killed in its middle."""

_WORKER_STARTS = "the worker, which imports litellm first"


class _Calls:
    """The calls of the run, told as they are made and end."""

    def __init__(self, say: Callable[[str], None], kill: Callable[[], None] | None) -> None:
        """Begin with none.

        Args:
            say: Tells of them.
            kill: Kills the worker, if somebody wants to see that; called once.
        """
        self._say = say
        self._kill = kill
        self._running: list[CallSeen] = []
        self._any_ended = False
        self._server_lost = False

    async def follow(self, client: Client, workflow_id: str) -> Any:
        """Tell of the calls until the run ends; return its result."""
        handle = client.get_workflow_handle(workflow_id)
        start = time.monotonic()
        async for call in follow_calls(handle, client.data_converter, self._lost):
            self._server_lost = False
            self._say(f"{time.monotonic() - start:6.1f} s {_line(call)}")
            if call.ended is None:
                self._running.append(call)
                await self._kill_in_the_middle()
            else:
                self._any_ended = True
                self._running = [other for other in self._running if other is not call]
        return await result_of(handle, self._lost)

    def in_words(self) -> str:
        """Say which calls are waited for."""
        if self._server_lost:
            return "the server, which doesn't answer"
        return ", ".join(map(_who, self._running)) or "the run's next call"

    async def _kill_in_the_middle(self) -> None:
        if self._kill is None or not self._any_ended or self._running[-1].method == _TOO_SHORT:
            return
        kill, self._kill = self._kill, None
        await asyncio.sleep(0.2)  # the worker has begun with it
        self._say(f"         kill -9 of the worker, in the middle of {_who(self._running[-1])}")
        kill()

    def _lost(self) -> None:
        self._server_lost = True
        self._say("         the server doesn't answer; trying again, the run goes on when it does")


def _who(call: CallSeen) -> str:
    return f"{call.instance} ({call.method.partition('.')[2]} {call.item})"


def _line(call: CallSeen) -> str:
    who = f"{call.method.partition('.')[2]:17} {call.summary}"
    if call.ended is None:
        return f"  {who}"
    if call.error is not None:
        return f"✗ {who}: {call.error}"
    verdict = call.value.get("verdict") if isinstance(call.value, dict) else None
    return f"✓ {who} ({call.seconds:.1f} s){f': {verdict}' if verdict else ''}"
