"""What is believed of a run of tests, and what not."""

from __future__ import annotations

import pytest

from activities.workspace.workspace import Workspace

NOTHING = "This run proves nothing, whatever is printed above"
FAILS = "def test_good(): pass\ndef test_bad(): assert 1 == 2\n"

CONFTEST_PASSES_ALL = """import pytest
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome = 'passed'
    return report
"""
CONFTEST_PASSES_ONE = CONFTEST_PASSES_ALL.replace("    report.out", "    if item.name == 'test_bad': report.out")
CONFTEST_CALLS_NOTHING = (
    "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_pyfunc_call(pyfuncitem): return True\n"
)
CONFTEST_RUNS_NOTHING = (
    "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_protocol(item, nextitem): return True\n"
)
CONFTEST_INVENTS = """import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    report = pytest.TestReport(item.nodeid, item.location, {}, 'passed', None, 'call')
    item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
CONFTEST_HIDES = "def pytest_collection_modifyitems(items): items[:] = [i for i in items if i.name != 'test_bad']\n"
CONFTEST_ENDS_WELL = "def pytest_sessionfinish(session): session.exitstatus = 0\n"
CONFTEST_LEAVES = "import os\ndef pytest_unconfigure(): os._exit(0)\n"
PRINTS = "import os\nos.write(1, b'2 passed in 0.01s\\n')\nos._exit(0)\n"
WRITES_REPORTS = """import os, sys
xml = '<testsuites><testsuite errors="0" failures="0" tests="2"/></testsuites>'
for name in ('report.xml', os.environ['HOME'] + '/report.xml'): open(name, 'w').write(xml)
for fd in range(3, 50):
    try: os.write(fd, b'0 {"event": "over", "code": 0}\\n')
    except OSError: pass
os._exit(0)
"""
WRITES_AND_GOES_ON = WRITES_REPORTS.replace("os._exit(0)", "")
PATCHES_REPORTS = """import _pytest.reports
made = _pytest.reports.TestReport.from_item_and_call.__func__
def good(cls, item, call):
    report = made(cls, item, call)
    report.outcome = 'passed'
    return report
_pytest.reports.TestReport.from_item_and_call = classmethod(good)
"""
PATCHES_RUNNING = "import pytest\npytest.Function.runtest = lambda self: None\n"
PATCHES_PROTOCOL = "import _pytest.runner\n_pytest.runner.runtestprotocol = lambda item, log=True, nextitem=None: []\n"
DELETES = "import atexit\ntest_bad = None\n"

FORGERIES = {
    "a hook that passes all": (CONFTEST_PASSES_ALL, "", NOTHING),
    "a hook that passes one": (CONFTEST_PASSES_ONE, "", f"{NOTHING}: test_a.py::test_bad failed, and was reported as"),
    "a hook that calls nothing": (CONFTEST_CALLS_NOTHING, "", NOTHING),
    "a hook that runs nothing": (CONFTEST_RUNS_NOTHING, "", "No test ran"),
    "a hook that invents reports": (CONFTEST_INVENTS, "", f"{NOTHING}: test_a.py::test_good was reported without"),
    "a hook that hides a test": (CONFTEST_HIDES, "", "have not run, so this is no success: test_a.py::test_bad."),
    "another exit code": (CONFTEST_ENDS_WELL, "", "1 failed, 1 passed"),
    "an early end": (CONFTEST_LEAVES, "", "ended (exit code 0) before pytest was done"),
    "printed words": ("", PRINTS, "ended (exit code 0) before pytest was done"),
    "written reports": ("", WRITES_REPORTS, f"{NOTHING}: something else than pytest wrote into the report"),
    "written reports beside the tests": ("", WRITES_AND_GOES_ON, f"{NOTHING}: something else than pytest wrote"),
    "patched reports": ("", PATCHES_REPORTS, NOTHING),
    "patched running": ("", PATCHES_RUNNING, f"{NOTHING}: a test that must fail was not reported as failed"),
    "a patched protocol": ("", PATCHES_PROTOCOL, NOTHING),
    "a test that is taken away": ("", DELETES, "have not run, so this is no success: test_a.py::test_bad."),
}


@pytest.mark.parametrize(("conftest", "patch", "told"), FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_report_is_no_success_and_said_to_be_none(
    workspace: Workspace, conftest: str, patch: str, told: str
) -> None:
    workspace.write("test_a.py", FAILS + patch)
    workspace.write("conftest.py", conftest)
    run = await workspace.run_tests()
    assert not run.passed, run.output
    assert told in run.output


@pytest.mark.parametrize("place", ["tests/conftest.py", "conftest.py"])
async def test_hooks_of_a_folder_are_seen_as_well(unsandboxed: Workspace, place: str) -> None:
    unsandboxed.write("tests/test_a.py", "def test_bad(): assert False\n")
    unsandboxed.write(place, CONFTEST_PASSES_ALL.replace("report.outcome", "if report.when: report.outcome"))
    unsandboxed.write("other/test_b.py", "def test_b(): pass\n")
    run = await unsandboxed.run_tests()
    assert not run.passed
    assert NOTHING in run.output


async def test_a_test_that_rewrites_another_proves_nothing(unsandboxed: Workspace) -> None:
    unsandboxed.write("test_a.py", "open('test_b.py', 'w').write('def test_bad(): pass')\ndef test_a(): pass")
    unsandboxed.write("test_b.py", "def test_bad(): assert False")
    run = await unsandboxed.run_tests()
    assert not run.passed
    assert f"{NOTHING[:23]}: while it ran, test_b.py changed" in run.output
    unsandboxed.write("test_b.py", "def test_bad(): assert False")


GOOD = "def test_a(): pass"
LESS = "class TestA:\n    def test_x(self): pass\n    def test_y(self): pass\ndel TestA.test_y"
IGNORING = "[pytest]\naddopts = --ignore=b\n"


@pytest.mark.parametrize(
    ("files", "selected", "told"),
    [
        ({"test_a.py": f"import pytest\n@pytest.mark.skip\n{GOOD}"}, (), "No test ran: all were skipped"),
        ({"test_a.py": "import pytest\npytest.skip('no', allow_module_level=True)"}, (), "No tests were collected"),
        ({"pytest.ini": "[pytest]\naddopts = -k nothing\n", "test_a.py": FAILS}, (), "No tests were collected"),
        (
            {"conftest.py": "collect_ignore = ['b/test_b.py']", "test_a.py": GOOD, "b/test_b.py": FAILS},
            (),
            "::test_bad",
        ),
        ({"pytest.ini": IGNORING, "test_a.py": GOOD, "b/test_b.py": FAILS}, (), "b/test_b.py::test_bad"),
        ({"test_a.py": LESS}, (), "test_a.py::TestA::test_y"),
        ({"checks.py": "def test_x(): pass\ndef test_y(): pass\ndel test_y"}, ("checks.py",), "checks.py::test_y"),
    ],
    ids=["skipped", "module skipped", "deselected", "ignored file", "ignored folder", "method", "named file"],
)
async def test_what_has_not_run_is_missed(
    unsandboxed: Workspace, files: dict[str, str], selected: tuple[str, ...], told: str
) -> None:
    for path, text in files.items():
        unsandboxed.write(path, text)
    run = await unsandboxed.run_tests(*selected)
    assert not run.passed, run.output
    assert told in run.output


PLAIN = """import pytest, unittest
@pytest.fixture
def test_client(): return 1
@pytest.mark.parametrize('n', [1, 2])
def test_many(n, test_client): pass
@pytest.mark.parametrize('n', [])
def test_none(n): pass
@pytest.mark.xfail
def test_known(): assert False
@pytest.mark.skip
def test_later(): assert False
class TestPlain:
    def test_x(self): pass
