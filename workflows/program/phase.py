"""`with phase("review"):` names what goes on in a choreography, for whoever watches the run."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from workflows.engine.run import current_board
from workflows.errors import ChoreographyInvalid
from workflows.shown.board import Board

_path: ContextVar[tuple[str, ...]] = ContextVar("phases", default=())


class Phase:
    """A named part of a choreography. What is begun inside of it belongs to it, nested phases too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entered: list[tuple[Board, tuple[str, ...], Token[tuple[str, ...]]]] = []

    def __enter__(self) -> Self:
        path = (*_path.get(), self.name)
        board = current_board()
        self._entered.append((board, path, _path.set(path)))
        board.phase_begins(path)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        board, path, token = self._entered.pop()
        board.phase_ends(path)
        # A run that a worker has let go of may be closed by the garbage collector, in somebody else's context.
        with suppress(ValueError):
            _path.reset(token)


def phase(name: str) -> Phase:
    """Name what goes on inside a `with` block: in `progress`, in the UI, in `python -m console watch`.

    `with phase("review"): reviews = await scatter(…)`

    Phases may be nested, and may be entered by several items of a scatter at the same time. Outside of a run, as in a
    unit test, it does nothing.

    Args:
        name: In a word or two.

    Raises:
        ChoreographyInvalid: It is no name.
    """
    if not isinstance(name, str) or not name.strip():
        raise ChoreographyInvalid(f"phase({name!r}) names nothing; give it a word or two.")
    return Phase(" ".join(name.split())[:_NAME_LENGTH])


_NAME_LENGTH = 60
