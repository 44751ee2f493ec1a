from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from activities.workspace.pytest_run import TestRun
from activities.workspace.workspace import Workspace, WorkspaceError
from tests.system.processes import at_work_in, eventually

CHILD = "import subprocess; subprocess.Popen(['sleep', '1000'], env={})\n"
DAEMON = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
HANG = "def test_hang():\n    import time\n    open('started', 'w').close()\n    time.sleep(1000)\n"


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the homes of test runs are made."""
    folder = tmp_path / "homes"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def started(workspace: Workspace) -> bool:
    """Wait until the hanging test runs."""
    for _ in range(1000):
        if "started" in workspace.list_files():
            return True
        await asyncio.sleep(0.01)
    return False


async def nothing_lives(workspace: Workspace) -> bool:
    """Wait until the killed processes have gone, which takes a moment."""
    for _ in range(2000):
        if not at_work_in(workspace.root):
            return True
        await asyncio.sleep(0.01)
    return False


async def test_passing_and_failing_tests_are_told_apart(workspace: Workspace) -> None:
    workspace.write("textkit.py", "def double(x): return 2 * x")
    workspace.write("tests/test_good.py", "from textkit import double\ndef test_good(): assert double(2) == 4")
    workspace.write("tests/test_bad.py", "from textkit import double\ndef test_bad(): assert double(2) == 5")
    good, bad = await asyncio.gather(workspace.run_tests("tests/test_good.py::test_good"), workspace.run_tests())
    assert good.passed
    assert str(good).startswith("The tests passed.\n\n.")
    assert not bad.passed
    assert "assert 4 == 5" in bad.output
    assert "1 failed, 1 passed" in str(bad)


async def test_no_tests_are_not_a_success(workspace: Workspace) -> None:
    run = await workspace.run_tests()
    assert not run.passed
    assert "No tests were collected: pytest looks for" in run.output


async def test_a_missing_path_is_named_and_a_path_is_never_an_option(workspace: Workspace) -> None:
    workspace.write("--version/test_a.py", "def test_a(): pass")
    with pytest.raises(WorkspaceError, match="'-x' does not exist"):
        await workspace.run_tests("-x")
    run = await workspace.run_tests("--version")
    assert run.passed
    assert "1 passed" in run.output


async def test_the_enclosing_project_has_no_say(workspace: Workspace) -> None:
    workspace.write("test_a.py", "def test_a(): pass")
    workspace.write("pyproject.toml", "[project]\nname = 'textkit'\n")
    (workspace.root.parent / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (workspace.root.parent / "conftest.py").write_text("raise RuntimeError('the enclosing project')")
    (workspace.root.parent / "__init__.py").touch()
    run = await workspace.run_tests("test_a.py")
    assert run.passed, run.output


async def test_the_workspaces_own_configuration_counts(workspace: Workspace) -> None:
    workspace.write("pyproject.toml", "[project]\nname = 'textkit'\n")
    workspace.write("tox.ini", "[pytest]\npython_functions = check_*\n")
    workspace.write("test_a.py", "def check_a(): pass\ndef test_b(): assert False")
    run = await workspace.run_tests()
    assert run.passed, run.output


async def test_the_workspaces_modules_do_not_stand_in_for_the_harness_own(workspace: Workspace) -> None:
    workspace.write("resource.py", "raise RuntimeError('the wrong module')")
    workspace.write("test_a.py", "def test_a(): pass")
    assert (await workspace.run_tests()).passed


async def test_nothing_of_the_workers_environment_passes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    workspace.write(
        "test_a.py",
        "import os, sys, pathlib\n"
        "def test_a(tmp_path):\n"
        "    assert set(os.environ) <= {'PATH', 'HOME', 'LANG', 'LC_CTYPE', 'TMPDIR', 'PYTHONPATH',\n"
        "        'PYTHONDONTWRITEBYTECODE', 'PYTEST_CURRENT_TEST', 'PYTEST_VERSION'}\n"
        "    assert os.stat(0).st_rdev == os.stat(os.devnull).st_rdev\n"
        "    assert pathlib.Path.cwd() not in [pathlib.Path.home(), *pathlib.Path.home().parents]\n"
        "    assert tmp_path.is_relative_to(pathlib.Path.home())\n"
        "    pathlib.Path('home').write_text(str(pathlib.Path.home()))\n",
    )
    run = await workspace.run_tests()
    assert run.passed, run.output
    assert not Path(workspace.read("home")).exists()
    assert workspace.list_files() == ["home", "test_a.py"]


async def test_a_test_that_eats_memory_fails_by_itself(workspace: Workspace) -> None:
    workspace.write("test_a.py", "def test_a(): bytearray(3 * 1024 ** 3)")
    run = await workspace.run_tests(memory_mb=1024)
    assert not run.passed
    assert "MemoryError" in run.output


@pytest.mark.parametrize(
    ("end", "message"),
    [("os._exit(0)", "ended (exit code 0) before pytest was done"), ("os.kill(os.getpid(), 9)", "signal 9")],
)
async def test_an_end_without_a_verdict_is_not_a_success(workspace: Workspace, end: str, message: str) -> None:
    workspace.write("test_a.py", f"import os\ndef test_a(): {end}")
    run = await workspace.run_tests()
    assert not run.passed
    assert message in run.output


async def test_endless_output_is_kept_at_both_ends(workspace: Workspace) -> None:
    workspace.write("pytest.ini", "[pytest]\naddopts = -s\n")
    workspace.write("test_a.py", "def test_a():\n    for _ in range(3000): print('…' * 3000)")
    run = await workspace.run_tests()
    assert run.passed
    assert len(run.output) < 21_000
    assert run.output.startswith("…")
    assert run.output.endswith("s")
    assert "1 passed" in run.output
    assert "bytes left out" in run.output


async def test_the_event_loop_goes_on_while_tests_run(workspace: Workspace) -> None:
    workspace.write("test_a.py", "import time\ndef test_a(): time.sleep(0.3)")
    running = asyncio.ensure_future(workspace.run_tests())
    ticks = 0
    while not running.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 10


async def test_it_works_in_a_worker_without_standard_streams(workspace: Workspace) -> None:
    workspace.write("test_a.py", "def test_a(): print('hello'); assert False")
    program = (
        "import asyncio, os, sys; from activities.workspace.workspace import Workspace\n"
        "for fd in range(3): os.close(fd)\n"
        "run = asyncio.run(Workspace(sys.argv[1], allow_unsandboxed=True).run_tests())\n"
        "os._exit(42 if 'hello' in run.output and '1 failed' in run.output else 1)"
    )
    command = [sys.executable, "-c", program, str(workspace.root)]
    assert subprocess.run(command, check=False, env={"PYTHONPATH": "."}).returncode == 42


@pytest.mark.parametrize("start", [CHILD, DAEMON], ids=["child", "daemon"])
async def test_children_left_behind_are_killed_at_once(workspace: Workspace, start: str) -> None:
    workspace.write("test_a.py", start + "def test_a(): pass")
    started = time.monotonic()
    run = await workspace.run_tests()
    assert run.passed
    # They hold its output open, and nobody waits for them. A machine with more to do than cores delays everybody.
    overload = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.monotonic() - started < 1.9 * overload
    assert await nothing_lives(workspace)


async def test_time_is_up_for_everything_the_tests_started(workspace: Workspace) -> None:
    bomb = "import os\nfor _ in range(4): os.fork()\n"
    workspace.write("test_a.py", DAEMON + bomb + "def test_ok(): pass\n" + HANG)
    run = await workspace.run_tests(timeout=4)
    assert not run.passed
    assert "Stopped after 4 seconds" in run.output
    assert "in test_hang" in run.output
    assert await nothing_lives(workspace)


async def test_a_cancelled_run_leaves_no_process(workspace: Workspace) -> None:
    workspace.write("test_a.py", CHILD + DAEMON + HANG)
    running = asyncio.ensure_future(workspace.run_tests())
    assert await started(workspace)
    await eventually(lambda: len(at_work_in(workspace.root)) == 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await nothing_lives(workspace)


async def test_a_run_cancelled_while_it_starts_leaves_no_process(workspace: Workspace) -> None:
    workspace.write("test_a.py", HANG)
    for steps in range(12):
        running = asyncio.ensure_future(workspace.run_tests())
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await nothing_lives(workspace)


def test_a_loop_that_ends_leaves_no_process(workspace: Workspace) -> None:
    workspace.write("test_a.py", DAEMON + HANG)

    async def end_early() -> None:
        running = asyncio.ensure_future(workspace.run_tests())
        assert await started(workspace)
        assert not running.done()

    asyncio.run(end_early())
    assert asyncio.run(nothing_lives(workspace))


def test_a_test_run_travels_as_json() -> None:
    run = TestRun(passed=True, output="1 passed")
    assert TestRun.model_validate_json(run.model_dump_json()) == run


NEST = """import os, tempfile
def test_nest():
    for _ in range(2_000):
        os.mkdir("folder")
        os.chdir("folder")
"""


@pytest.mark.parametrize(
    "where", ["os.environ['HOME']", "tempfile.mkdtemp()", "'.'"], ids=["home", "temp", "workspace"]
)
async def test_the_verdict_of_a_test_that_nests_2000_folders_is_kept(
    workspace: Workspace, homes: Path, where: str
) -> None:
    workspace.write("test_nest.py", NEST.replace("    for", f"    os.chdir({where})\n    for"))
    run = await workspace.run_tests()
    assert run.passed, str(run)
    assert workspace.list_files()[-1] == "test_nest.py"
    assert not list(homes.iterdir())
    subprocess.run(["rm", "-rf", workspace.root], check=True)


async def test_what_tests_leave_without_permissions_is_removed(workspace: Workspace, homes: Path) -> None:
    workspace.write(
        "test_lock.py",
        "import os, pathlib\ndef test_lock():\n    home = pathlib.Path.home() / 'a' / 'b'\n"
        "    home.mkdir(parents=True)\n"
        "    (home / 'c').symlink_to('/etc')\n    home.chmod(0)\n    home.parent.chmod(0)\n",
    )
    assert (await workspace.run_tests()).passed
    assert not list(homes.iterdir())
