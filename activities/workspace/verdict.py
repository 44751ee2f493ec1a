"""The verdict on a run of tests: from the report that left the process, and from the files as they were before.

The files are read here, and not by the process in which the tests run: what has not run is missed, whatever was done to
pytest so that it would not be.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_RAN = ("passed", "passed (xfail)", "skipped (xfail)")
_NAMED = 5  # tests that are named where many would be


@dataclass
class Told:
    """What a report says.

    Attributes:
        outcomes: Of each test; of files and folders that could not be collected, too.
        collects: The settings by which pytest collects.
        begun: The test that was begun last.
        code: pytest's exit code, if it came to its end.
        forged: Why the report is not to be trusted; empty if it is.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    collects: Mapping[str, Sequence[str]] = field(default_factory=dict)
    begun: str = ""
    code: int | None = None
    forged: str = ""

    @classmethod
    def read(cls, report: bytes, key: bytes) -> Told:
        """Read a report up to where it is not signed as it should be."""
        told = cls()
        signature = hmac.new(key, digestmod=hashlib.sha256)
        for line in report.split(b"\n")[:-1]:  # what has no end was cut off, with its process
            given, _, event = line.partition(b" ")
            signature.update(event)
            if not hmac.compare_digest(given, signature.hexdigest().encode()):
                told.forged = "something else than pytest wrote into the report"
                break
            told._take(json.loads(event))
        return told

    def _take(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "begun":
                self.collects = event["collects"]
            case "runs":
                self.begun = event["test"]
            case "ended":
                worse = self.outcomes.get(event["test"]) == "failed"
                self.outcomes[event["test"]] = "failed" if worse else event["outcome"]
            case "forged":
                self.forged = self.forged or event["why"]
            case "over":
                self.code = event["code"]

    @property
    def passed(self) -> bool:
        """Whether pytest came to its end, something ran, and nothing failed."""
        outcomes = set(self.outcomes.values())
        return self.code == 0 and not self.forged and "failed" not in outcomes and not outcomes.isdisjoint(_RAN)

    def remark(self) -> str:
        """Say what pytest's own output does not, or not to be trusted."""
        if self.forged:
            return f"This run proves nothing, whatever is printed above: {self.forged}. Let tests only test."
        if self.code == 5:
            return "No tests were collected: pytest looks for functions test_… in files test_….py."
        counts = Counter(self.outcomes.values())
        if self.code == 0 and not self.passed:
            return "No test ran: all were skipped, deselected or passed over, which is no success."
        left_out = [f"{counts[what]} {what}" for what in ("skipped", "deselected") if counts[what]]
        return f"Not all tests ran: {', '.join(left_out)}." if left_out and self.passed else ""

    def where(self) -> str:
        """Name the test that had not come to its end, for the end of a sentence."""
        return f" (in {self.begun})" if self.begun and self.begun not in self.outcomes else ""


def missed(told: Told, sources: Mapping[str, str], selected: Sequence[str]) -> list[str]:
    """Return the tests that are written in files, and of which nothing was reported.

    Args:
        told: What was reported.
        sources: The text of each Python file of the workspace, as it was before the run.
        selected: What was to run, such as `tests/test_a.py::test_one`; everything if empty.
    """
    settings = told.collects
    chosen = (
        [one.removeprefix("./").partition("[")[0] for one in selected] or list(settings.get("testpaths", ())) or ["."]
    )
    found = []
    for path, source in sorted(sources.items()):
        named = [one for one in chosen if one.partition("::")[0] == path]
        if named or (_is_collected(path, settings) and any(_is_in(path, one) for one in chosen)):
            wanted = named or [path]
            found += [test for test in _tests(path, source, settings) if any(_is_part(test, one) for one in wanted)]
    ended = {test.partition("[")[0] for test in told.outcomes}
    return [test for test in found if not any(_is_part(test, one) or _is_part(one, test) for one in ended)]


def missed_in_words(tests: Sequence[str]) -> str:
    """Say that tests have not run, and what to do."""
    more = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
    return (
        f"These look like tests and have not run, so this is no success: {', '.join(tests[:_NAMED])}{more}. Have "
        "them run, or give what is no test another name."
    )


def _is_collected(path: str, settings: Mapping[str, Sequence[str]]) -> bool:
    *folders, name = path.split("/")
    left_out = settings.get("norecursedirs", ())
    if any(fnmatch.fnmatch(folder, pattern) for folder in folders for pattern in left_out):
        return False
    return any(fnmatch.fnmatch(name, pattern) for pattern in settings.get("python_files", ()))


def _is_in(path: str, folder: str) -> bool:
    return folder in ("", ".") or path.startswith(folder.rstrip("/") + "/")


def _is_part(test: str, whole: str) -> bool:
    """Whether a test is another one, or belongs to a class, file or folder."""
    return test == whole or test.startswith((f"{whole}::", f"{whole}/"))


def _tests(path: str, source: str, settings: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Find the tests of a file that pytest would find, as far as they are plain to see."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # pytest will say so
        return
    functions, classes = settings.get("python_functions", ()), settings.get("python_classes", ())
    yield from (f"{path}::{name}" for name in _named(module.body, functions))
    for node in module.body:
        if isinstance(node, ast.ClassDef) and _fits(node.name, classes) and _is_plain(node):
            yield from (f"{path}::{node.name}::{name}" for name in _named(node.body, functions))


def _named(body: Iterable[ast.stmt], patterns: Sequence[str]) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not _fits(node.name, patterns):
            continue
        if not any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list):
            yield node.name


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(name.startswith(one) or ("*" in one and fnmatch.fnmatch(name, one)) for one in patterns)


def _is_plain(node: ast.ClassDef) -> bool:
    """Whether nothing in a class keeps pytest from collecting it."""
    names = {getattr(inner, "name", "") for inner in node.body}
    names |= {getattr(target, "id", "") for inner in node.body for target in getattr(inner, "targets", ())}
    return names.isdisjoint(("__init__", "__new__", "__test__"))
