"""The demo's worker process, where it works, and with which model."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from activities.workspace.isolation import ALLOWED, is_sandboxed
from console import guarded
from console.dev_server import DevServer
from console.narrator import Narrator

ROOT = Path(__file__).parent.parent
SCRIPTED_MODEL = "scripted/examples/textkit.toml"


class TeamError(RuntimeError):
    """The worker can't do its work; the message has its last words."""


class Team:
    """The worker process, started anew if something kills it."""

    def __init__(self, folder: Path, server: DevServer, model: str, narrator: Narrator) -> None:
        self.log = folder / "worker.log"
        self._narrator = narrator
        self._log_begins = 0
        self._environment = {
            **environment_for(server),
            "MODEL": model,
            "WORKSPACES": str(folder / "workspaces"),
            ALLOWED: "1",  # a machine that has nothing but Python can show the demo, too; it says so
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

    @property
    def serves(self) -> bool:
        """Whether the worker has begun to serve."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return b"Serving on" in log.read(100_000)

    def kill(self) -> None:
        """Kill the worker, as `kill -9` does."""
        os.kill(self.pid, signal.SIGKILL)

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
        self._narrator.say(f"         {died}; started another one, {self.pid}: the run goes on")

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            command = [sys.executable, "worker.py", "--grace", "1"]
            self._process = guarded.start(command, log, cwd=ROOT, environment=self._environment)


def environment_for(server: DevServer) -> dict[str, str]:
    """Return this environment with the dev server instead of whatever server its user has set up."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    return {**others, "TEMPORAL_ADDRESS": server.address, "TEMPORAL_CONFIG_FILE": os.devnull}


def how_to_go_on(folder: Path, model: str) -> str:
    """Say how to have the run served again."""
    settings = "" if is_sandboxed() else f"{ALLOWED}=1 "
    settings += f"MODEL={shlex.quote(model)} WORKSPACES={shlex.quote(shown(folder / 'workspaces'))}"
    return f"{settings} {python()} worker.py dev --db {shlex.quote(shown(folder / 'temporal.db'))}"


def how_to_ask(folder: Path, server: DevServer) -> str:
    """Say how a client of this server is started, also where its user's settings name another one."""
    others = [f"-u {name}" for name in sorted(os.environ) if name.startswith("TEMPORAL_")]
    without = " ".join(["env", *others, ""]) if others else ""
    where = f"TEMPORAL_ADDRESS={server.address} WORKSPACES={shlex.quote(shown(folder / 'workspaces'))}"
    return f"{without}{where} {python()} -m console"


def python() -> str:
    """Return this interpreter, as it is named in a shell."""
    return shlex.quote(shown(Path(sys.executable)))


def shown(path: Path) -> str:
    """Return a path as short as it can be."""
    with suppress(ValueError):
        return str(path.relative_to(ROOT))
    return str(path)
