"""A call that only reads what was merged: what it leaves in its folder is nobody's work."""

from __future__ import annotations

from activities.contract.branches import MAIN
from activities.workspace.desk import Desk
from activities.workspace.tree import write_tree


class ReadingDesk(Desk):
    """Where a call reads: what it runs may write files, which the next call does not find."""

    def begin(self) -> None:
        """Have the folder hold `main`, as the run knows it."""
        git = self.site.make(self.call, self.source)
        with self.site.locked(self.branch):
            write_tree(self.workspace.root, git.tree(self.site.stands(MAIN, self.stand.get(MAIN, ""))), git)

    def unfinished(self) -> str:
        """Return nothing."""
        return ""

    def end(self) -> dict[str, str]:
        """Return that no branch has moved."""
        return {}
