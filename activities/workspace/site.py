"""Where a run's repository is, and the folders in which its branches are worked on.

    <run>.repository/repository.git     all commits; `main` holds what was merged
    <run>.repository/main               the files of `main`, for people
    <run>.repository/coder-1            the files that coder-1 works on
    <run>.repository/.notes/coder-1     what was begun there, by which call
    <run>.repository/.left              folders that could not be kept as commits

It is beside the run's plain folder, so that no agent without a branch, and no code that a model wrote, can reach it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from activities.contract.branches import MAIN
from activities.errors import AgentError
from activities.workspace.git import Git, GitFailed, Message
from activities.workspace.tree import write_tree
from activities.workspace.workspace import Workspace

START = "refs/start"
"""The commit with which a repository begins."""

_HEAD = f"refs/heads/{MAIN}"


class SourceUnusable(AgentError):
    """A repository that a run is to begin from can't be read; says why and what to do."""


class RepositoryLost(AgentError):
    """What a run has committed is not here; says what workers need."""


@dataclass(frozen=True)
class Call:
    """A call, as its commits tell of it.

    Attributes:
        key: The same for all of its attempts, and for no other call, not even one that is made again after a reset.
        at: When it was made, in seconds since 1970.
        run: The run's workflow id.
        step: Its place in the program.
        method: What is done.
        instance: By whom.
        item: On what, for people.
    """

    key: str
    at: int
    run: str
    step: str
    method: str
    instance: str
    item: str = ""

    def message(self, subject: str = "") -> Message:
        """Return what a commit of this call says."""
        name = self.method.rpartition(".")[2]
        trailers = {
            "Run": self.run,
            "Step": self.step,
            "Method": self.method,
            "Item": self.item,
            "Instance": self.instance,
            "Call": self.key,
        }
        return Message(subject or (f"{name}: {self.item}" if self.item else name), trailers, self.instance, self.at)


class Note(BaseModel):
    """What was begun in a folder. It is kept where nobody can write who works there."""

    call: str
    """The key of the call."""
    base: str = ""
    """The commit on which it works."""
    merging: str = ""
    """The commit of `main` that it is to be merged with, where that is left to the author."""
    conflicts: list[str] = []
    """The files that have both sides in them."""
    ready: bool = False
    """Whether the folder holds what the call begins with."""


@dataclass(frozen=True)
class Site:
    """The repository of one run.

    Attributes:
        folder: What holds it.
    """

    folder: Path

    @classmethod
    def of_run(cls, base: Path, workflow_id: str, run_id: str) -> Site:
        """Return the place of a run's repository, by the first run of its chain."""
        plain = Workspace.of_run(base, workflow_id, run_id).root
        return cls(plain.with_name(f"{plain.name}.repository"))

    @property
    def git(self) -> Git:
        """The repository."""
        return Git(self.folder / "repository.git")

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return self.git.folder.is_dir()

    def tree(self, branch: str) -> Path:
        """Return the folder in which a branch is worked on."""
        return self.folder / branch

    def left(self) -> Path:
        """Return where folders are kept that could not be kept as commits."""
        return self.folder / ".left"

    def make(self, call: Call, source: str = "") -> Git:
        """Make the repository if it is not there: whole, or not at all.

        Args:
            call: Which call needs it.
            source: The repository, or the bundle of one, that it begins from.

        Raises:
            SourceUnusable: The source can't be read.
        """
        git = self.git
        if git.folder.is_dir():
            return git
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.locked("making"):
            if git.folder.is_dir():
                return git
            making = self.folder / ".making.git"
            shutil.rmtree(making, ignore_errors=True)
            new = Git.make(making)
            if source:
                _take_from(source, new)
                new.point(_HEAD, new.commit_of(START))
            else:
                new.commit_changes(START, [], {}, Message("Begin with nothing", {"Run": call.run}, call.run, call.at))
                new.point(_HEAD, new.commit_of(START))
            making.rename(git.folder)
        return git

    def stands(self, branch: str, known: str) -> str:
        """Return the commit at which a branch stands as far as the run knows; where all began, if it knows nothing.

        Raises:
            RepositoryLost: It is not here.
        """
        found = self.git.commit_of(known or START)
        if not found:
            raise RepositoryLost(
                f"The repository {self.git.folder} does not hold {known}, where {branch} stands: it was deleted, or "
                "another worker has it. Let all workers of agents with a Repository share one WORKSPACES folder."
            )
        return found

    def copy_to(self, other: Site, stand: Mapping[str, str]) -> None:
        """Give another run a repository with all commits of this one, and its branches where that run knows them to be.

        Args:
            other: Where its repository is to be.
            stand: The commits of the branches; one that is not named is not there yet.
        """
        other.folder.mkdir(parents=True)
        self.git.run(
            "clone", "--quiet", "--mirror", "--no-hardlinks", "--", str(self.git.folder), str(other.git.folder)
        )
        git = other.git
        begun = {f"refs/heads/{branch}": self.stands(branch, commit) for branch, commit in {MAIN: "", **stand}.items()}
        for reference in git.references("refs/heads/"):
            if reference not in begun:
                git.run("update-ref", "-d", reference)
        for reference, commit in begun.items():
            git.point(reference, commit)
        other.show(begun[_HEAD])

    def show(self, commit: str) -> None:
        """Have the folder of `main` hold a commit, for people."""
        with self.locked(MAIN):
            write_tree(self.tree(MAIN), self.git.tree(commit), self.git)

    def leave(self, branch: str, commit: str) -> None:
        """Keep a commit that no branch leads to any more, where a person finds it."""
        self.git.point(f"refs/left/{branch}/{commit[:12]}", commit)

    def note(self, branch: str) -> Note | None:
        """Return what was begun last on a branch."""
        try:
            return Note.model_validate_json((self._notes / branch).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write_note(self, branch: str, note: Note) -> None:
        """Note what is begun on a branch; killed meanwhile, the former note is there."""
        self._notes.mkdir(exist_ok=True)
        partial = self._notes / f".{branch}-{os.urandom(4).hex()}"
        partial.write_text(note.model_dump_json(exclude_defaults=True))
        partial.replace(self._notes / branch)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Be the only one at something, on this machine; the lock of who is killed is let go by the system."""
        locks = self.folder / ".locks"
        locks.mkdir(exist_ok=True)
        descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def _notes(self) -> Path:
        return self.folder / ".notes"


def _take_from(source: str, git: Git) -> None:
    """Fetch what a source has, its branches too; its current one is where all begins."""
    path = str(Path(source).expanduser().absolute())
    try:
        listed = [line.split("\t") for line in git.text("ls-remote", "--", path).splitlines()]
        heads = {name: oid for oid, name in listed if re.fullmatch(r"HEAD|refs/heads/.+", name)}
        current = next((name for name in ("HEAD", _HEAD, "refs/heads/master", *heads) if name in heads), None)
        if current is None:
            raise SourceUnusable(f"The repository {source} has no commits to begin from: commit something to it.")
        git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", path, f"+{current}:{START}")
    except GitFailed as error:
        raise SourceUnusable(
            f"The repository {source}, which the run is to begin from, can't be read on this worker: {error}. Give the "
            "path of a repository or of a bundle (git bundle create) that every worker can read."
        ) from None
