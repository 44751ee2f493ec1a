from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from activities.errors import AgentError, OutsideWorkspace
from activities.workspace.workspace import Workspace, WorkspaceError

PARTS = ["..", ".", "", "a", "link", "file", "\0", "\ud800", "…", "-x", "~", "x" * 300, "\n"]
PATHS = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=6).map("/".join))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "enclosing project" / "work space")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "test_secret.py").write_text("SECRET = 1")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_read_as_it_was_written(workspace: Workspace) -> None:
    content = "a\r\nb\n\n\tÿ…\x00 no end of line"
    workspace.write("textkit/deep/wrap.py", content)
    assert workspace.read("textkit//./deep/wrap.py") == content


def test_writing_says_what_was_written(workspace: Workspace) -> None:
    assert workspace.write("./textkit/wrap.py", "a\nb\n") == "wrote textkit/wrap.py (2 lines)"
    assert workspace.write("a.py", "a") == "wrote a.py (1 line)"


def test_a_workspace_nobody_wrote_to_is_empty_and_has_no_folder(workspace: Workspace) -> None:
    assert workspace.list_files() == []
    assert not workspace.root.exists()


def test_files_are_listed_sorted_without_caches_and_links(workspace: Workspace, outside: Path) -> None:
    for path in ("b.py", "a/z.py", "a/__pycache__/z.pyc", ".pytest_cache/x", "a.py", ".hidden"):
        workspace.write(path, "")
    (workspace.root / "folder").symlink_to(outside)
    (workspace.root / "file").symlink_to(outside / "test_secret.py")
    os.mkfifo(workspace.root / "pipe")
    Path(os.fsdecode(os.fsencode(workspace.root) + b"/\xff")).touch()
    assert workspace.list_files() == [".hidden", "a.py", "a/z.py", "b.py"]


def test_a_written_file_can_be_read_by_others_as_any_new_file(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("a.py", "")
    (tmp_path / "b.py").touch()
    assert stat.S_IMODE((workspace.root / "a.py").stat().st_mode) == stat.S_IMODE((tmp_path / "b.py").stat().st_mode)


def test_a_crash_in_the_middle_of_a_write_leaves_the_old_file(workspace: Workspace) -> None:
    workspace.write("a.py", "old")
    program = (
        "import os, signal, sys; from activities.workspace.workspace import Workspace\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Workspace(sys.argv[1]).write('a.py', 'new')"
    )
    subprocess.run([sys.executable, "-c", program, str(workspace.root)], check=False, env={"PYTHONPATH": "."})
    assert len(names(workspace.root)) == 2  # or the write was not cut short at all
    assert workspace.read("a.py") == "old"
    assert workspace.list_files() == ["a.py"]


def test_a_write_that_fails_leaves_nothing(workspace: Workspace) -> None:
    workspace.write("a/b.py", "")
    with pytest.raises(WorkspaceError, match="'a' is not a file"):
        workspace.write("a", "x")
    assert names(workspace.root) == ["a"]


def test_an_edit_replaces_the_one_place(workspace: Workspace) -> None:
    workspace.write("a.py", "one\ntwo\nthree\n")
    assert workspace.edit("a.py", "two\n", "2\n2.5\n") == "edited a.py (now 4 lines)"
    assert workspace.read("a.py") == "one\n2\n2.5\nthree\n"


@pytest.mark.parametrize(
    ("old", "message"),
    [("b", "0 times, not once. Read"), ("aa", "2 times, not once. Add"), ("", "Say which text")],
)
def test_an_edit_that_is_not_clear_changes_nothing(workspace: Workspace, old: str, message: str) -> None:
    workspace.write("a.py", "aaa")
    with pytest.raises(WorkspaceError, match=message):
        workspace.edit("a.py", old, "x")
    assert workspace.read("a.py") == "aaa"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "can't be a path"),
        ("a\0b", "none of them NUL"),
        ("a/" * 600, "1 to 1,000 characters"),
        ("\ud800", "half a character"),
        (".", "is the workspace itself"),
        ("missing.py", "'missing.py' does not exist"),
        ("missing/a.py", "does not exist"),
        ("folder", "'folder' is not a file"),
        ("text/a.py", "has a file where a folder is expected"),
        ("x" * 300, "too long"),
        ("binary", r"'binary' is not UTF-8 text \(byte 1\)"),
        ("large", "too large to read"),
        ("pipe", "'pipe' is not a file"),
    ],
)
def test_what_cannot_be_read_is_named(workspace: Workspace, path: str, message: str) -> None:
    workspace.write("folder/a.py", "")
    workspace.write("text", "")
    workspace.write("large", "x" * 1_000_001)
    (workspace.root / "binary").write_bytes(b"a\xff")
    os.mkfifo(workspace.root / "pipe")
    with pytest.raises(WorkspaceError, match=message):
        workspace.read(path)


def test_text_that_is_no_text_is_not_written(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"'a.py' can't be used: '\\ud800' at 1"):
        workspace.write("a.py", "x\ud800")
    assert workspace.list_files() == []


@pytest.mark.parametrize("path", ["..", "../a.py", "a/../../b.py", "/etc/passwd", "//etc/passwd", "/"])
async def test_a_path_that_leads_out_is_refused(workspace: Workspace, path: str) -> None:
    workspace.write("a/b.py", "")
    with pytest.raises(OutsideWorkspace, match="name a file from the workspace's top"):
        workspace.read(path)
    with pytest.raises(OutsideWorkspace):
        workspace.write(path, "")
    with pytest.raises(OutsideWorkspace):
        await workspace.run_tests(path)


