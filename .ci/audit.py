"""Check what is installed: that the lock files pin it by hashes, its licences, and known vulnerabilities.

python .ci/audit.py hashes LOCK...
python .ci/audit.py licences
python .ci/audit.py advisories FOLDER LOCK...

FOLDER is a checkout of PyPA's advisory database, or any other in OSV's format.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}
"""Licences, by SPDX's names, that let anybody use what is under them for anything."""

_SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""SPDX's names of what packages without one say."""

_NAME = re.compile(r"""\bname['"]?:\s*['"]?([\w.-]+)""")
_MODIFIED = re.compile(r"""\bmodified['"]?:\s*['"]?(\d{4}-\d\d-\d\d)""")


def hashes(locks: Sequence[Path]) -> list[str]:
    """Return what is wrong with lock files: requirements without a version, or without hashes."""
    faults = []
    for lock in locks:
        for entry in _entries(lock):
            if not re.match(r"[\w.-]+==[^\s;]+", entry):
                faults.append(f"{lock.name}: '{entry.split()[0]}' is not pinned to a version. Run 'make lock'.")
            elif "--hash=sha256:" not in entry:
                faults.append(f"{lock.name}: '{entry.split()[0]}' has no hash. Run 'make lock'.")
    return faults


def licences() -> list[str]:
    """Return which installed packages are under licences that don't let everybody use them."""
    faults = []
    for package in importlib.metadata.distributions():
        licence = _licence_of(package.metadata)
        if not _is_allowed(licence):
            faults.append(
                f"{package.name} {package.version} is under '{licence or 'no licence'}', which is not among those that "
                "are known to allow all use. Read it; then add it to ALLOWED in .ci/audit.py, or drop the package."
            )
    return sorted(faults)


def advisories(folder: Path, locks: Sequence[Path]) -> list[str]:
    """Return which locked versions are known to be vulnerable, by advisories in OSV's format."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml", ".json"))
    if not files:
        return [f"There are no advisories in {folder}: name a checkout of PyPA's advisory database."]
    locked = {canonicalize_name(name): version for lock in locks for name, version in _versions(lock)}
    faults, newest = set(), ""
    for path in files:
        text = path.read_text(errors="replace")
        newest = max(newest, *_MODIFIED.findall(text), "")
        if locked.keys().isdisjoint(canonicalize_name(name) for name in _NAME.findall(text)):
            continue  # most are of other packages, and parsing takes long
        found: dict[str, Any] = yaml.safe_load(text)
        for affected in found.get("affected", ()) if not found.get("withdrawn") else ():
            name = canonicalize_name(affected["package"]["name"])
            if name in locked and _affects(affected, locked[name]):
                summary = found.get("summary") or str(found.get("details", "")).partition("\n")[0]
                faults.add(f"{name} {locked[name]}: {found['id']}: {summary[:200]}")
    print(f"{len(files):,} advisories were looked at, the newest of {newest or 'an unknown day'}.")
    return sorted(faults)


def _entries(lock: Path) -> Iterator[str]:
    text = re.sub(r"(?m)^\s*#.*\n?", "", lock.read_text())
    yield from (entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip())


def _versions(lock: Path) -> Iterator[tuple[str, Version]]:
    for entry in _entries(lock):
        pinned = Requirement(entry.partition("--hash")[0])
        yield pinned.name, Version(next(iter(pinned.specifier)).version)


def _licence_of(metadata: Any) -> str:
    if expression := metadata.get("License-Expression"):
        return str(expression)
    said = [name.rpartition(" :: ")[2] for name in metadata.get_all("Classifier", []) if name.startswith("License ::")]
    known = [_SPDX[name] for name in said if name in _SPDX]
    first_line = str(metadata.get("License") or "").strip().partition("\n")[0]
    return " AND ".join(known) or _SPDX.get(first_line, first_line)


def _is_allowed(licence: str) -> bool:
    """Whether an SPDX expression allows all use: each of its alternatives' parts, for one alternative at least."""
    alternatives = re.split(r"\s+OR\s+", licence.replace("(", " ").replace(")", " ").strip())
    return any(
        all(part.strip() in ALLOWED for part in re.split(r"\s+AND\s+", alternative)) for alternative in alternatives
    )


def _affects(affected: dict[str, Any], version: Version) -> bool:
    if any(_is(version, listed) for listed in affected.get("versions", ())):
        return True
    return any(_is_in(version, found["events"]) for found in affected.get("ranges", ()) if found["type"] == "ECOSYSTEM")


def _is_in(version: Version, events: Sequence[dict[str, str]]) -> bool:
    inside = False
    for event in events:
        if "introduced" in event:
            inside = inside or event["introduced"] == "0" or version >= Version(event["introduced"])
        elif "fixed" in event:
            inside = inside and version < Version(event["fixed"])
        elif "last_affected" in event:
            inside = inside and version <= Version(event["last_affected"])
    return inside


def _is(version: Version, listed: str) -> bool:
    try:
        return version == Version(listed)
    except InvalidVersion:
        return False


def main(words: Sequence[str]) -> int:
    """Check one thing, print what is wrong, and return the exit code."""
    checks: dict[str, Callable[[list[Path]], list[str]]] = {
        "hashes": hashes,
        "licences": lambda _: licences(),
        "advisories": lambda paths: advisories(paths[0], paths[1:]),
    }
    if not words or words[0] not in checks or (words[0] == "advisories" and len(words) < 3):
        print(__doc__, file=sys.stderr)
        return 2
    faults = checks[words[0]]([Path(word) for word in words[1:]])
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{words[0]}: {len(faults) or 'no'} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
