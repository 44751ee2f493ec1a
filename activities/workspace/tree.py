"""A folder as git would keep it: read to a tree, and made to be one.

Git itself never looks at such a folder, since models write in it. Links are kept, and not followed; `.git` is no part
of a tree, whatever it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from activities.workspace.git import REPOSITORY, Entry, Git
from activities.workspace.workspace import CACHES, PARTIAL

LARGEST_FILE = 20_000_000
"""Bytes of one file that are kept."""

LARGEST_CHANGE = 200_000_000
"""Bytes that one commit may add."""

MOST_FILES = 100_000

_DEEPEST = 100  # folders inside of each other
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINK = "120000"


@dataclass(frozen=True)
class Found:
    """What is in a folder.

    Attributes:
        files: By their paths.
        unfit: What can't be kept, each with what to do about it; the rest is known nevertheless.
    """

    files: dict[str, Entry] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)


def read_tree(root: Path) -> Found:
    """Return the files of a folder, and links, without caches; nothing if there is no such folder."""
    found = Found()
    folders = [""]
    if not os.path.lexists(root):
        return found
    while folders:
        path = folders.pop()
        try:
            with _opened(root, path) as folder, os.scandir(folder) as entries:
                for entry in entries:
                    if not _is_left_out(entry.name):
                        inner = f"{path}/{entry.name}" if path else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(inner)
                        else:
                            _take(inner, entry.name, folder, found)
        except OSError as error:
            found.unfit.append(f"{path or '.'} can't be read ({error.strerror}): delete it or change its permissions.")
        if path.count("/") >= _DEEPEST:
            found.unfit.append(f"{path[:80]}… is more than {_DEEPEST} folders deep: delete it.")
            return found
        if len(found.files) > MOST_FILES:
            found.unfit.append(f"There are more than {MOST_FILES:,} files: delete what is not part of the work.")
            return found
    return found


def changes_to(
    root: Path, files: Mapping[str, Entry], before: Mapping[str, Entry]
) -> dict[str, tuple[str, bytes] | None]:
    """Return what is different in a folder from a tree: by path mode and content, None for what is gone.

    Args:
        root: The folder.
        files: What is in it.
        before: The tree. Repositories inside of it stay as they are: nothing is known of them.
    """
    gone = [path for path, entry in before.items() if path not in files and entry.mode != REPOSITORY]
    new = [path for path, entry in files.items() if before.get(path) != entry]
    return dict.fromkeys(gone) | {path: (files[path].mode, _content(root, path, files[path])) for path in new}


def is_as(files: Mapping[str, Entry], tree: Mapping[str, Entry]) -> bool:
    """Whether files are those of a tree."""
    return dict(files) == {path: entry for path, entry in tree.items() if entry.mode != REPOSITORY}


def write_tree(root: Path, tree: Mapping[str, Entry], git: Git) -> None:
    """Make a folder hold a tree, and beside it only what is never kept; what is as it should be is not touched.

    Killed in between and done again, it comes to the same.
    """
    try:
        _write_over(root, tree, git)
    except OSError:  # something is in the way that is no file: a cache, a deep folder, one without permissions
        if os.path.lexists(root):
            put_away(root, root.parent / ".old")
        _write_over(root, tree, git)
        shutil.rmtree(root.parent / ".old", ignore_errors=True)


def put_away(root: Path, under: Path) -> Path:
    """Move a folder as it is under another one, by the next number that is free; return where it is."""
    under.mkdir(parents=True, exist_ok=True)
    number = 1
    while os.path.lexists(place := under / f"{root.name}-{number}"):
        number += 1
    root.rename(place)
    return place


def _write_over(root: Path, tree: Mapping[str, Entry], git: Git) -> None:
    found = read_tree(root)
    if found.unfit:
        raise OSError(found.unfit[0])
    wanted = {path: entry for path, entry in tree.items() if entry.mode != REPOSITORY and _may_be_written(path)}
    root.mkdir(parents=True, exist_ok=True)
    for path in found.files:
        if path not in wanted:
            *folders, name = path.split("/")
            with _opened(root, "/".join(folders)) as folder:
                os.unlink(name, dir_fd=folder)
            _remove_empty(root, folders)
    new = [path for path, entry in wanted.items() if found.files.get(path) != entry]
    for path, content in zip(new, git.contents(wanted[path].oid for path in new), strict=True):
        _put(root, path, wanted[path].mode, content)


def _remove_empty(root: Path, folders: Sequence[str]) -> None:
    for depth in range(len(folders), 0, -1):
        with _opened(root, "/".join(folders[: depth - 1])) as folder:
            try:
                os.rmdir(folders[depth - 1], dir_fd=folder)
            except OSError:
                return


def _put(root: Path, path: str, mode: str, content: bytes) -> None:
    *folders, name = path.split("/")
    partial = f"{PARTIAL}{os.urandom(8).hex()}"
    with _opened(root, "/".join(folders), make=True) as folder:
        if mode == _LINK:
            os.symlink(content, partial, dir_fd=folder)
        else:
            permissions = 0o777 if mode == "100755" else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, permissions, dir_fd=folder), "wb") as file:
                file.write(content)
        try:
            os.replace(partial, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(partial, dir_fd=folder)
            raise


def _take(path: str, name: str, folder: int, found: Found) -> None:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISLNK(about.st_mode):
        target = os.fsencode(os.readlink(name, dir_fd=folder))
        found.files[path] = Entry(_LINK, _oid(target))
    elif stat.S_ISREG(about.st_mode):
        if about.st_size > LARGEST_FILE:
            mend = "delete it, or keep it somewhere else"
            found.unfit.append(f"{path} has {about.st_size:,} bytes, and {LARGEST_FILE:,} is the most: {mend}.")
            return
        with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
            content = file.read()
        mode = "100755" if about.st_mode & stat.S_IXUSR else "100644"
        found.files[path] = Entry(mode, _oid(content))


def _content(root: Path, path: str, entry: Entry) -> bytes:
    *folders, name = path.split("/")
    with _opened(root, "/".join(folders)) as folder:
        if entry.mode == _LINK:
            return os.fsencode(os.readlink(name, dir_fd=folder))
        with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
            return file.read()


def _oid(content: bytes) -> str:
    """Return the name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _is_left_out(name: str) -> bool:
    return name in CACHES or name.startswith(PARTIAL) or not _may_be_written(name)


def _may_be_written(path: str) -> bool:
    """Whether no part of a path is one that git takes for its own, on whatever system somebody clones it."""
    return not any(_plain(part) in (".git", "git~1", ".", "..", "") for part in path.split("/"))


def _plain(part: str) -> str:
    """Return a name as the least careful of file systems would read it."""
    kept = "".join(char for char in part if char not in _IGNORED_BY_HFS)
    return kept.partition(":")[0].rstrip(". ").lower() or part


_IGNORED_BY_HFS = frozenset(
    "\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u206a\u206b\u206c\u206d\u206e\u206f\ufeff"
)


@contextlib.contextmanager
def _opened(root: Path, path: str, *, make: bool = False) -> Iterator[int]:
    """Open a folder from the root down, one part at a time, so that no link is followed."""
    folder = os.open(root, _FOLDER)
    try:
        for part in path.split("/") if path else ():
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)
