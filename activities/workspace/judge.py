"""The program that runs pytest where the tests run, and reports what each of them came to.

It is handed to Python as text, with a key on its standard input and the report's descriptor. The report leaves the
process line by line, signed: what was reported can't be taken back, and what others write is known for what it is.
The tests run in this process, so it also looks whether it still sees what happens: a test of its own, which must fail,
has to fail in the same way as theirs would.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import unittest
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest import runner
from _pytest.fixtures import FuncFixtureInfo

_COLLECTS = ("python_files", "python_classes", "python_functions", "norecursedirs", "testpaths")
_NO_FAILURE = (pytest.skip.Exception, pytest.xfail.Exception, unittest.SkipTest)
_run_protocol = runner.runtestprotocol


class Report:
    """Writes signed lines, each of which vouches for those before it."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor, self._process = descriptor, os.getpid()
        self._signature = hmac.new(key, digestmod=hashlib.sha256)

    def write(self, **event: Any) -> None:
        """Report an event; a process that was forked off has nothing to report."""
        if os.getpid() != self._process:
            return
        line = json.dumps(event).encode()
        self._signature.update(line)
        rest = self._signature.hexdigest().encode() + b" " + line + b"\n"
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class Judge:
    """The plugin that sees what tests come to."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._raised: dict[tuple[str, str], bool] = {}
        """Whether a test raised what makes it fail, by test and phase: what it did, whatever is reported of it."""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Tell what would be collected."""
        self._report.write(event="begun", collects={name: session.config.getini(name) for name in _COLLECTS})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of what could not be collected, or was skipped as a whole."""
        if not report.passed:
            self._report.write(event="ended", test=report.nodeid, outcome=report.outcome)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Tell of tests that are left out."""
        for item in items:
            self._report.write(event="ended", test=item.nodeid, outcome="deselected")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell which test begins."""
        self._report.write(event="runs", test=nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """See what a test did, before anybody makes something else of it."""
        error = call.excinfo
        self._raised[item.nodeid, call.when] = error is not None and not isinstance(error.value, _NO_FAILURE)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell what a test came to."""
        xfail = hasattr(report, "wasxfail")
        raised = self._raised.get((report.nodeid, report.when))
        if report.outcome != "failed" and raised is not False and not (raised and xfail):
            why = "failed, and was reported as if it had not" if raised else "was reported without having run"
            self._report.write(event="forged", why=f"{report.nodeid} {why}")
        if report.when == "call" or not report.passed:
            outcome = f"{report.outcome} (xfail)" if xfail else report.outcome
            self._report.write(event="ended", test=report.nodeid, outcome=outcome)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """See at the end whether a failure would be seen, in each folder: each may have hooks of its own."""
        result = yield
        last_of_folder = {item.path.parent: item for item in session.items}
        if runner.runtestprotocol is not _run_protocol or not all(map(self._sees_failure, last_of_folder.values())):
            self._report.write(event="forged", why="a test that must fail was not reported as failed")
        return result

    def _sees_failure(self, beside: pytest.Item) -> bool:
        """Run a test that fails beside another, unseen by who tells of tests."""
        fixtures = FuncFixtureInfo(argnames=(), initialnames=(), names_closure=[], name2fixturedefs={})
        fails = pytest.Function.from_parent(
            beside.session, name=f"test_{os.urandom(4).hex()}", callobj=_fails, fixtureinfo=fixtures
        )
        fails.path = beside.path
        return any(report.failed for report in _run_protocol(fails, log=False))


def _fails() -> None:
    raise AssertionError("this test fails, so that it is seen whether failures are seen")


def main(arguments: Sequence[str], descriptor: int) -> int:
    """Run pytest with a judge."""
    report = Report(descriptor, os.read(0, 100))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # Only now, so that none of the workspace's modules stands in for one of those above.
    sys.path.insert(0, str(Path.cwd()))
    sys.dont_write_bytecode = True
    code = pytest.main(list(arguments), plugins=[Judge(report)])
    report.write(event="over", code=int(code))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], int(sys.argv[1])))
