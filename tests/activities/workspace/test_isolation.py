from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from activities.errors import SettingInvalid
from activities.workspace import isolation as choice
from activities.workspace.isolation import ALLOWED, isolation, isolation_in_words
from activities.workspace.port import Command, Ended, Isolation, NoSandbox
from activities.workspace.workspace import Workspace


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without bwrap, on which nobody has allowed anything; the folder that it looks for programs in."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv(ALLOWED, raising=False)
    monkeypatch.setattr(choice._allowed, "process_wide", False)
    return folder


async def test_without_a_sandbox_code_of_models_is_refused_with_the_mend(bare: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work")
    workspace.write("test_a.py", "open('ran', 'w')\ndef test_a(): pass")
    with pytest.raises(NoSandbox, match=r"There is no sandbox here.*so it is not run: bwrap is not there") as refused:
        await workspace.run_tests()
    with pytest.raises(NoSandbox):
        await workspace.run(["true"])
    for mend in ("apt-get install bubblewrap", "--allow-unsandboxed", f"{ALLOWED}=1", "allow_unsandboxed=True"):
        assert mend in str(refused.value)
    assert isinstance(refused.value, SettingInvalid)
    assert workspace.list_files() == ["test_a.py"]
    assert isolation_in_words().startswith("Sandbox: none. There is no sandbox here")


@pytest.mark.parametrize("how", ["argument", "environment", "process"])
async def test_it_runs_without_where_that_is_allowed(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv(ALLOWED, "1")
    if how == "process":
        choice.allow_unsandboxed()
    workspace = Workspace(tmp_path / "work", allow_unsandboxed=how == "argument")
    workspace.write("test_a.py", "def test_a(): pass")
    run = await workspace.run_tests()
    assert run.passed, run.output
    assert "NOT sandboxed" in str(run)


@pytest.mark.parametrize("word", ["0", ""])
def test_an_environment_that_says_no_allows_nothing(bare: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(ALLOWED, word)
    with pytest.raises(NoSandbox):
        isolation()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2; exit 1", "uid map: Permission denied"),
        (
            "#!/bin/sh\n[ $1 = --version ] && echo bubblewrap 0.4 || { echo Unknown option --size >&2; exit 1; }",
            "--size",
        ),
        ("no program", "can't isolate here"),
    ],
    ids=["not permitted", "too old", "broken"],
)
def test_a_bwrap_that_does_not_work_is_none_and_says_why(bare: Path, program: str, said: str) -> None:
    file = bare / "bwrap"
    file.write_text(program)
    file.chmod(stat.S_IRWXU)
    with pytest.raises(NoSandbox) as refused:
        isolation()
    assert said in str(refused.value)
    assert "bubblewrap 0.8 or later" in str(refused.value)


def test_where_there_is_a_sandbox_it_is_used_whatever_is_allowed(sandbox: Isolation) -> None:
    assert isolation(allow_unsandboxed=True) == sandbox
    assert isolation_in_words().startswith("Sandbox: bubblewrap 0.")


async def test_another_way_to_run_commands_takes_the_place_of_this_machines(bare: Path, tmp_path: Path) -> None:
    class Elsewhere:
        name = "elsewhere"
        promise = "It runs elsewhere."

        async def run(self, command: Command) -> Ended:
            return Ended(0, f"{' '.join(command.arguments)} in {command.folder.name}", isolation=self.promise)

    workspace = Workspace(tmp_path / "work", isolation=Elsewhere())
    assert str(await workspace.run(["make", "it"])) == (
        "make it in work\n\nIt ended with exit code 0.\n\nIt runs elsewhere."
    )


async def test_a_command_is_told_with_its_output_and_its_end(workspace: Workspace) -> None:
    ended = await workspace.run(["sh", "-c", "cat; echo $0 $HOME; exit 3"], stdin=b"given ")
    assert ended.code == 3
    assert ended.output.startswith("given sh /")
    assert "It ended with exit code 3." in str(ended)
    assert "killed by signal 15 (Terminated)" in str(await workspace.run(["sh", "-c", "kill $$"]))
    missing = await workspace.run(["no-such-program"])
    assert (missing.code, "No such file" in missing.output) == (127, True)


async def test_commands_at_the_same_time_do_not_see_each_other(sandbox: Isolation, tmp_path: Path) -> None:
    marks = ["first-of-three", "second-of-three", "third-of-three"]
    spaces = [Workspace(tmp_path / mark, isolation=sandbox) for mark in marks]
    look = 'touch "/tmp/$0"; sleep 1; ls /tmp; cat /proc/[0-9]*/cmdline | tr "\\0" " "'
    ended = await asyncio.gather(
        *(space.run(["sh", "-c", look, mark]) for space, mark in zip(spaces, marks, strict=True))
    )
    for one, own in zip(ended, marks, strict=True):
        assert one.output.count(own) > 1, one.output
        assert not [mark for mark in marks if mark != own and mark in one.output]


def test_a_worker_that_finds_no_sandbox_says_so_before_it_serves() -> None:
    program = (
        "from workflows.serving.settings import Settings\n"
        "from workflows.serving.workers import isolation_of\n"
        "settings = Settings.read(serve=['Reviewer'], allow_unsandboxed=True)\n"
        "print(isolation_of(settings))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PATH": "/nowhere", ALLOWED: ""},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert said.startswith("Sandbox: none (--allow-unsandboxed). NOT sandboxed: what models write runs with")
    assert said.count("\n") == 1
