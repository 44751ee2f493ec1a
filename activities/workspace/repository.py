"""`workspace = Repository()` on an agent class: its files are a branch of the run's repository, and each call a commit.

class Coder(Agent):
    workspace = Repository()                       # a branch and a folder for each instance
    workspace = Repository(source="/srv/textkit")  # the same, begun from a repository that is there, or a bundle
    workspace = Repository(shared=True)            # one folder for all, on `main`: one call at a time works in it
    workspace = Repository(read_only=True)         # `main` to look at, as for who reviews: nothing is committed
"""

from __future__ import annotations

import inspect
import os
from typing import Any, ClassVar, Self, overload

from activities.border.context import current_call, workspaces_folder
from activities.contract.branches import MAIN, Access, Standing, branch_of
from activities.errors import DeclarationError
from activities.workspace.desk import Desk, current_desk
from activities.workspace.merging import MergeDesk
from activities.workspace.reading import ReadingDesk
from activities.workspace.site import Call, Site
from activities.workspace.workspace import Workspace

SOURCE = "REPOSITORY"
"""The environment's word for the repository that runs begin from, where neither they nor their agents name one."""


class Repository:
    """The workspace of agents that work on branches of one repository.

    In a process of your own, outside of a run, it is a plain folder.
    """

    access: ClassVar[Access | None] = None

    def __init__(self, source: str = "", *, shared: bool = False, read_only: bool = False) -> None:
        """Give each instance a branch.

        Args:
            source: The path of a repository, or of a bundle of one, that runs begin from; empty for none. The run's
                option `repository` comes before it, the environment's REPOSITORY after it.
            shared: Whether all work on `main`, in one folder, one call at a time.
            read_only: Whether each call finds `main`, and nothing that it leaves is kept: what tests write as they run
                is never in the way of one who has no tools to resolve it.
        """
        if shared and read_only:
            raise DeclarationError(
                "Repository(shared=True, read_only=True): choose one; who only reads shares nothing."
            )
        self.source = source
        self.shared = shared
        self.read_only = read_only

    @overload
    def __get__(self, agent: None, owner: type) -> Self: ...
    @overload
    def __get__(self, agent: object, owner: type) -> Workspace: ...
    def __get__(self, agent: object | None, owner: type) -> Self | Workspace:
        if agent is None:
            return self
        mine: Workspace | None = vars(agent).get("workspace")
        if mine is not None:
            return mine
        if (desk := current_desk()) is not None:
            return desk.workspace
        call = current_call()
        if call is not None:
            return Workspace.of_run(workspaces_folder(), call.workflow_id, call.run_id)
        return Workspace(workspaces_folder() / str(vars(agent).get("name", owner.__name__.lower())))

    def __set__(self, agent: object, workspace: Workspace) -> None:
        vars(agent)["workspace"] = workspace

    @property
    def kind(self) -> Access:
        """What calls do with the repository."""
        return self.access or ("shared" if self.shared else "read" if self.read_only else "own")

    def desk(self, run: tuple[str, str], call: Call, told: Standing) -> Desk:
        """Return where a call works.

        Args:
            run: The workflow id, and the first run of its chain.
            call: The call.
            told: What it was told of the repository.
        """
        site = Site.of_run(workspaces_folder(), *run)
        source = told.source or self.source or os.environ.get(SOURCE, "")
        kind = _DESKS.get(told.access, Desk)
        branch = MAIN if told.access == "shared" else branch_of(call.instance)
        return kind(site, branch, call, told.stand, source)


_DESKS: dict[Access, type[Desk]] = {"all": MergeDesk, "read": ReadingDesk}


class Trials(Repository):
    """The workspace of who merges: a folder in which what would be `main` is tried."""

    access: ClassVar[Access | None] = "all"


def repository_of(agent: type) -> Repository | None:
    """Return the repository that an agent class works on; None if it has a plain folder."""
    found: Any = inspect.getattr_static(agent, "workspace", None)
    return found if isinstance(found, Repository) else None


def access_of(agent: type) -> Access | None:
    """Return what calls of an agent class do with the repository; None if they have none."""
    repository = repository_of(agent)
    return repository.kind if repository else None
