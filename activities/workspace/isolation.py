"""Which way of running commands is in force in this process.

A sandbox, where this machine has one, or a plain process, where whoever started the worker has said that this may be.
"""

from __future__ import annotations

import functools
import os
import shutil

from activities.workspace.bubblewrap import Bubblewrap, Unusable
from activities.workspace.cgroup import is_bound
from activities.workspace.port import Isolation, NoSandbox
from activities.workspace.unsandboxed import Unsandboxed

ALLOWED = "ALLOW_UNSANDBOXED"
"""The environment's word for `--allow-unsandboxed`."""


def isolation(*, allow_unsandboxed: bool = False) -> Isolation:
    """Return the way in which commands are run here: the sandbox if there is one.

    Args:
        allow_unsandboxed: Whether they may run without, where there is none.

    Raises:
        NoSandbox: There is none, and it may not be without; says what to do.
    """
    found = _found(shutil.which("bwrap"))
    if not isinstance(found, str):
        return found
    if allow_unsandboxed or _allowed.process_wide or os.environ.get(ALLOWED, "0") not in ("", "0"):
        return Unsandboxed()
    raise NoSandbox(
        f"There is no sandbox here for code that a model wrote, so it is not run: {found}. Or allow it to run with the "
        f"rights of this process: --allow-unsandboxed for a worker, {ALLOWED}=1 in its environment, "
        "allow_unsandboxed=True for a Workspace or a ChoreographyPlugin."
    )


def allow_unsandboxed() -> None:
    """Allow commands to run without a sandbox in this process, where there is none."""
    _allowed.process_wide = True


def is_sandboxed() -> bool:
    """Whether there is a sandbox on this machine."""
    return not isinstance(_found(shutil.which("bwrap")), str)


def isolation_in_words(*, allow_unsandboxed: bool = False) -> str:
    """Say in one line which isolation is in force here."""
    try:
        chosen = isolation(allow_unsandboxed=allow_unsandboxed)
    except NoSandbox as error:
        return f"Sandbox: none. {error}"
    unbound = " As root, without control groups, processes are not bound but counted: run workers as a user."
    return f"Sandbox: {chosen.name}. {chosen.promise}{'' if is_bound() else unbound}"


class _Allowed:
    process_wide = False


_allowed = _Allowed()


@functools.cache
def _found(program: str | None) -> Isolation | str:
    """Return the sandbox of this machine, or what is in its way and how to mend that."""
    try:
        return Bubblewrap.tried(program)
    except Unusable as error:
        return str(error)
