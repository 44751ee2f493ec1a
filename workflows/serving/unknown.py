"""A run of a type that no choreography has: in words, and once in a worker's log instead of at each try.

It is not failed: while a new version is rolled out, other workers may have it.
"""

from __future__ import annotations

import difflib
import logging
from collections import OrderedDict

from activities.contract.names import NO_RUNS
from workflows.serving.sdk import filter_failed_tasks, unknown_type

_RUNS_REMEMBERED = 1_000


def unknown_choreography(failure: str) -> str:
    """Say what there is where a workflow task failed since its type is unknown; empty if it failed for another reason.

    Args:
        failure: What the failed workflow task says.
    """
    found = unknown_type(failure)
    if found is None:
        return ""
    asked, known = found
    offered = [name for name in known if name not in NO_RUNS]
    meant = difflib.get_close_matches(asked, offered, n=1)
    return (
        f"there is no choreography '{asked}' on the worker{f'; did you mean {meant[0]}?' if meant else '.'} "
        f"There are: {', '.join(offered) or 'none'}. Terminate it and start it anew, or serve its module"
    )


class _SaysItOnce(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._warned_of: OrderedDict[str, None] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        said = unknown_choreography(str(getattr(error, "message", "")))
        if not said:
            return True
        run = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        if run in self._warned_of:
            return False
        self._warned_of[run] = None
        while len(self._warned_of) > _RUNS_REMEMBERED:
            self._warned_of.popitem(last=False)
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args, record.exc_info = "run id %s: %s", (run, said), None
        return True


_SAYS_IT_ONCE = _SaysItOnce()


def say_unknown_types_once() -> None:
    """Have this process's workers tell of a run of an unknown type once, in words."""
    filter_failed_tasks(_SAYS_IT_ONCE)
