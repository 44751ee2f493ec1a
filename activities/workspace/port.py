"""The port to whatever runs commands for agents: what is run, within which limits, and how it ended.

A command comes from a model, and so does the code that it runs. `bubblewrap` and `unsandboxed` are ways to run it.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from activities.errors import SettingInvalid

REPORT = 3
"""The descriptor to which a command may write what its caller reads: `Ended.report`."""


class NoSandbox(SettingInvalid):
    """Nothing isolates code that a model wrote here, and nobody has allowed to run it without."""


@dataclass(frozen=True)
class Limits:
    """What a command and all that it starts may use, together where nothing else is said.

    Attributes:
        seconds: How long they may take.
        cpu_seconds: Time on processors.
        memory_mb: Memory in MiB; also the address space of each process.
        processes: Processes and threads at a time.
        disk_mb: MiB that the workspace may hold; also the size of each file.
        files: Files that it may hold.
        scratch_mb: MiB in `/tmp` and HOME.
        output_mb: MiB that they may print; of these the caller gets both ends.
    """

    seconds: float = 120.0
    cpu_seconds: float = 480.0
    memory_mb: int = 2048
    processes: int = 256
    disk_mb: int = 1024
    files: int = 100_000
    scratch_mb: int = 256
    output_mb: int = 256


@dataclass(frozen=True)
class Command:
    """What to run, where, and within which limits.

    Attributes:
        arguments: The program and its arguments. `python` is the one that the worker runs on.
        folder: The workspace: where it runs, and the only folder that it may change.
        limits: What it may use.
        stdin: What it can read.
    """

    arguments: Sequence[str]
    folder: Path
    limits: Limits = field(default_factory=Limits)
    stdin: bytes = b""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code, the negative number of the signal that killed it, or None if it was stopped.
        output: Both ends of what it printed.
        stopped: Why it was stopped, in words for a model; empty if it ended by itself.
        left: The names of processes that still ran when it had ended, and were killed.
        report: What was written to the descriptor `REPORT`.
        isolation: What it ran in, and what that holds back or not.
    """

    code: int | None
    output: str
    stopped: str = ""
    left: Sequence[str] = ()
    report: bytes = b""
    isolation: str = ""

    def __str__(self) -> str:
        """Tell a model."""
        how = self.stopped or f"It ended with exit code {self.code}."
        if self.code is not None and self.code < 0:
            how = f"It was killed by signal {-self.code} ({signal.strsignal(-self.code)})."
        left = f"Processes that it left behind were ended: {', '.join(sorted(set(self.left)))}." if self.left else ""
        return "\n\n".join(part for part in (self.output, how, left, self.isolation) if part)


class Isolation(Protocol):
    """A way to run commands for agents."""

    @property
    def name(self) -> str:
        """What it is, for the line at a worker's start: `bubblewrap 0.8.0`."""
        ...

    @property
    def promise(self) -> str:
        """What it holds back and what not, in one sentence for models and people."""
        ...

    async def run(self, command: Command) -> Ended:
        """Run a command to its end or to the end of what it may use; nothing that it started lives on.

        That holds for a call that is cancelled, too.

        Raises:
            NoSandbox: The command can't be isolated.
        """
        ...
