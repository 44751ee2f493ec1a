r"""The workspace: the one folder in which an agent's tools read, write and run tests.

>>> import tempfile
>>> workspace = Workspace(Path(tempfile.mkdtemp()) / "textkit")
>>> workspace.write("textkit/wrap.py", "WIDTH = 80\n")
'wrote textkit/wrap.py (1 line)'
>>> workspace.list_files()
['textkit/wrap.py']
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from activities.border.secrets import without_secrets
from activities.errors import AgentError, OutsideWorkspace
from activities.workspace.isolation import isolation
from activities.workspace.port import Command, Ended, Isolation, Limits
from activities.workspace.pytest_run import CONFIGURATIONS, TestRun, run_pytest

CACHES = frozenset({"__pycache__", ".pytest_cache", ".hypothesis"})
"""Folders that are nobody's work."""

PARTIAL = ".partial-"
"""How the name of a file begins that a write leaves which a crash cut short; nobody sees it."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_PATH = 1_000  # characters
_LARGEST_FILE = 1_000_000  # bytes that `read` hands to a model
_DEEPEST = 50  # folders inside of each other that are listed: each holds one of the process's open files
_MOST_PLACES = 10  # of a text to replace that are counted: in a file of millions of them that would take for ever


class WorkspaceError(AgentError):
    """A file of the workspace can't be used as asked; the message names it and says what to do."""


