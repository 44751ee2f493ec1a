"""The files of a run, as far as they are where the board can read them: who changed what, at which step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from temporalio.client import Client

from activities.border.context import workspaces_folder
from activities.workspace.git import GitFailed
from activities.workspace.log import Commit, FileChange, commit_of, commits_of
from activities.workspace.site import Site
from activities.workspace.workspace import Workspace
from console.board.access import Refused
from console.looking import RPC_TIMEOUT
from console.said import plain

T = TypeVar("T")

_AT_ONCE = 2
_OF_A_FILE_AMONG_MANY, _OF_A_FILE = 20_000, 200_000  # characters of its difference


class FileShown(BaseModel):
    """What a commit did to a file."""

    path: str
    added: int | None
    """Lines; null where it has none, or they were not counted."""
    removed: int | None
    diff: str | None
    """Null where it is too much to be shown here."""
    is_cut: bool
    """Whether there is more of it."""


class CommitShown(BaseModel):
    """What a call has committed."""

    commit: str
    at: datetime
    by: str
    """The instance."""
    subject: str
    run: str
    """The run of the call: another one before a fork."""
    step: str
    method: str
    item: str
    merges: bool
    """Whether it brings branches together; then only what is in none of them is its own."""
    files: list[FileShown]
    left_out: int | None
    """How many files are not among them; null where that is not known."""

    @property
    def added(self) -> int:
        """Lines in all."""
        return sum(file.added or 0 for file in self.files)

    @property
    def removed(self) -> int:
        """Lines in all."""
        return sum(file.removed or 0 for file in self.files)


class FilesShown(BaseModel):
    """Where a run's files are, and what was committed there."""

    repository: str
    """Where it is, or would be if it were on this machine."""
    is_here: bool
    folder: str
    """The run's plain folder; empty where there is none here."""
    workspaces: str
    """The folder of all of them."""
    commits: list[CommitShown] = []
    skipped: int = 0
    is_all: bool = True
    """Whether there is none before these."""


class Repositories:
    """Reads the repositories of runs, a few at a time and beside the loop."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def files_of(self, workflow_id: str, skip: int) -> FilesShown:
        """Return where a run's files are, and what was committed, the newest first.

        Args:
            workflow_id: The run.
            skip: How many of the newest commits to leave out.

        Raises:
            RPCError: There is no such run, or the server does not answer.
            Refused: The repository can't be read.
        """
        site, folder = await self._places(workflow_id)
        shown = FilesShown(
            repository=str(site.git.folder),
            is_here=site.exists,
            folder=str(folder) if folder.is_dir() else "",
            workspaces=str(workspaces_folder()),
            skipped=skip,
        )
        if shown.is_here:
            commits, more = await self._read(lambda: commits_of(site.git, skip))
            shown.commits = [_as_shown(commit, _OF_A_FILE_AMONG_MANY) for commit in commits]
            shown.is_all = not more
        return shown

    async def commit_of(self, workflow_id: str, oid: str) -> CommitShown:
        """Return one commit, with more of its differences.

        Raises:
            RPCError: There is no such run, or the server does not answer.
            Refused: There is no such commit here.
        """
        site, _ = await self._places(workflow_id)
        found = await self._read(lambda: commit_of(site.git, oid)) if site.exists else None
        if found is None:
            raise Refused(404, f"there is no commit {oid[:64]} in {site.git.folder}.")
        return _as_shown(found, _OF_A_FILE)

    async def _places(self, workflow_id: str) -> tuple[Site, Path]:
        described = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_TIMEOUT)
        run = workflow_id, described.raw_description.workflow_execution_info.first_run_id
        return Site.of_run(workspaces_folder(), *run), Workspace.of_run(workspaces_folder(), *run).root

    async def _read(self, read: Callable[[], T]) -> T:
        async with self._turns:
            try:
                return await asyncio.to_thread(read)
            except (GitFailed, OSError) as error:
                raise Refused(502, f"the repository can't be read: {error}") from error


def _as_shown(commit: Commit, most: int) -> CommitShown:
    return CommitShown(
        commit=commit.oid,
        at=commit.at,
        by=plain(commit.by),
        subject=plain(commit.subject),
        run=plain(commit.run),
        step=plain(commit.step),
        method=plain(commit.method),
        item=plain(commit.item),
        merges=commit.merges,
        files=[_file(file, most) for file in commit.files],
        left_out=commit.left_out,
    )


def _file(file: FileChange, most: int) -> FileShown:
    is_cut = file.diff is None or len(file.diff) > most
    diff = None if file.diff is None else plain(file.diff, most)
    return FileShown(path=plain(file.path), added=file.added, removed=file.removed, diff=diff, is_cut=is_cut)
