"""A run's repository as people look at it: who changed what, for which step. It is read within bounds, never written.

What was committed may be anything: it is given as text, and no more of it than a person reads.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from activities.workspace.git import Git
from activities.workspace.site import START

COMMITS_SHOWN = 25
"""Commits that are looked at in one go."""

FILES_SHOWN = 100
"""Files of a commit that are told of."""

_SECONDS = 5.0
_MOST_COUNTED = 2_000_000  # bytes of names and numbers
_MOST_OF_MANY = 1_000_000  # bytes of differences
_MOST_OF_ONE = 4_000_000

_TRAILERS = ("Run", "Step", "Method", "Item")
_FIELDS = (
    *("%H", "%P", "%at", "%an", "%s"),
    *(f"%(trailers:key={name},valueonly=true,unfold=true,separator=%x20)" for name in _TRAILERS),
)
_AS_IT_IS = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-show-signature", "--submodule=short")


@dataclass(frozen=True)
class FileChange:
    """What a commit did to a file.

    Attributes:
        path: As git writes it.
        added: Lines; None where it has none, or they were not counted.
        removed: The same.
        diff: The difference as git writes it; None where that was too much to be read.
    """

    path: str
    added: int | None = None
    removed: int | None = None
    diff: str | None = None


@dataclass(frozen=True)
class Commit:
    """What one call has committed, or what was merged.

    Attributes:
        oid: Its name.
        at: When the call was made.
        by: The instance.
        subject: What was done.
        run: The run of the call; another one before a fork.
        step: Its place in the program.
        method: What was done.
        item: On what.
        merges: Whether it brings branches together: then only what is in none of them is its own.
        files: What it changed, the first of them.
        left_out: How many files are not among them; None where that is not known.
    """

    oid: str
    at: datetime
    by: str
    subject: str
    run: str
    step: str
    method: str
    item: str
    merges: bool
    files: Sequence[FileChange]
    left_out: int | None = 0


def commits_of(git: Git, skip: int = 0) -> tuple[list[Commit], bool]:
    """Return what was committed since a repository began, the newest first, and whether there is more before that.

    Args:
        git: The repository.
        skip: How many of the newest ones to leave out.
    """
    which = ("--date-order", f"--skip={skip}", f"--max-count={COMMITS_SHOWN + 1}", "--branches", "--not", START)
    found = _read(git, *which, most=_MOST_OF_MANY)
    return found[:COMMITS_SHOWN], len(found) > COMMITS_SHOWN


def commit_of(git: Git, oid: str) -> Commit | None:
    """Return one commit; None if there is none of that name."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", oid) or not git.commit_of(oid):
        return None
    found = _read(git, "--max-count=1", oid, most=_MOST_OF_ONE)
    return found[0] if found else None


def _read(git: Git, *which: str, most: int) -> list[Commit]:
    """Ask for numbers, and then for differences: of the latter there may be more than can be read."""
    marker = secrets.token_hex(16)  # which nothing that was committed can hold
    log = ("log", f"--format={marker}%n{'%n'.join(_FIELDS)}", *_AS_IT_IS)
    counted = git.beginning(*log, "--numstat", *which, most=_MOST_COUNTED, seconds=_SECONDS)
    compared = git.beginning(*log, "--patch", "--cc", *which, most=most, seconds=_SECONDS)
    differences = dict(_parts(compared.said, marker))
    parts = list(_parts(counted.said, marker))
    complete = [counted.is_all or number < len(parts) for number in range(1, len(parts) + 1)]
    last = "" if compared.is_all else next(reversed(differences), "")
    return [
        _commit(head, numbers, differences.get(head), is_whole=whole, is_compared=head != last)
        for (head, numbers), whole in zip(parts, complete, strict=True)
    ]


def _parts(said: bytes, marker: str) -> Iterator[tuple[str, str]]:
    """Yield what is said of each commit: the lines of its fields, and what follows."""
    for part in said.decode(errors="replace").split(f"{marker}\n")[1:]:
        lines = part.split("\n", len(_FIELDS))
        if len(lines) > len(_FIELDS):
            yield "\n".join(lines[: len(_FIELDS)]), lines[-1].strip("\n")


def _commit(head: str, numbers: str, differences: str | None, *, is_whole: bool, is_compared: bool) -> Commit:
    oid, parents, at, by, subject, run, step, method, item = head.split("\n")
    merges = " " in parents
    diffs = _by_file(differences or "")
    if diffs and not is_compared:
        diffs.pop()  # it may go on
    lines = [line for line in numbers.split("\n") if line.count("\t") >= 2]
    if not is_whole and lines:
        lines.pop()
    files = _merged_files(diffs) if merges else [_counted(line, diffs, number) for number, line in enumerate(lines)]
    left_out = max(0, len(files) - FILES_SHOWN) if is_whole and (is_compared or not merges) else None
    when = datetime.fromtimestamp(int(at), UTC) if at.isdecimal() and len(at) < 12 else datetime.fromtimestamp(0, UTC)
    return Commit(oid, when, by, subject, run, step, method, item, merges, files[:FILES_SHOWN], left_out)


def _by_file(differences: str) -> list[str]:
    """Divide differences into those of files; no line of a file's content begins as the first one of each does."""
    return [part for part in re.split(r"^(?=diff --)", differences, flags=re.MULTILINE) if part.startswith("diff --")]


def _counted(line: str, diffs: Sequence[str], number: int) -> FileChange:
    """Return a file as it was counted, with the difference at the same place: git lists both in one order."""
    added, removed, path = line.split("\t", 2)
    diff = diffs[number] if number < len(diffs) else None
    return FileChange(path, _number(added), _number(removed), diff)


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else None


def _merged_files(diffs: Sequence[str]) -> list[FileChange]:
    """Return the files of a merge that are as on none of its sides."""
    return [FileChange(diff.partition("\n")[0].removeprefix("diff --cc "), diff=diff) for diff in diffs]
