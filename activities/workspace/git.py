"""Git, as a program that is handed bytes and hands back bytes.

It is given a folder of its own (`--git-dir`) and never a work tree: what models write reaches it as data on its
standard input only. So no file of theirs, be it `.git`, `.gitattributes` or a hook, is ever read by it as a setting.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from activities.errors import SettingInvalid

OLDEST = (2, 38)
"""The first version that merges without a work tree."""

REPOSITORY = "160000"
"""The mode of an entry that stands for another repository, of which nothing is known here."""

_NOWHERE = os.devnull

_SETTINGS = (
    *("-c", "safe.directory=*", "-c", f"core.hooksPath={_NOWHERE}", "-c", f"core.attributesFile={_NOWHERE}"),
    *("-c", "core.fsmonitor=false", "-c", "core.fsync=committed,reference", "-c", "core.quotePath=false"),
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "commit.gpgSign=false"),
    *("-c", "protocol.allow=never", "-c", "protocol.file.allow=always", "-c", "fetch.recurseSubmodules=false"),
)

_SECONDS = 600.0
_LOCKED_S = 5.0  # that another process may hold a reference; who holds it longer was killed


class NoGit(SettingInvalid):
    """There is no git here that repositories can be kept with; says what to do."""


class GitFailed(RuntimeError):
    """Git refused; says what, and what it said. It may pass: a disk that is full, a machine that is busy."""


class Entry(NamedTuple):
    """A file in a tree.

    Attributes:
        mode: `100644`, `100755` if it can be executed, `120000` for a symbolic link, `160000` for another repository.
        oid: The name of its content.
    """

    mode: str
    oid: str


class Beginning(NamedTuple):
    """What git has printed, as far as it was read.

    Attributes:
        said: It.
        is_all: Whether there was no more.
    """

    said: bytes
    is_all: bool


@dataclass(frozen=True)
class Message:
    """What a commit says, by whom and when.

    The same message on the same tree is the same commit: who is killed and does it again makes no second one.

    Attributes:
        subject: What was done.
        trailers: In what the run's terms are, by their names.
        by: The instance.
        at: When, as seconds since 1970.
    """

    subject: str
    trailers: Mapping[str, str]
    by: str
    at: int

    def __str__(self) -> str:
        """Write it as git keeps it."""
        trailers = "".join(f"{name}: {_line(value)}\n" for name, value in self.trailers.items() if value)
        return f"{_line(self.subject, 100)}\n\n{trailers}"

    @property
    def identity(self) -> tuple[str, str]:
        """Name and address of who did it."""
        name = re.sub(r"[<>\x00-\x1f\x7f\s]+", " ", self.by).strip(" .,:;'\"\\") or "somebody"
        return name, re.sub(r"[^\w.-]+", "-", name) + "@run"


@dataclass(frozen=True)
class MergedTree:
    """What git makes of two commits.

    Attributes:
        tree: The merged tree, where they do not conflict.
        conflicts: The paths of the files in which they do.
        files: All files then; those hold both sides between markers.
        told: What git says of the conflicts.
    """

    tree: str
    conflicts: Sequence[str] = ()
    files: Mapping[str, Entry] = field(default_factory=dict)
    told: str = ""


@dataclass(frozen=True)
class Git:
    """A repository without a work tree.

    Attributes:
        folder: Its folder.
    """

    folder: Path
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def run(
        self, *arguments: str, stdin: bytes = b"", codes: Sequence[int] = (0,), env: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Run git on the repository; return its exit code and what it printed.

        Args:
            *arguments: The command and its arguments.
            stdin: What it can read.
            codes: The exit codes that are no failure.
            env: Variables of its environment beside those that keep a user's and a system's settings out.

        Raises:
            NoGit: There is none here.
            GitFailed: It ended with another exit code.
        """
        done = _run(program(), f"--git-dir={self.folder}", *_SETTINGS, *arguments, stdin=stdin, env=env)
        if done.returncode not in codes:
            said = " ".join(done.stderr.decode(errors="replace").split())
            raise GitFailed(
                f"git {' '.join(arguments)[:200]} in {self.folder} failed ({done.returncode}): {said[:2000]}"
            )
        return done.returncode, done.stdout

    def beginning(self, *arguments: str, most: int, seconds: float) -> Beginning:
        """Run git, and return the beginning of what it prints: for people, who wait for it.

        Args:
            *arguments: The command and its arguments.
            most: Bytes after which it is ended.
            seconds: After which it is ended as well.
        """
        command = [program(), f"--git-dir={self.folder}", *_SETTINGS, *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_alone(), cwd="/"
        ) as process:
            assert process.stdout is not None
            ending = threading.Timer(seconds, process.kill)
            ending.start()
            try:
                said = process.stdout.read(most + 1)
                if len(said) > most:
                    process.kill()
                process.wait()
            finally:
                ending.cancel()
                process.kill()  # which has ended, unless this was interrupted
        ending.join()
        return Beginning(said[:most], is_all=len(said) <= most and process.returncode == 0)

    def text(self, *arguments: str) -> str:
        """Run git, and return what it printed."""
        return self.run(*arguments)[1].decode(errors="replace").strip()

    @classmethod
    def make(cls, folder: Path) -> Git:
        """Make an empty repository."""
        made = cls(folder)
        done = _run(
            program(), *_SETTINGS, "init", "--quiet", "--bare", "--template=", f"--initial-branch={_MAIN}", str(folder)
        )
        if done.returncode:
            raise GitFailed(f"git init {folder} failed: {done.stderr.decode(errors='replace').strip()}")
        return made

    def commit_of(self, name: str) -> str:
        """Return the commit that a reference or a commit's own name stands for; empty if there is none."""
        _, found = self.run(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", codes=(0, 1, 128)
        )
        return found.decode().strip()

    def tree(self, commit: str) -> dict[str, Entry]:
        """Return the files of a commit or of a tree by their paths."""
        _, listed = self.run("ls-tree", "-r", "-z", "--full-tree", commit)
        files = {}
        for line in listed.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, oid = about.decode().split(" ")
            files[os.fsdecode(path)] = Entry(mode, oid)
        return files

    def contents(self, oids: Iterable[str]) -> Iterator[bytes]:
        """Yield contents by their names, in order."""
        wanted = list(oids)
        while wanted:
            some, wanted = wanted[:_AT_ONCE], wanted[_AT_ONCE:]
            _, data = self.run("cat-file", "--batch", stdin="".join(f"{oid}\n" for oid in some).encode())
            at = 0
            for oid in some:
                end = data.index(b"\n", at)
                header = data[at:end].decode().split(" ")
                if len(header) != 3:  # name, kind and size
                    raise GitFailed(f"{self.folder} does not hold {oid}: {' '.join(header)}")
                start, size = end + 1, int(header[2])
                yield data[start : start + size]
                at = start + size + 1

    def is_ancestor(self, commit: str, of: str) -> bool:
        """Whether a commit is another one, or comes before it."""
        return commit == of or self.run("merge-base", "--is-ancestor", commit, of, codes=(0, 1))[0] == 0

    def trailer(self, commit: str, name: str) -> str:
        """Return what a commit's message says under a name; empty if nothing."""
        shown = self.text("show", "--no-patch", f"--format=%(trailers:key={name},valueonly=true)", commit)
        return shown.partition("\n")[0].strip()

    def changed(self, before: str, after: str) -> list[str]:
        """Return the paths of the files that differ between two commits."""
        _, listed = self.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", before, after)
        return [os.fsdecode(path) for path in listed.split(b"\0")[:-1]]

    def merged(self, ours: str, theirs: str, names: tuple[str, str]) -> MergedTree:
        """Merge two commits, and keep nothing of it but the tree.

        Args:
            ours: A commit.
            theirs: Another.
            names: What the two are called beside their sides of a conflict.
        """
        code, said = self.run(
            "merge-tree", "--write-tree", "-z", "--allow-unrelated-histories", ours, theirs, codes=(0, 1)
        )
        tree, _, rest = said.partition(b"\0")
        if code == 0:
            return MergedTree(tree.decode())
        listed, _, told = rest.partition(b"\0\0")
        paths = list(dict.fromkeys(os.fsdecode(line.partition(b"\t")[2]) for line in listed.split(b"\0")))
        files = self.tree(tree.decode())
        there = [path for path in paths if path in files and files[path].mode != REPOSITORY]
        for path, content in zip(there, self.contents(files[path].oid for path in there), strict=True):
            named = content.replace(b"<<<<<<< %s" % ours.encode(), b"<<<<<<< %s" % names[0].encode())
            named = named.replace(b">>>>>>> %s" % theirs.encode(), b">>>>>>> %s" % names[1].encode())
            files[path] = files[path]._replace(oid=self._kept(named))
        words = [part.strip() for part in told.decode(errors="replace").split("\0")]
        return MergedTree(
            tree.decode(), paths, files, "\n".join(one for one in words if one.startswith("CONFLICT (") and ":" in one)
        )

    def _kept(self, content: bytes) -> str:
        """Keep a content; return its name."""
        return self.run("hash-object", "-w", "--stdin", stdin=content)[1].decode().strip()

    def commit_tree(self, tree: str, parents: Sequence[str], message: Message) -> str:
        """Make a commit of a tree that is there; return its name."""
        name, address = message.identity
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", address), ("DATE", f"@{message.at} +0000"))
        }
        follows = [word for parent in parents for word in ("-p", parent)]
        _, made = self.run("commit-tree", *follows, "-F", "-", tree, stdin=str(message).encode(), env=who)
        return made.decode().strip()

    def commit_changes(
        self, reference: str, parents: Sequence[str], changes: Mapping[str, tuple[str, bytes] | None], message: Message
    ) -> str:
        """Make a commit by what differs from its first parent, under a reference; return its name.

        Args:
            reference: Where it is kept.
            parents: The commits that it follows.
            changes: By path, mode and content of a file; None for one that is gone.
            message: What it says.
        """
        name, address = message.identity
        written = str(message).encode()
        who = f"{name} <{address}> {message.at} +0000"
        lines = [f"commit {reference}\nmark :1\ncommitter {who}\ndata {len(written)}\n".encode(), written, b"\n"]
        lines += [f"{'merge' if number else 'from'} {parent}\n".encode() for number, parent in enumerate(parents)]
        # What is gone first: a folder may stand where a file stood.
        lines += [b"D %s\n" % _quoted(path) for path, change in changes.items() if change is None]
        for path, change in changes.items():
            if change is not None:
                mode, content = change
                lines.append(b"M %s inline %s\ndata %d\n" % (mode.encode(), _quoted(path), len(content)))
                lines += [content, b"\n"]
        lines.append(b"\nget-mark :1\ndone\n")
        options = ("--quiet", "--force", "--done", "--date-format=raw", "--cat-blob-fd=1")
        _, made = self.run("fast-import", *options, stdin=b"".join(lines))
        return made.decode().strip()

    def point(self, reference: str, commit: str, before: str | None = None) -> bool:
        """Let a reference stand for a commit; return False if it did not stand where it was thought to.

        Args:
            reference: Such as `refs/heads/main`.
            commit: The commit.
            before: Where it stands; empty for nowhere, None if it does not matter.

        Raises:
            GitFailed: Git refused for another reason.
        """
        gives_up = time.monotonic() + 2 * _LOCKED_S
        old = () if before is None else (before or "0" * len(commit),)
        while True:
            try:
                self.run("update-ref", "--no-deref", reference, commit, *old)
            except GitFailed as error:
                if "Unable to create" not in str(error) and "File exists" not in str(error):
                    if before is not None and self.commit_of(reference) != before:
                        return False
                    raise
                if time.monotonic() > gives_up:
                    raise
                self._break_old_lock(reference)
                time.sleep(0.1)
            else:
                return True

    def references(self, under: str) -> dict[str, str]:
        """Return what references stand for, those under a prefix such as `refs/left/`."""
        listed = self.text("for-each-ref", "--format=%(refname) %(objectname)", under)
        return dict(line.split(" ") for line in listed.splitlines())

    def _break_old_lock(self, reference: str) -> None:
        lock = self.folder / f"{reference}.lock"
        with contextlib.suppress(OSError):
            if time.time() - lock.stat().st_mtime > _LOCKED_S:
                lock.unlink()