class TestHelper:
    def __init__(self, n): pass
    def test_connection(self): pass
class Cases(unittest.TestCase):
    def test_z(self):
        with self.subTest(n=1): pass
    @unittest.expectedFailure
    def test_fails(self): assert False
def helper():
    def test_inner(): pass
"""


@pytest.mark.parametrize("selected", [(), (".",), ("tests",), ("tests/test_a.py",)])
async def test_what_is_no_test_is_not_missed(unsandboxed: Workspace, selected: tuple[str, ...]) -> None:
    unsandboxed.write("tests/test_a.py", PLAIN)
    unsandboxed.write("tests/data.py", "def test_data(): assert False")
    unsandboxed.write("build/test_old.py", "def test_old(): assert False")
    run = await unsandboxed.run_tests(*selected)
    assert run.passed, run.output
    assert "Not all tests ran: 2 skipped." in run.output


@pytest.mark.parametrize("selected", ["test_a.py::test_one", "test_a.py::test_many[2]", "test_a.py::TestA::test_x"])
async def test_only_what_is_selected_has_to_run(unsandboxed: Workspace, selected: str) -> None:
    unsandboxed.write(
        "test_a.py",
        "import pytest\ndef test_one(): pass\ndef test_bad(): assert False\n"
        "@pytest.mark.parametrize('n', [1, 2])\ndef test_many(n): assert n == 2\n"
        "class TestA:\n    def test_x(self): pass\n    def test_y(self): assert False\n",
    )
    run = await unsandboxed.run_tests(selected)
    assert run.passed, run.output


async def test_hooks_that_change_nothing_are_let_be(unsandboxed: Workspace) -> None:
    unsandboxed.write("test_a.py", "def test_good(order): assert order == 1\n")
    unsandboxed.write(
        "conftest.py",
        "import pytest\n@pytest.fixture(scope='session', autouse=True)\ndef once(): print('once')\n"
        "@pytest.fixture\ndef order(): return 1\n"
        "@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_makereport(item, call):\n"
        "    report = yield\n    setattr(item, 'rep_' + report.when, report)\n    return report\n"
        "def pytest_collection_modifyitems(items): items.sort(key=lambda item: item.name)\n",
    )
    run = await unsandboxed.run_tests()
    assert run.passed, run.output


async def test_a_verdict_that_was_given_counts_whatever_the_exit_says(unsandboxed: Workspace) -> None:
    unsandboxed.write("test_a.py", "import atexit, os\natexit.register(os._exit, 3)\ndef test_a(): pass")
    assert (await unsandboxed.run_tests()).passed
