"""What a command and all that it starts use together, measured from outside while they run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from activities.workspace.port import Command, Limits

_LONGEST_END = 2.0  # seconds that killed processes may take to be gone
_DEEPEST = 100  # folders inside of each other that are measured
_MIB = 1024 * 1024
_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Meter:
    """Measures the processes below one."""

    def __init__(self, pid: int, command: Command) -> None:
        """Be ready to measure.

        Args:
            pid: The process.
            command: What it runs.
        """
        self._pid, self._limits = pid, command.limits
        self._disk = _Disk(command.folder, command.limits)

    def excess(self) -> str:
        """Say in words for a model which limit is reached, and what to look for; nothing if none is."""
        limits = self._limits
        found = list(_below(self._pid))
        if sum(one.threads for one in found) > limits.processes:
            most = f"more than {limits.processes:,} processes and threads at a time"
            return f"Stopped: {most}. Look for forks or threads that are started without end."
        if sum(one.cpu for one in found) > limits.cpu_seconds:
            return f"Stopped: more than {limits.cpu_seconds:,g} seconds of processor time. Look for an endless loop."
        if self._memory(found) > limits.memory_mb * _MIB:
            most = f"the processes together used more than {limits.memory_mb:,} MB of memory"
            return f"Stopped: {most}. Look for data that grows without end."
        return self._disk.excess()

    def _memory(self, found: list[_Process]) -> int:
        """Sum up memory; what processes share is counted once, where that makes a difference."""
        most = sum(one.resident for one in found)
        return most if most <= self._limits.memory_mb * _MIB else sum(_share(one) for one in found)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill all that is below a process, and then itself.

    In this order, since what is below one that is gone is to be found no longer. Its id is its own until it is waited
    for, which nobody else does.
    """
    until = time.monotonic() + _LONGEST_END
    while (below := [one for one in _below(process.pid) if one.lives]) and time.monotonic() < until:
        # The first is that of a sandbox, whose end is the end of all. A group is killed as a whole: processes that
        # are killed one by one start others meanwhile.
        with contextlib.suppress(OSError):
            os.kill(below[0].pid, signal.SIGKILL)
        for group in {one.group for one in below} - {process.pid}:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for one in below:
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    group: int
    lives: bool
    """Whether it is more than an entry that its parent has not waited for."""
    threads: int
    cpu: float
    """Seconds, with those of its children that have ended."""
    resident: int


def _below(pid: int) -> Iterator[_Process]:
    """Find the processes below one; none where there is no /proc."""
    inner: dict[int, list[_Process]] = {}
    for process in _processes():
        inner.setdefault(process.parent, []).append(process)
    parents = [pid]
    for parent in parents:  # it grows meanwhile
        for process in inner.get(parent, ()):
            parents.append(process.pid)
            yield process


def _processes() -> Iterator[_Process]:
    for entry in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent, and so on; see proc(5).
            fields = (entry / "stat").read_bytes().rpartition(b") ")[2].split()
            yield _Process(
                pid=int(entry.name),
                parent=int(fields[1]),
                group=int(fields[2]),
                lives=fields[0] not in (b"Z", b"X"),
                threads=int(fields[17]),
                cpu=sum(map(int, fields[11:15])) / _TICKS,
                resident=int(fields[21]) * _PAGE,
            )


def _share(process: _Process) -> int:
    """Return a process's share of the memory that it uses with others."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) * 1024
    return process.resident


class _Disk:
    """What a folder holds, measured only when its file system has lost so much that it may be too much."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._free: tuple[int, int] | None = None  # bytes and files that the file system had room for at the last look
        self._room = (0, 0)  # how much of that may go before the next one

    def excess(self) -> str:
        """Say what is too much, or nothing."""
        try:
            system = os.statvfs(self._folder)
            free = (system.f_bfree * system.f_frsize, system.f_ffree)
            if self._free is not None and all(
                was - now <= room for was, now, room in zip(self._free, free, self._room, strict=True)
            ):
                return ""
            sizes, too_deep = _sizes(self._folder)
        except OSError:  # the folder is gone
            return ""
        is_first, self._free = self._free is None, free
        self._room = (self._limits.disk_mb * _MIB - sum(sizes.values()), self._limits.files - len(sizes))
        if too_deep and not is_first:
            return f"Stopped: the disk fills, under more than {_DEEPEST} folders inside of each other. Nest fewer."
        return "" if min(self._room) >= 0 else self._told(sizes)

    def _told(self, sizes: Mapping[str, int]) -> str:
        most = f"{self._limits.disk_mb:,} MB or {self._limits.files:,} files"
        largest = sorted(sizes.items(), key=lambda one: -one[1])[:3]
        names = ", ".join(f"{path} ({size // _MIB:,} MB)" for path, size in largest)
        return (
            f"Stopped: the workspace holds more than {most}. Its largest: {names}. "
            "Make them smaller (write them anew, empty), and write less."
        )


def _sizes(folder: Path) -> tuple[dict[str, int], bool]:
    """Return the bytes on disk of each file, and whether there are folders too deep to look into."""
    sizes: dict[str, int] = {}
    too_deep = False
    for path, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        name = os.path.relpath(path, folder)
        for file in files:
            with contextlib.suppress(OSError):
                found = os.stat(file, dir_fd=descriptor, follow_symlinks=False)
                sizes[os.path.normpath(f"{name}/{file}")] = found.st_blocks * 512
        if folders and name.count("/") >= _DEEPEST:
            too_deep = True
            folders.clear()
    return sizes, too_deep
