"""A bound that the kernel holds for a command and all that it starts, where this process may make control groups.

Without one, processes and memory are measured, and each process has limits of its own. Those on the number of processes
do not bind root: there a control group is all that holds a fork bomb for certain.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from activities.workspace.port import Limits

_ROOT = Path("/sys/fs/cgroup")
_LONGEST_END = 2.0  # seconds that killed processes may take to be gone
_MIB = 1024 * 1024
_NAME = "command-"  # what groups' names begin with; the id of the process that made them follows

# The shell puts itself into each group, and becomes the program.
_ENTER = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'


@contextlib.contextmanager
def bound(limits: Limits) -> Iterator[Sequence[str]]:
    """Make a control group for as long as a command runs.

    Yields:
        What to put before the command; nothing where no group can be made.
    """
    parent = _usable_parent()
    if parent is None:
        yield ()
        return
    try:
        group = _made(parent, limits)
    except OSError:
        yield ()
        return
    try:
        yield ("/bin/sh", "-c", _ENTER, "enter", str(group), "--")
    finally:
        _remove(group)


def is_bound() -> bool:
    """Whether the kernel holds the number of processes here, whatever they do."""
    return os.getuid() != 0 or _usable_parent() is not None


@functools.cache
def _usable_parent() -> Path | None:
    """Find where groups can be made, by making one and entering it."""
    for parent in _parents():
        _remove_those_left(parent)
        try:
            group = _made(parent, Limits())
        except OSError:
            continue
        try:
            subprocess.run(
                ["/bin/sh", "-c", _ENTER, "enter", str(group), "--", "true"],
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        finally:
            _remove(group)
        return parent
    return None


def _parents() -> Iterator[Path]:
    """Give the groups that may hold new ones.

    In the second version of control groups that is the one above this process's: one with processes of its own can't
    divide what it has. In the first it is this process's own for the number of processes.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "pids":
                yield _ROOT / "pids" / path.lstrip("/")
            elif not controllers and (_ROOT / "cgroup.controllers").exists():
                own = _ROOT / path.lstrip("/")
                yield own if own == _ROOT else own.parent


def _made(parent: Path, limits: Limits) -> Path:
    group = parent / f"{_NAME}{os.getpid()}-{secrets.token_hex(6)}"
    group.mkdir()
    try:
        for name, value in _settings(limits).items():
            if name == "pids.max" or (group / name).exists():
                (group / name).write_text(value)
    except OSError:
        _remove(group)
        raise
    return group


def _settings(limits: Limits) -> Mapping[str, str]:
    """Return what bounds a group. There is room to be measured first, and told; scratch space is memory, too."""
    return {
        "pids.max": str(limits.processes * 5 // 4),
        "memory.max": str((limits.memory_mb * 5 // 4 + 2 * limits.scratch_mb) * _MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    }


def _remove_those_left(parent: Path) -> None:
    """Remove the empty groups of processes that were killed."""
    for group in parent.glob(f"{_NAME}*"):
        if not Path("/proc", group.name.removeprefix(_NAME).partition("-")[0]).exists():
            with contextlib.suppress(OSError):
                group.rmdir()


def _remove(group: Path) -> None:
    """Remove a group as soon as its processes are gone."""
    until = time.monotonic() + _LONGEST_END
    while time.monotonic() < until:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            with contextlib.suppress(OSError):
                (group / "cgroup.kill").write_text("1")
            time.sleep(0.01)
        else:
            return