class Workspace:
    """One folder, and nothing outside it.

    Paths are relative to the folder, with `/` between their parts. None leaves it: not by `..`, not as an
    absolute path, not through a symbolic link, also when a running test plants one between check and use.

    Commands and tests run in a sandbox. Where there is none they are refused, unless it is allowed to run them without.
    """

    def __init__(
        self, root: Path | str, *, allow_unsandboxed: bool = False, isolation: Isolation | None = None
    ) -> None:
        """Use a folder, which need not be there yet.

        Args:
            root: The folder.
            allow_unsandboxed: Whether commands may run without a sandbox where there is none, with all the rights of
                this process. `worker.py --allow-unsandboxed` says so for a whole process.
            isolation: Another way to run commands than this machine's.
        """
        self._allow_unsandboxed, self._isolation = allow_unsandboxed, isolation
        # The folder's own name is not resolved: a test may have put a link in its place.
        given = Path(os.path.normpath(Path(root).absolute()))
        self.root = given.parent.resolve() / given.name

    @classmethod
    def of_run(cls, base: Path, workflow_id: str, run_id: str, *, allow_unsandboxed: bool = False) -> Workspace:
        """Give a run its workspace, `<base>/<workflow id>-<end of the run id>`, whatever the ids are.

        A run id begins with the time, so two runs of one minute begin alike; its end is chance.
        """
        name = re.sub(r"[^\w.-]+", "-", workflow_id)[:48].strip(".-") or "run"
        folder = base / f"{name}-{re.sub(r'[^0-9A-Za-z]+', '', run_id)[-8:]}"
        return cls(folder, allow_unsandboxed=allow_unsandboxed)

    def list_files(self) -> list[str]:
        """List the workspace's files, sorted, without links and caches; say where folders are too deep to be listed."""
        if not os.path.lexists(self.root):
            return []
        found = []
        with _explained("."), self._folder(()) as root:
            for folder, folders, names, descriptor in os.fwalk(".", dir_fd=root):
                folders[:] = [name for name in folders if name not in CACHES]
                found += [os.path.normpath(f"{folder}/{name}") for name in names if _listed(name, descriptor)]
                if folders and folder.count("/") >= _DEEPEST:
                    found.append(os.path.normpath(f"{folder}/…") + f" (more than {_DEEPEST} folders deep: not listed)")
                    folders.clear()
        return sorted(found)

    def read(self, path: str) -> str:
        """Read a text file.

        Raises:
            WorkspaceError: there is no such file, or it is not text, or it has more than a million bytes.
            OutsideWorkspace: the path leaves the workspace.
        """
        *folders, name = _parts(path)
        with _explained(path), self._folder(folders) as folder:
            # Opened without blocking: a named pipe would wait for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise IsADirectoryError(errno.EISDIR, "Not a file")
                content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise WorkspaceError(f"{path!r} is too large to read: more than {_LARGEST_FILE:,} bytes.")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            mend = "only text files can be read and edited"
            raise WorkspaceError(f"{path!r} is not UTF-8 text (byte {error.start}): {mend}.") from error

    def write(self, path: str, content: str) -> str:
        """Write a text file and the folders that lead to it. A crash leaves the old file or the new one.

        Returns:
            What was done, for a model to read: `wrote textkit/wrap.py (34 lines)`.
        """
        self._replace(path, content)
        return f"wrote {'/'.join(_parts(path))} ({_lines(content)})"

    def edit(self, path: str, old: str, new: str) -> str:
        """Replace a text that occurs exactly once in a file.

        Returns:
            What was done, for a model to read: `edited textkit/wrap.py (now 35 lines)`.
        """
        if not old:
            raise WorkspaceError(f"Say which text of {path!r} to replace; to replace it all, write the file.")
        text = self.read(path)
        places = _places(text, old)
        if places != 1:
            mend = "Add the lines around it" if places else "Read the file and copy the text exactly"
            times = f"{places} times or more" if places == _MOST_PLACES else f"{places} times"
            raise WorkspaceError(f"{path!r} contains the text to replace {times}, not once. {mend}.")
        content = text.replace(old, new)
        self._replace(path, content)
        return f"edited {'/'.join(_parts(path))} (now {_lines(content)})"

    async def run(self, command: Sequence[str], *, limits: Limits | None = None, stdin: bytes = b"") -> Ended:
        """Run a command in the workspace: whatever runs code that a model wrote goes through here.

        It runs in a sandbox, with an environment, a home and a `/tmp` of its own, without network, within limits.
        Whatever it started is ended when it ends, when a limit is reached and when this call is cancelled.

        Args:
            command: The program and its arguments; `python` is the one that this process runs on.
            limits: What it may use.
            stdin: What it can read.

        Returns:
            How it ended, and both ends of what it printed; as a string, for a model to read.

        Raises:
            NoSandbox: There is no sandbox here, and it may not run without; says what to do.
        """
        chosen = self._isolation
        if chosen is None:
            chosen = await asyncio.to_thread(isolation, allow_unsandboxed=self._allow_unsandboxed)
        with _explained("."), self._folder((), make=True):
            pass
        return await chosen.run(Command(command, self.root, limits or Limits(), stdin))

    async def run_tests(
        self, *paths: str, timeout: float = 120.0, memory_mb: int = 2048, disk_mb: int = 1024
    ) -> TestRun:
        """Run pytest on files, folders or tests (`tests/test_wrap.py::test_width`) of the workspace.

        They run as any command does; see `run`. The verdict is that of a signed report: not of the exit code, nor of
        anything that the tests print or write.

        Args:
            paths: What to run; without any, all tests of the workspace.
            timeout: Seconds for the whole run.
            memory_mb: Memory of all its processes, in MiB, and address space of each.
            disk_mb: MiB that the workspace may hold.

        Raises:
            NoSandbox: There is no sandbox here, and they may not run without; says what to do.
        """
        selected = [self._selected(path) for path in paths]
        with _explained("."), self._folder((), make=True):
            configuration = self._configuration()
        limits = Limits(seconds=timeout, cpu_seconds=4 * timeout, memory_mb=memory_mb, disk_mb=disk_mb)
        return await run_pytest(
            lambda command, key: self.run(command, limits=limits, stdin=key),
            self._python_files,
            selected,
            configuration=configuration,
            seconds=timeout,
        )

    def _python_files(self) -> dict[str, str]:
        files = {}
        for path in self.list_files():
            with contextlib.suppress(AgentError):
                if path.endswith(".py"):
                    files[path] = self.read(path)
        return files

    def _selected(self, path: str) -> str:
        """Check what to test and put it so that pytest can't take it for an option."""
        file, separator, test = _utterable(path).partition("::")
        parts = [] if file in (".", "./") else _parts(file)
        with _explained(file), self._folder(parts[:-1]) as folder:
            if parts and stat.S_ISLNK(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, "Symbolic link")
        return "./" + "/".join(parts) + separator + test

    def _configuration(self) -> str:
        """Name the workspace's own configuration of pytest; without one, an empty file.

        pytest would look on in the folders above, and find that of a project around the workspace.
        """
        for name, mark in CONFIGURATIONS:
            with contextlib.suppress(AgentError):
                if mark in self.read(name):
                    return name
        return os.devnull

    def _replace(self, path: str, content: str) -> None:
        *folders, name = _parts(path)
        encoded = _encoded(without_secrets(content), path)
        partial = PARTIAL + secrets.token_hex(8)
        with _explained(path), self._folder(folders, make=True) as folder:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(partial, flags, 0o666, dir_fd=folder), "wb") as file:
                    file.write(encoded)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial, dir_fd=folder)
                raise

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Open a folder of the workspace from the root down, one part at a time, and close it afterwards."""
        if make:
            self.root.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.root, _FOLDER)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                inner = _enter(part, folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def _utterable(path: str) -> str:
    """Refuse what can't be a path at all, or not in JSON."""
    if not path or "\0" in path or len(path) > _LONGEST_PATH:
        limits = f"give 1 to {_LONGEST_PATH:,} characters, none of them NUL"
        raise WorkspaceError(f"{path[:80]!r} can't be a path: {limits}.")
    _encoded(path, path)
    return path


