"""What an instance has said, as a tree: each call's entries stand after those that it knew when it was made.

A position is the name of a commit, and the path that leads to it is what the instance remembers there. Going on from an
earlier position begins a branch; nothing that was said is lost by it. Plain data, so that it can be tested as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from activities.memory.transcript import Entry, Transcript

BEGINNING = ""
"""The position of an instance that remembers nothing."""


@dataclass(frozen=True)
class Kept:
    """What one call has added.

    Attributes:
        id: The position that is reached by it.
        after: The position at which the call was made.
        call: The call, the same for all of its attempts.
        run: The run that made it: the first of its chain, which a reset does not change.
        first: The number of its first entry on its path.
        entries: What was said.
        state: The agent's state afterwards; None if it did not change.
        failed: Whether the call has failed: then no path leads on from here.
    """

    id: str
    after: str
    call: str = ""
    run: str = ""
    first: int = 0
    entries: tuple[Entry, ...] = ()
    state: Any = None
    failed: bool = False


class Branches:
    """The commits of a conversation.

    Attributes:
        head: The position that was reached last.
    """

    def __init__(self) -> None:
        self.head = BEGINNING
        self._kept: dict[str, Kept] = {}
        self._grounds: dict[str, tuple[Transcript, Any]] = {BEGINNING: (Transcript(), None)}

    def __len__(self) -> int:
        return len(self._kept)

    def knows(self, position: str) -> bool:
        """Whether the path to a position is known here."""
        return position in self._kept or position in self._grounds

    def stand_on(self, position: str, remembered: Transcript, state: Any) -> None:
        """Let commits follow a position that was reached elsewhere: in an earlier life of this, or before a fork.

        Args:
            position: Its name.
            remembered: What a model is still shown of the path to it.
            state: The agent's state there.
        """
        if not self.knows(position):
            self._grounds[position] = (remembered, state)
            self.head = position

    def add(self, kept: Kept) -> bool:
        """Add what a call has said; return whether it was new. What it stands on may become known later."""
        if self.knows(kept.id):
            return False
        self._kept[kept.id] = kept
        if not kept.failed:
            self.head = kept.id
        return True

    def path(self, position: str) -> list[Kept]:
        """Return the commits that lead to a position, the first one first."""
        found = []
        while (kept := self._kept.get(position)) is not None:
            found.append(kept)
            position = kept.after
        return found[::-1]

    def remembered(self, position: str) -> Transcript:
        """Return what was said on the path to a position, as far as a model is still shown it."""
        path = self.path(position)
        ground, _ = self._ground_of(path, position)
        transcript = Transcript(ground.numbered, ground.next)
        for kept in path:
            transcript.add(kept.entries)
        return transcript.live()

    def state(self, position: str) -> Any:
        """Return the agent's state at a position."""
        path = self.path(position)
        _, ground = self._ground_of(path, position)
        return next((kept.state for kept in reversed(path) if kept.state is not None), ground)

    def missing(self, position: str) -> str:
        """Return the position up to which the path to another one is not known here; empty if all of it is."""
        path = self.path(position)
        root = path[0].after if path else position
        return "" if root in self._grounds else root

    def _ground_of(self, path: list[Kept], position: str) -> tuple[Transcript, Any]:
        nothing = Transcript((), path[0].first if path else 0), None
        return self._grounds.get(path[0].after if path else position, nothing)

    def newest(self, position: str, run: str) -> str:
        """Return where an instance goes on that several runs talk to, by the last position that a run knows of it.

        That is the head, unless the run itself has said something since that it knows nothing of: it was reset, and
        goes on from before that.
        """
        path = self.path(self.head)
        if self.knows(position) and position != BEGINNING:
            reached = [path[0].after if path else self.head, *(kept.id for kept in path)]
            if position not in reached:
                return position
            path = path[reached.index(position) :]
        undone = next((kept for kept in path if kept.run == run), None)
        return undone.after if undone else self.head

    def made_by(self, call: str, after: str) -> Kept | None:
        """Return what an earlier attempt of a call has added at a position, if it came so far."""
        made = [k for k in self._kept.values() if k.call == call and k.after == after and not k.failed]
        return made[-1] if made else None


def numbered(entries: Iterable[Entry], first: int) -> Transcript:
    """Return entries with their numbers on their path."""
    transcript = Transcript((), first)
    transcript.add(entries)
    return transcript
