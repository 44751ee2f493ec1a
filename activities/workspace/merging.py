"""Merges into `main`: tried aside, tested there, and taken over in one step, so that `main` is whole at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from activities.contract.branches import MAIN, branch_of
from activities.contract.text import clip
from activities.workspace.desk import Desk
from activities.workspace.git import Git, MergedTree
from activities.workspace.tree import write_tree

_HEAD = f"refs/heads/{MAIN}"
_ONE_FILE = 6_000  # characters of a file with both sides that are told
_MOST_FILES = 20
_TRIES = 5


class Sides(NamedTuple):
    """A file in which two sides conflict.

    Attributes:
        path: The file.
        text: Both sides, between markers; of a long one head and tail.
    """

    path: str
    text: str


@dataclass
class Merging:
    """What became of a merge.

    Attributes:
        commit: Where `main` stands afterwards.
        files: What is different in it.
        merged: The branches that are in it now.
        conflicts: The files in conflict, by the branches that are not.
        refused: What the tests said, if they keep all of it out.
    """

    commit: str = ""
    files: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    conflicts: dict[str, list[Sides]] = field(default_factory=dict)
    refused: str = ""


@dataclass
class MergeDesk(Desk):
    """Where branches are merged: its folder is for trying, and what is in it after a call is nobody's work."""

    def begin(self) -> None:
        """See to it that there is a repository."""
        self.site.make(self.call, self.source)

    def unfinished(self) -> str:
        """Return nothing."""
        return ""

    def end(self) -> dict[str, str]:
        """Return where branches stand since the call."""
        return self.moved

    def branches(self, names: Iterable[str]) -> list[str]:
        """Return the branches of instances, or of all instances of roles, that the run knows to have committed."""
        found: list[str] = []
        for name in names:
            own = branch_of(name)
            of_role = [
                one for one in self.stand if one.rpartition("-")[0] == name and one.rpartition("-")[2].isdecimal()
            ]
            found += [own] if own in self.stand else sorted(of_role, key=lambda one: int(one.rpartition("-")[2]))
        return list(dict.fromkeys(found))

    def tried(self, branches: Iterable[str]) -> tuple[str, Merging]:
        """Merge branches aside; return where `main` was, and what would become of it.

        What an earlier attempt has merged is found merged.
        """
        git = self.site.git
        before = git.commit_of(_HEAD)
        made = Merging(commit=self._main(git, before))
        for branch in branches:
            commit = self.site.stands(branch, self.stand[branch])
            if not git.is_ancestor(commit, made.commit):
                merged = git.merged(made.commit, commit, (MAIN, branch))
                if merged.conflicts:
                    made.conflicts[branch] = _sides(git, merged)
                    continue
                message = self.call.message(
                    f"Merge {branch}" + (f": {self.call.item}" if self.call.item != branch else "")
                )
                made.commit = git.commit_tree(merged.tree, [made.commit, commit], message)
            made.merged.append(branch)
        made.files = git.changed(self._first(git, made.commit), made.commit)
        return before, made

    async def test(self, made: Merging) -> str:
        """Run the tests of what would be `main`; return what they said if they don't pass."""
        folder = self.workspace.root
        write_tree(folder, self.site.git.tree(made.commit), self.site.git)
        tests = await self.workspace.run_tests()
        return "" if tests.passed else str(tests)

    def take_over(self, before: str, made: Merging) -> bool:
        """Move `main` and show its files; return False if somebody else has moved it since."""
        git = self.site.git
        if made.commit != before:
            if not git.point(_HEAD, made.commit, before):
                return False
            if not git.is_ancestor(before, made.commit):
                self.site.leave(MAIN, before)
        self.site.show(made.commit)
        self.moved[MAIN] = made.commit
        return True

    def _main(self, git: Git, head: str) -> str:
        """Return the commit on which to merge: where the run knows `main` to be, or where calls beside this one put it.

        A run that was reset or forked knows nothing of what came afterwards.
        """
        beside = git.trailer(head, "Call").rpartition("/")[0] == self.call.key.rpartition("/")[0]
        return head if beside else self.site.stands(MAIN, self.stand.get(MAIN, ""))

    def _first(self, git: Git, commit: str) -> str:
        """Return where `main` was before all that this call has merged."""
        while git.trailer(commit, "Call") == self.call.key:
            commit = git.commit_of(f"{commit}^1")
        return commit


async def merge(desk: MergeDesk, names: Iterable[str], *, tests: bool) -> Merging:
    """Merge branches into `main`; those that conflict stay out, and all of them if the tests then fail.

    Args:
        desk: The call's.
        names: Instances or roles.
        tests: Whether the tests have to pass.
    """
    branches = desk.branches(names)
    for _ in range(_TRIES):
        before, made = await asyncio.to_thread(desk.tried, branches)
        if tests and made.commit != before and (refused := await desk.test(made)):
            return Merging(commit=before, conflicts=made.conflicts, refused=refused)
        if await asyncio.to_thread(desk.take_over, before, made):
            return made
    raise RuntimeError(f"{MAIN} was moved by others {_TRIES} times while branches were merged into it")


def _sides(git: Git, merged: MergedTree) -> list[Sides]:
    paths = merged.conflicts[:_MOST_FILES]
    there = [path for path in paths if path in merged.files]
    contents = dict(zip(there, git.contents(merged.files[path].oid for path in there), strict=True))
    told = {path: content.decode(errors="replace") for path, content in contents.items() if b"<<<<<<< " in content}
    return [Sides(path, clip(told.get(path, merged.told), _ONE_FILE)) for path in paths]
