"""Branches of a run's repository: what they are called, and what a call is told of them.

The run knows from its own history where each branch stands, as it does of the instances' memory.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel

from activities.contract.text import digest_of

MAIN = "main"
"""The branch that holds what was merged."""

Access = Literal["own", "shared", "read", "all"]
"""What a call does with the repository: it works on its instance's branch or on `main` as all do, reads `main` only, or
merges branches."""

_LONGEST = 60


def branch_of(instance: str) -> str:
    """Return the branch of an instance: its name, as far as that can be one.

    >>> branch_of("coder-1"), branch_of("main"), branch_of("-a/b")
    ('coder-1', 'main-026e63', 'a-b-553a63')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", instance)[:_LONGEST].strip("-")
    return plain if plain == instance and plain not in ("", MAIN) else f"{plain}-{digest_of(instance)[:6]}".lstrip("-")


def branch_key(branch: str) -> str:
    """Return by what a run knows where a branch stands, among its positions; no conversation is called so."""
    return f"branch:{branch}"


def branch_in(key: str) -> str | None:
    """Return the branch that a key names; None if it names none."""
    return key.removeprefix("branch:") if key.startswith("branch:") else None


class Standing(BaseModel):
    """What a call is told of its run's repository."""

    access: Access
    item: str = ""
    """What the call is about, for people."""
    source: str = ""
    """The repository that this one begins from, where the run's options name one."""
    stand: dict[str, str] = {}
    """Where branches stand as far as the run knows, by commits; one that is not named stands where all began."""
