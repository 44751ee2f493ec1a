"""The author's line: where in the program something was written, for errors that are found elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from activities.errors import is_installed

_HARNESS = tuple(str(Path(__file__).parents[1].with_name(wing)) + "/" for wing in ("workflows", "activities"))
_PROGRAMS = ("build_project.py",)
"""Choreographies that the project brings along, beside the files of the harness itself."""


class Line(NamedTuple):
    """A line of a program: `my_team.py:34 in publish`."""

    file: str
    number: int
    function: str

    @classmethod
    def here(cls) -> Line:
        """Return the innermost line of the program that is executing."""
        frame: Any = sys._getframe(1)
        while _is_no_program(frame.f_code.co_filename) and frame.f_back is not None:
            frame = frame.f_back
        return cls(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Line | None:
        """Return where a function was written; None if that is not to be known."""
        code = getattr(function, "__code__", None)
        return None if code is None else cls(code.co_filename, code.co_firstlineno, code.co_name)

    def __str__(self) -> str:
        inside = "" if self.function.startswith("<") else f" in {self.function}"
        return f"{Path(self.file).name}:{self.number}{inside}"


def _is_no_program(file: str) -> bool:
    known = _known.get(file)
    if known is None:
        known = (
            file.startswith("<") or is_installed(file) or (file.startswith(_HARNESS) and not file.endswith(_PROGRAMS))
        )
        _known[file] = known
    return known


_known: dict[str, bool] = {}
"""What was found out of each file; it depends on nothing else."""
