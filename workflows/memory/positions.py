"""Where the instances of a run stand: how far each one's conversation reaches, as their calls have told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from activities.contract.envelope import Position


class Positions:
    """Where instances stand, by the workflow ids of their conversations."""

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

    def all(self) -> dict[str, Position]:
        """Return where all of them stand."""
        return dict(self._known)
