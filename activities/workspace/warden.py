"""The program around a command: it bounds each process, waits for the command, and ends what that leaves behind.

It runs in a process of its own, in a sandbox as the first one, whose end is the end of all others there. It is handed
to Python as text, so it may import nothing but the standard library, and needs no file where it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_DEATH_SIGNAL, _DUMPABLE, _SUBREAPER = 1, 4, 36  # of prctl(2)


def main(settings: dict[str, Any]) -> int:
    """Run a command; tell its end as JSON in the descriptor `status`.

    Args:
        settings: `arguments` and `environment` of the command; `limits` by the names of the module resource;
            the descriptors `report` (given to the command as `as`) and `status`; whether it is `alone`: all processes
            that it sees are its own.
    """
    _prepare(alone=settings["alone"])
    child = os.fork()
    if child == 0:
        _prctl(_DEATH_SIGNAL, signal.SIGKILL)
        _become(settings)
    os.chdir("/")
    code = _end_of(child)
    left = _others() if settings["alone"] else _end_all()
    os.write(settings["status"], json.dumps({"code": code, "left": left}).encode())
    return 0


def _prepare(*, alone: bool) -> None:
    _prctl(_DUMPABLE, 0)  # so that nobody reaches its descriptors through /proc
    if not alone:
        signal.signal(signal.SIGTERM, _give_up)
        _prctl(_DEATH_SIGNAL, signal.SIGTERM)
        _prctl(_SUBREAPER, 1)  # orphans become its children


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it is Linux's
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _give_up(*_: object) -> None:
    _end_all()
    os._exit(1)


def _become(settings: dict[str, Any]) -> None:
    try:
        os.setpgid(0, 0)  # a group without the warden
        os.set_inheritable(settings["status"], False)
        os.dup2(settings["report"], settings["as"])
        if settings["report"] != settings["as"]:
            os.close(settings["report"])
        for name, most in settings["limits"].items():
            _bound(getattr(resource, name), most)
        os.execvpe(settings["arguments"][0], settings["arguments"], settings["environment"])
    except (OSError, ValueError) as error:
        print(f"{settings['arguments'][0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _bound(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


def _end_of(child: int) -> int:
    """Wait for a child, and for whatever else ends meanwhile."""
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status)


def _others() -> list[str]:
    """Name the other processes that live."""
    return [name for pid, name, _ in _processes() if pid != os.getpid()]


def _end_all() -> list[str]:
    """Kill everything below this process, and name it."""
    killed: dict[int, str] = {}
    while below := _below():
        for pid, name in below.items():
            killed[pid] = name
            with contextlib.suppress(OSError):
                if (group := os.getpgid(pid)) != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)  # as a whole: killed one by one, they start others meanwhile
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.wait()
    return list(killed.values())


def _below() -> dict[int, str]:
    processes = list(_processes())
    found: dict[int, str] = {}
    parents = {os.getpid()}
    while parents:
        inner = {pid: name for pid, name, parent in processes if parent in parents}
        found |= inner
        parents = set(inner)
    return found


def _processes() -> list[tuple[int, str, int]]:
    """Return id, name and parent of every process that is to be seen and lives."""
    found = []
    for process in Path("/proc").glob("[1-9]*"):  # a longer pattern would fail where one ends meanwhile
        with contextlib.suppress(OSError):
            pid, _, rest = (process / "stat").read_text(errors="replace").partition(" (")
            name, _, numbers = rest.rpartition(") ")
            state, parent = numbers.split()[:2]
            if state not in "ZX":
                found.append((int(pid), name, int(parent)))
    return found


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
