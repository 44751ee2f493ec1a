"""`with phase("review"):` names what goes on in a choreography, for whoever watches the run."""

from __future__ import annotations

from typing import Self

from workflows.errors import ChoreographyInvalid
from workflows.tree.current import current_scope, enter_phase, leave_phase
from workflows.tree.scope import PhaseScope


class Phase:
    """A named part of a choreography. What is begun inside of it belongs to it, nested phases too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._entered: list[PhaseScope] = []

    def __enter__(self) -> Self:
        self._entered.append(enter_phase(self.name))
        return self

    def __exit__(self, *_: object) -> None:
        # Several items of a scatter may have entered the same phase.
        here = current_scope()
        phase = next((entered for entered in self._entered if entered is here), self._entered[-1])
        self._entered.remove(phase)
        leave_phase(phase)


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