_MAIN = "main"
_AT_ONCE = 200  # contents that are held in memory at a time


def program() -> str:
    """Return the path of git.

    Raises:
        NoGit: There is none, or it is too old; says what to do.
    """
    found = _found(shutil.which("git"))
    if isinstance(found, NoGit):
        raise NoGit(str(found))
    return found[0]


def has_git() -> bool:
    """Whether there is a git here that repositories can be kept with."""
    return not isinstance(_found(shutil.which("git")), NoGit)


def git_in_words() -> str:
    """Say in one line which git keeps the repositories here."""
    found = _found(shutil.which("git"))
    return f"Git: none. {found}" if isinstance(found, NoGit) else f"Git: {found[1]}, for the repositories of runs."


@functools.cache
def _found(path: str | None) -> tuple[str, str] | NoGit:
    mend = f"Install git {'.'.join(map(str, OLDEST))} or later (apt-get install git); the image in docker/ has it."
    if path is None:
        return NoGit(f"There is no git here, and an agent keeps its files in a repository. {mend}")
    said = _run(path, "version").stdout.decode(errors="replace")
    numbers = re.search(r"(\d+)\.(\d+)[\w.]*", said)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        return NoGit(f"{path} is too old ({said.strip() or 'it does not run'}). {mend}")
    return path, numbers[0]


def _run(
    path: str, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [path, *arguments],
        input=stdin,
        capture_output=True,
        env={**_alone(), **(env or {})},
        cwd="/",
        timeout=_SECONDS,
        check=False,
    )


def _alone() -> dict[str, str]:
    """Return an environment that keeps a user's and a system's settings out."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": _NOWHERE,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": _NOWHERE,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _line(text: str, most: int = 300) -> str:
    """Return a text as a part of one line, so that it can't pass for lines of its own."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return (
        plain.encode(errors="replace").decode()
        if len(plain) <= most
        else f"{plain[:most]}…".encode(errors="replace").decode()
    )


def _quoted(path: str) -> bytes:
    """Write a path so that fast-import reads it as it is, whatever is in it."""
    plain = b"".join(
        bytes([byte]) if 0x20 <= byte < 0x7F and byte not in b'"\\' else b"\\%03o" % byte for byte in os.fsencode(path)
    )
    return b'"%s"' % plain
