"""Where the instances of a run stand, as their calls have told: how far conversations reach, and branches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from activities.contract.branches import MAIN, Access, branch_in, branch_key, branch_of
from activities.contract.envelope import Position


class Positions:
    """Where instances stand, by the workflow ids of their conversations and the keys of their branches."""

    def __init__(self, known: Mapping[str, Position] | None = None) -> None:
        self._known = dict(known or {})

    def of(self, conversation: str | None) -> Position:
        """Return where an instance stands; at the beginning if it has said nothing."""
        return self._known.get(conversation or "", Position())

    def among(self, conversations: Iterable[str | None]) -> dict[str, Position]:
        """Return where those of some instances stand that have said something."""
        return {name: known for name in conversations if name and (known := self._known.get(name))}

    def move(self, conversation: str, position: Position) -> None:
        """Note that an instance's conversation has gone on."""
        self._known[conversation] = position

    def move_all(self, positions: Mapping[str, Position]) -> None:
        """Note the same of several."""
        self._known.update(positions)

    def branches(self, access: Access, instance: str) -> dict[str, str]:
        """Return where the branches stand that a call of an instance has to know of, by commits."""
        keys = self._known if access == "all" else self.among(map(branch_key, (branch_of(instance), MAIN)))
        return {branch: self._known[key].commit for key in keys if (branch := branch_in(key)) is not None}

    def move_branches(self, commits: Mapping[str, str]) -> None:
        """Note that branches have gone on."""
        self.move_all({branch_key(branch): Position(commit=commit) for branch, commit in commits.items()})

    def all(self) -> dict[str, Position]:
        """Return where all of them stand."""
        return dict(self._known)
