"""A command as a process of this machine: watched from its start to the end of everything that it started.

A thread does that for each, from its start on. What holds up the event loop holds up no limit, and what ends the
process of the thread ends the command.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from activities.workspace.cgroup import bound
from activities.workspace.meter import Meter, end_tree
from activities.workspace.port import REPORT, Command, Ended, Limits, NoSandbox

MIB = 1024 * 1024

_EVERY = 0.1  # seconds between two measurements
_GRACE = 2.0  # seconds for killed processes to let go of what they wrote to
_KEPT = 10_000  # bytes of output kept from either end
_LONGEST_REPORT = 16_000_000  # bytes
_WARDEN = Path(__file__).with_name("warden.py").read_text()


@dataclass(frozen=True)
class Setting:
    """What is around a command.

    Attributes:
        folder: Where it starts.
        around: What is put before the warden: a program that isolates, and its options.
        environment: The command's environment, which is all that it gets.
        alone: Whether the warden sees no other processes than the command's.
        isolation: What is told of the way in which the command runs.
        sweep: Called at the end, to kill what is no longer below the process.
    """

    folder: Path
    around: Sequence[str]
    environment: Mapping[str, str]
    alone: bool
    isolation: str
    sweep: Callable[[], None] = lambda: None


async def run_process(command: Command, setting: Setting) -> Ended:
    """Run a command by its warden, and end whatever it started.

    Raises:
        NoSandbox: The program that isolates gave up before there was a warden.
    """
    given_up = threading.Event()
    outcome: Future[Ended] = Future()
    threading.Thread(target=_supervise, args=(command, setting, given_up, outcome), daemon=True).start()
    running = asyncio.wrap_future(outcome)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        given_up.set()
        await asyncio.wait([running])
        running.exception()  # or its loss is logged, where the sandbox was only being set up
        raise


def environment(home: str, path: str) -> dict[str, str]:
    """Return all of a command's environment: nothing of the worker's, so that no credential gets into it."""
    python = {"PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    return {"PATH": path, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", **python}


def _supervise(command: Command, setting: Setting, given_up: threading.Event, outcome: Future[Ended]) -> None:
    try:
        result = _run(command, setting, given_up)
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _run(command: Command, setting: Setting, given_up: threading.Event) -> Ended:
    with contextlib.ExitStack() as opened:
        output, status, report = (opened.enter_context(_Pipe(most)) for most in (_KEPT, _KEPT, _LONGEST_REPORT))
        stdin = opened.enter_context(tempfile.TemporaryFile())
        stdin.write(command.stdin)
        stdin.seek(0)
        bounded = opened.enter_context(bound(command.limits))
        process = subprocess.Popen(
            [*bounded, *setting.around, *_warden(command, setting, status.writes, report.writes)],
            stdin=stdin,
            stdout=output.writes,
            stderr=output.writes,
            cwd=setting.folder,
            env={},
            pass_fds=(status.writes, report.writes),
            start_new_session=True,
        )
        reading = opened.enter_context(selectors.DefaultSelector())
        for pipe in (output, status, report):
            pipe.is_given_away(reading)
        stopped = ""
        try:
            meter = Meter(process.pid, command)
            measures = time.monotonic()
            ends = measures + command.limits.seconds
            while not status.ended and not stopped and not given_up.is_set():
                stopped = _excess(command.limits, ends, output.size)
                if time.monotonic() >= measures:
                    stopped = stopped or meter.excess()
                    measures = time.monotonic() + _EVERY
                _read(reading, max(0.0, min(measures, ends) - time.monotonic()))
        finally:
            end_tree(process)
            setting.sweep()
        until = time.monotonic() + _GRACE
        while reading.get_map() and time.monotonic() < until:
            _read(reading, _EVERY)
        return _ended(process.returncode, stopped, output, status, report, setting)


def _excess(limits: Limits, ends: float, printed: int) -> str:
    if time.monotonic() >= ends:
        return f"Stopped after {limits.seconds:g} seconds. Look for an endless loop or a wait without a limit."
    if printed > limits.output_mb * MIB:
        return f"Stopped: more than {limits.output_mb:,} MB were printed. Look for a print in an endless loop."
    return ""


def _read(reading: selectors.BaseSelector, seconds: float) -> None:
    """Read what has come, and wait for as long as nothing does."""
    for key, _ in reading.select(seconds):
        key.data(reading)


def _warden(command: Command, setting: Setting, status: int, report: int) -> Sequence[str]:
    settings = {
        "arguments": list(command.arguments),
        "environment": dict(setting.environment),
        "limits": _rlimits(command.limits, alone=setting.alone),
        "status": status,
        "report": report,
        "as": REPORT,
        "alone": setting.alone,
    }
    return [sys.executable, "-I", "-S", "-c", _WARDEN, json.dumps(settings)]


def _rlimits(limits: Limits, *, alone: bool) -> dict[str, int]:
    """Return what each process is bound by.

    A number of processes binds all of a user's, so only one of its own. It leaves room to be measured, and said.
    """
    rlimits = {
        "RLIMIT_AS": limits.memory_mb * MIB,
        "RLIMIT_FSIZE": limits.disk_mb * MIB,
        "RLIMIT_CPU": math.ceil(limits.cpu_seconds),
        "RLIMIT_CORE": 0,
    }
    return {**rlimits, "RLIMIT_NPROC": limits.processes * 5 // 4} if alone else rlimits


def _ended(returned: int | None, stopped: str, output: _Pipe, status: _Pipe, report: _Pipe, setting: Setting) -> Ended:
    if not status.head and not stopped and returned is not None and returned > 0:
        raise NoSandbox(f"The sandbox could not be set up: {output.text() or f'it ended with exit code {returned}'}")
    told = json.loads(bytes(status.head) or "{}")
    return Ended(
        code=None if stopped else told.get("code", returned),
        output=output.text(),
        stopped=stopped,
        left=told.get("left", ()),
        report=bytes(report.head),
        isolation=setting.isolation,
    )


class _Pipe:
    """What processes write to a descriptor: a beginning, and the end of what is longer. None of it can be taken back.

    Attributes:
        writes: The descriptor.
        size: The bytes that were written.
        ended: Whether nobody can write any more.
        head: The beginning.
    """

    def __init__(self, most: int) -> None:
        self.size, self.ended, self.head = 0, False, bytearray()
        self._tail = b""
        self._most = most
        self._reads, self.writes = os.pipe()

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._reads, self.writes):
            if descriptor >= 0:
                os.close(descriptor)

    def is_given_away(self, reading: selectors.BaseSelector) -> None:
        """Leave writing to a process that has been started, and be read."""
        os.close(self.writes)
        self.writes = -1
        reading.register(self._reads, selectors.EVENT_READ, self._take)

    def _take(self, reading: selectors.BaseSelector) -> None:
        data = os.read(self._reads, 65_536)
        if not data:
            self.ended = True
            reading.unregister(self._reads)
        room = max(0, self._most - len(self.head))
        self.head += data[:room]
        self._tail = (self._tail + data[room:])[-_KEPT:]
        self.size += len(data)

    def text(self) -> str:
        """Return what is kept, and how much is not."""
        cut = self.size - len(self.head) - len(self._tail)
        middle = f"\n[… {cut:,} bytes left out …]\n".encode() if cut else b""
        return (bytes(self.head) + middle + self._tail).decode(errors="replace").strip()