def _encoded(text: str, path: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at {error.start} is half a character"
        raise WorkspaceError(f"{path!r} can't be used: {half}. Leave it out.") from error


def _parts(path: str) -> list[str]:
    parts = [part for part in _utterable(path).split("/") if part not in ("", ".")]
    mend = "name a file from the workspace's top, such as 'textkit/wrap.py'"
    if path.startswith("/") or ".." in parts:
        raise OutsideWorkspace(f"{path!r} may lead out of the workspace: {mend}, without '..'.")
    if not parts:
        raise WorkspaceError(f"{path!r} is the workspace itself: {mend}.")
    return parts


def _enter(part: str, folder: int) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except NotADirectoryError:
        # Linux says the same of a file and of a link that is not followed.
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "Symbolic link") from None
        raise


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn the system's errors into ones that a model can act on."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            mend = "links are not followed; name the file itself"
            raise OutsideWorkspace(f"{path!r} leads through a symbolic link: {mend}.") from error
        reasons = {
            errno.ENOENT: "does not exist in the workspace. List the files to see what there is.",
            errno.EISDIR: "is not a file (a folder or a device): name a file.",
            errno.ENOTDIR: "has a file where a folder is expected: choose another path.",
            errno.ENAMETOOLONG: "has a part that is too long for a file name: shorten it.",
        }
        reason = reasons.get(error.errno or 0, f"can't be used: {error.strerror}.")
        raise WorkspaceError(f"{path!r} {reason}") from error


def _listed(name: str, folder: int) -> bool:
    """Say whether a directory entry is a regular file whose name can be told to a model."""
    try:
        name.encode()
        regular = stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (OSError, UnicodeEncodeError):
        return False
    return regular and not name.startswith(PARTIAL)


def _places(text: str, old: str) -> int:
    """Count the places of a text up to a most. Those that overlap count one by one: "aa" has two places in "aaa"."""
    places, at = 0, text.find(old)
    while at >= 0 and places < _MOST_PLACES:
        places, at = places + 1, text.find(old, at + 1)
    return places


def _lines(content: str) -> str:
    count = len(content.splitlines())
    return "1 line" if count == 1 else f"{count} lines"