async def test_a_link_planted_in_the_workspace_is_not_followed(workspace: Workspace, outside: Path) -> None:
    workspace.write("a.py", "")
    (workspace.root / "folder").symlink_to(outside)
    (workspace.root / "test_file.py").symlink_to(outside / "test_secret.py")
    for path in ("folder/test_secret.py", "test_file.py"):
        with pytest.raises(OutsideWorkspace, match=f"'{path}' leads through a symbolic link"):
            workspace.read(path)
        with pytest.raises(OutsideWorkspace):
            await workspace.run_tests(path)
    with pytest.raises(OutsideWorkspace):
        workspace.write("folder/new.py", "")
    workspace.write("test_file.py", "mine")
    assert (outside / "test_secret.py").read_text() == "SECRET = 1"
    assert names(outside) == ["test_secret.py"]


async def test_a_link_in_place_of_the_workspace_is_not_followed(workspace: Workspace, outside: Path) -> None:
    workspace.root.parent.mkdir()
    workspace.root.symlink_to(outside)
    again = Workspace(workspace.root)
    with pytest.raises(WorkspaceError):
        again.list_files()
    with pytest.raises(WorkspaceError):
        again.write("a.py", "")
    with pytest.raises(WorkspaceError):
        await again.run_tests()
    assert names(outside) == ["test_secret.py"]


def test_a_link_planted_between_check_and_use_is_not_followed(workspace: Workspace, outside: Path) -> None:
    workspace.write("folder/a.py", "")
    swap = (
        "import os, sys; os.chdir(sys.argv[1])\n"
        "while True:\n"
        "    os.rename('folder', 'kept'); os.symlink(sys.argv[2], 'folder')\n"
        "    os.unlink('folder'); os.rename('kept', 'folder')\n"
    )
    swapper = subprocess.Popen([sys.executable, "-c", swap, str(workspace.root), str(outside)])
    try:
        refusals = 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                workspace.read("folder/test_secret.py")
            except AgentError:
                refusals += 1
            else:
                pytest.fail("read a file outside")
            with contextlib.suppress(AgentError, FileNotFoundError):
                workspace.write("folder/planted.py", "")
    finally:
        swapper.kill()
        swapper.wait()
    assert refusals
    assert names(outside) == ["test_secret.py"]


@given(path=PATHS)
@example("link/test_secret.py")
@example("a/../../outside/test_secret.py")
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_path_stays_inside_or_is_refused(workspace: Workspace, outside: Path, path: str) -> None:
    workspace.root.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (workspace.root / "link").symlink_to(outside)
    try:
        workspace.write(path, "mine")
    except (OutsideWorkspace, WorkspaceError):
        pass
    else:
        assert workspace.read(path) == "mine"
        assert os.path.normpath(path) in workspace.list_files()
    assert (outside / "test_secret.py").read_text() == "SECRET = 1"
    assert names(outside) == ["test_secret.py"]
    assert names(outside.parent) == ["enclosing project", "outside"]
    assert names(workspace.root.parent) == ["work space"]


@given(
    workflow_id=st.one_of(st.text(), PATHS, st.just("🦄語" * 200)),
    run_id=st.one_of(st.uuids().map(str), st.text()),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_runs_folder_is_in_the_base_whatever_its_ids(tmp_path: Path, workflow_id: str, run_id: str) -> None:
    workspace = Workspace.of_run(tmp_path, workflow_id, run_id)
    assert workspace.root.parent == tmp_path.resolve()
    workspace.write("a.py", "")
    assert (workspace.root / "a.py").is_file()


def test_a_runs_folder_has_a_name_to_recognise(tmp_path: Path) -> None:
    run_id = "019b2c3d-4e5f-7000-8000-0000a1b2c3d4"
    assert Workspace.of_run(tmp_path, "textkit/coder 1", run_id).root.name == "textkit-coder-1-a1b2c3d4"
    assert Workspace.of_run(tmp_path, "..", run_id).root.name == "run-a1b2c3d4"


@pytest.mark.parametrize(
    ("text", "old", "times"),
    [
        ("0, " * 70_000, "0, " * 20_000, "10 times or more"),
        ("a" * 200_000, "a" * 60_000, "10 times or more"),
        ("a" * 200_000, "a" * 60_000 + "b", "0 times"),
        ("ab" * 100_000, "b" + "ab" * 30_000, "10 times or more"),
        ("a" * 200_000 + "b", "a" * 60_000 + "b", None),
        ("x\n" * 400_000, "x\n" * 399_999 + "y", "0 times"),
    ],
    ids=["list", "run", "run without its end", "pairs", "one place", "lines"],
)
def test_an_edit_of_a_long_repetitive_text_is_quick(
    workspace: Workspace, text: str, old: str, times: str | None
) -> None:
    workspace.write("a.py", text)
    began = time.process_time()
    if times is None:
        workspace.edit("a.py", old, "c")
    else:
        with pytest.raises(WorkspaceError, match=times):
            workspace.edit("a.py", old, "c")
    assert time.process_time() - began < 0.5


def nest(folder: Path, depth: int) -> None:
    """Make folders in each other, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("folder", dir_fd=here)
        inner = os.open("folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_2000_nested_folders_are_said_to_be_too_deep(workspace: Workspace) -> None:
    workspace.write("a.py", "")
    nest(workspace.root, 2_000)
    listed = workspace.list_files()
    assert listed[0] == "a.py"
    assert listed[1:] == ["folder/" * 50 + "… (more than 50 folders deep: not listed)"]
    subprocess.run(["rm", "-rf", workspace.root], check=True)


def test_files_under_fifty_folders_are_listed(workspace: Workspace) -> None:
    workspace.write("a/" * 50 + "b.py", "")
    assert workspace.list_files() == ["a/" * 50 + "b.py"]
