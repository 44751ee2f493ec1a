"""Payloads in the files of a folder that all processes share: `ab/abcdef…`, named by their digests.

A file is there whole or not at all. Its time of change says when it was used last, to the hour. It may be deleted when
that is long ago, by whichever processes, while others read and write.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from activities.contract.limits import STORED_LIMIT
from activities.errors import PayloadLost, StoreMissing

_TOUCHED_S = 3600.0
"""Seconds in which a file's use is noted once."""

_UNFINISHED_S = 86_400.0
"""Seconds after which a file that a process has begun and not finished is taken for left behind."""

_UNFINISHED = ".unfinished"
_GOING = ".going"
_AGAIN_S = 0.05


class Files:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return self.root.as_uri()

    def where(self, digest: str) -> str:
        """Name the file."""
        return str(self._path(digest))

    def put(self, digest: str, data: bytes) -> None:
        """Write a file, if it is not there.

        Raises:
            StoreMissing: The folder can't be written to.
        """
        path = self._path(digest)
        try:
            if not self._is_used(path, len(data)):
                _write(path, data)
        except OSError as error:
            raise StoreMissing(
                f"The store {self.root} can't be written to: {error.strerror}. Mend that, or set PAYLOAD_STORE to a "
                "folder that all processes reach; what waits for it goes on then."
            ) from error

    def get(self, digest: str) -> bytes:
        """Read a file.

        Raises:
            PayloadLost: It is not there.
            StoreMissing: It can't be read.
        """
        path = self._path(digest)
        try:
            try:
                return self._read(path)
            except FileNotFoundError:
                time.sleep(_AGAIN_S)  # it was just looked at whether it may go
                return self._read(path)
        except FileNotFoundError:
            missing = "the file is missing" if self.root.is_dir() else "there is no such folder on this machine"
            raise PayloadLost(
                f"A stored payload is not at {path}: {missing}. Either this process's PAYLOAD_STORE is not the folder "
                "that the others have, or it was deleted: restore it from a backup."
            ) from None
        except OSError as error:
            raise StoreMissing(f"A stored payload can't be read from {path}: {error.strerror}.") from error

    def remove_unused(self, before: float) -> int:
        """Delete the files that were used last before a time; return how many.

        Args:
            before: As seconds since 1970.
        """
        removed = 0
        for folder in _entries(self.root):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                removed += sum(_remove_if_unused(Path(file.path), before) for file in _entries(Path(folder.path)))
        return removed

    def _path(self, digest: str) -> Path:
        return self.root / digest[:2] / digest

    def _is_used(self, path: Path, size: int) -> bool:
        """Note that a file is used; return whether it is there, and whole."""
        try:
            os.utime(path)
            return path.stat().st_size == size
        except FileNotFoundError:
            return False

    def _read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if time.time() - found.st_mtime > _TOUCHED_S:
                with suppress(OSError):  # it may be another user's, who lets us read
                    os.utime(path)
            return file.read(STORED_LIMIT + 1)


def _write(path: Path, data: bytes) -> None:
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    number, unfinished = tempfile.mkstemp(suffix=_UNFINISHED, prefix="", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _remove_if_unused(path: Path, before: float) -> bool:
    """Delete a file, unless it is used: also when that begins between the look and the deletion."""
    with suppress(FileNotFoundError):  # another process was here first
        used = path.stat(follow_symlinks=False).st_mtime
        if path.suffix == _UNFINISHED:
            if used < min(before, time.time() - _UNFINISHED_S):
                path.unlink()
            return False
        if path.suffix != _GOING:
            if used >= before:
                return False
            path = path.rename(path.with_suffix(_GOING))  # whoever wants to use it from here on writes it anew
            used = path.stat().st_mtime
        if used < before:
            path.unlink()
            return True
        os.utime(path)  # before it is back, as it takes the place of one that was just written anew
        path.rename(path.with_suffix(""))
    return False
