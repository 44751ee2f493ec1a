"""Merging: a role of any choreography whose agents work on branches of one repository."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from activities.declarations.agent import Agent
from activities.declarations.decorators import task
from activities.errors import DeclarationError
from activities.workspace.desk import current_desk
from activities.workspace.merging import MergeDesk, merge
from activities.workspace.repository import Trials


class InConflict(BaseModel):
    """A file in which a branch and `main` say different things."""

    branch: str
    path: str
    text: str
    """Both sides, between markers; head and tail of a long file."""


class Merge(BaseModel):
    """What became of a merge into `main`."""

    commit: str
    """Where `main` stands afterwards."""
    files: list[str] = []
    """What is different in it."""
    merged: list[str] = []
    """The branches that are in it."""
    conflicts: list[InConflict] = []
    """What keeps branches out. Their authors find both sides in their files when they are called next."""
    refused: str = ""
    """What the tests said, if they did not pass: then `main` is as it was."""

    @property
    def open(self) -> str:
        """What an author is told to do before it can be merged; nothing if it is merged."""
        if self.refused:
            return f"Together with what others have merged, the tests don't pass:\n\n{self.refused}"
        told = "\n\n".join(f"{one.path}:\n{one.text}" for one in self.conflicts)
        return f"Your work conflicts with what others have merged. Resolve it in your files:\n\n{told}" if told else ""


class Merger(Agent):
    """You bring together what others have written.

    Merges are made one after the other where its pool has one instance, as it has if nothing else is said.
    """

    workspace = Trials()

    @task(timeout=1800)
    async def merge(self, branches: str | Sequence[str], tests: bool = False) -> Merge:
        """Merge branches into `main`.

        Args:
            branches: Names of instances, `coder-1`, or of roles, for all of their instances: `coder`.
            tests: Whether the tests of what would be `main` have to pass, in the sandbox; else `main` stays as it is.
        """
        desk = current_desk()
        if not isinstance(desk, MergeDesk):
            raise DeclarationError("Merger.merge merges the branches of a run: call it from a choreography.")
        made = await merge(desk, [branches] if isinstance(branches, str) else branches, tests=tests)
        conflicts = [
            InConflict(branch=branch, path=path, text=text)
            for branch, sides in made.conflicts.items()
            for path, text in sides
        ]
        return Merge(
            commit=made.commit, files=made.files, merged=made.merged, conflicts=conflicts, refused=made.refused
        )
