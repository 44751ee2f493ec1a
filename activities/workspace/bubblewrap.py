"""Commands in a sandbox that bubblewrap makes of Linux's namespaces, without any privilege."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from activities.workspace.port import Command, Ended, Limits
from activities.workspace.process import MIB, Setting, environment, run_process

WORKSPACE = "/workspace"
"""Where a command in the sandbox finds the workspace, whichever worker runs it."""

_HOME = "/tmp/home"

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_OF_ETC = (
    *("alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("mime.types", "nsswitch.conf", "passwd", "protocols", "services", "ssl/certs", "timezone"),
)

# A worker that is root is root's user inside, too. The kernel lets that one write these without any capability, and
# bubblewrap leaves some of them open: by /proc/sys/kernel/core_pattern it could run programs outside.
_KERNELS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi", "/proc/scsi")


class Unusable(Exception):
    """There is no sandbox to be had here; says why, and what to do."""


@dataclass(frozen=True)
class Bubblewrap:
    """Isolates by `bwrap`.

    Attributes:
        program: Its path.
        version: What it says of itself.
    """

    program: str
    version: str

    @classmethod
    def tried(cls, program: str | None) -> Bubblewrap:
        """Return a sandbox in which a program has run.

        Raises:
            Unusable: There is none, or it can't isolate here.
        """
        if program is None:
            there = (
                "apt-get install bubblewrap"
                if sys.platform == "linux"
                else "it is Linux's; the image in docker/ has it"
            )
            raise Unusable(f"bwrap is not there. Install bubblewrap 0.8 or later ({there})")
        try:
            version = _output(program, "--version").removeprefix("bubblewrap ")
            with tempfile.TemporaryDirectory() as folder:
                around = _options(program, Path(folder), Limits())
                _output(*around, sys.executable, "-I", "-S", "-c", "")
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise Unusable(
                f"{program} can't isolate here ({' '.join(said.split())}). It has to be bubblewrap 0.8 or later, and "
                "the kernel, or the container that this runs in, has to let it make user namespaces"
            ) from error
        return cls(program, version)

    @property
    def name(self) -> str:
        """What it is."""
        return f"bubblewrap {self.version}"

    @property
    def promise(self) -> str:
        """What it holds back."""
        return (
            "What models write runs without network, secrets and other processes in sight; it can write in the "
            "workspace only."
        )

    async def run(self, command: Command) -> Ended:
        """Run a command in the sandbox."""
        around = _options(self.program, command.folder, command.limits)
        inside = environment(_HOME, "/usr/local/bin:/usr/bin:/bin")
        return await run_process(command, Setting(Path("/"), around, inside, alone=True, isolation=self.promise))


def _options(program: str, folder: Path, limits: Limits) -> Sequence[str]:
    """Return bubblewrap with what makes the sandbox. What comes later lies over what came before."""
    return [
        program,
        *("--unshare-all", "--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000"),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"),
        *("--hostname", "sandbox"),
        *("--size", str(limits.scratch_mb * MIB), "--tmpfs", "/tmp", "--dir", _HOME),
        *_read_only(),
        *("--proc", "/proc"),
        *(word for path in _KERNELS for word in ("--ro-bind-try", path, path)),
        *("--dev", "/dev", "--size", str(limits.scratch_mb * MIB), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),
        *("--bind", str(folder), WORKSPACE, "--chdir", WORKSPACE, "--remount-ro", "/"),
        "--",
    ]


def _read_only() -> Iterator[str]:
    """Give the options for the system and for the Python that the worker runs on."""
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.exists():
            yield from ("--ro-bind", str(path), str(path))
    for name in _OF_ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    for prefix in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix, str(Path(sys.prefix).resolve()))):
        if not Path(prefix).is_relative_to("/usr"):
            yield from ("--ro-bind", prefix, prefix)


def _output(*command: str) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=20, env={}, stdin=subprocess.DEVNULL, cwd="/"
    )
    return done.stdout.strip()
