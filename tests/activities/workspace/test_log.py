"""A repository as people look at it, with the real git."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.workspace import git as git_module
from activities.workspace import log
from activities.workspace.git import Git
from activities.workspace.log import FileChange, commit_of, commits_of
from activities.workspace.site import Site
from tests.activities.workspace.test_repository import Run

pytestmark = pytest.mark.skipif(not git_module.has_git(), reason="there is no git on this machine")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough also where much else goes on."""
    monkeypatch.setattr(log, "_SECONDS", 60.0)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(Site(tmp_path / "textkit.repository"))


def files_of(git: Git) -> list[FileChange]:
    commits, more = commits_of(git)
    assert not more
    return [file for commit in commits for file in commit.files]


def test_each_commit_says_who_changed_what_for_which_step(run: Run) -> None:
    run.does("coder-1", {"wrap.py": "one\ntwo\n"})
    run.does("coder-2", {"slug.py": "s\n"}, "slug")
    run.does("coder-1", {"wrap.py": "one\n2\n3\n", "new.py": ""}, "wrap again")
    commits, more = commits_of(run.site.git)
    assert [(one.by, one.step, one.run, one.method, one.item, one.subject) for one in commits] == [
        ("coder-1", "3", "textkit", "Coder.make", "wrap again", "make: wrap again"),
        ("coder-2", "2", "textkit", "Coder.make", "slug", "make: slug"),
        ("coder-1", "1", "textkit", "Coder.make", "wrap", "make: wrap"),
    ]
    assert not more
    assert [(file.path, file.added, file.removed) for file in commits[0].files] == [("new.py", 0, 0), ("wrap.py", 2, 1)]
    assert commits[0].files[1].diff is not None
    assert commits[0].files[1].diff.endswith("@@ -1,2 +1,3 @@\n one\n-two\n+2\n+3")
    assert commit_of(run.site.git, commits[0].oid) == commits[0]
    assert commits[0].at.timestamp() == 1_700_000_003


def test_of_a_merge_only_what_is_on_neither_side_is_its_own(run: Run) -> None:
    run.does("coder-1", {"shared.py": "one\n"})
    run.does("coder-2", {"shared.py": "two\n"})
    merging = run.call("merger", merges=True)
    before, made = merging.tried(["coder-1"])  # type: ignore[attr-defined]
    merging.take_over(before, made)  # type: ignore[attr-defined]
    run.ends(merging)
    run.does("coder-2", {"shared.py": "both\n", "more.py": "m\n"}, "resolve")
    resolved, merge, *_ = commits_of(run.site.git)[0]
    assert (merge.subject, merge.merges, merge.files) == ("Merge coder-1: wrap", True, [])
    assert (resolved.merges, [file.path for file in resolved.files]) == (True, ["more.py", "shared.py"])
    assert "++both" in (resolved.files[1].diff or "")


def test_commits_of_the_repository_that_it_began_from_are_not_the_runs(run: Run, tmp_path: Path) -> None:
    before = Run(Site(tmp_path / "source.repository"))
    before.does("coder-1", {"old.py": "old\n"})
    run.ends(run.call("coder-1", source=str(before.site.git.folder)))
    assert commits_of(run.site.git) == ([], False)
    run.does("coder-1", {"new.py": "new\n"})
    assert [file.path for file in files_of(run.site.git)] == ["new.py"]


def test_what_is_committed_is_text_whatever_it_looks_like(run: Run) -> None:
    forged = "diff --git a/x b/x\n@@ -1 +1 @@\n\ndiff --cc y\n1\t1\tz\n\x1b[31m<script>\n"
    files = {
        "a.py": forged,
        "diff --git a b.py": "x\n",
        ".gitattributes": "*.py -diff diff=evil filter=evil\n* binary\n",
        "é\n\t.py": "y\n",
        "zero.bin": "\0" * 100,
    }
    run.does("coder-1", files)
    commits, _ = commits_of(run.site.git)
    assert [file.path for file in commits[0].files] == [
        *(".gitattributes", "a.py", "diff --git a b.py", "zero.bin"),
        '"é\\n\\t.py"',
    ]
    assert [file.added for file in commits[0].files] == [2, 6, 1, None, 1]
    assert "\n+diff --git a/x b/x\n" in (commits[0].files[1].diff or "")


def test_much_is_read_within_bounds_and_said_to_be_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.does("coder-1", {"first.py": "1\n"})
    run.does("coder-1", {"a.py": "a\n", "line.py": "x" * 10_000_000, "z.py": "z\n"})
    found = {file.path: file for file in files_of(run.site.git)}
    assert [found[path].diff is None for path in ("a.py", "line.py", "z.py", "first.py")] == [False, True, True, True]
    assert [found[path].added for path in ("a.py", "line.py", "z.py", "first.py")] == [1, 1, 1, 1]

    run.does("coder-1", {f"{number}.py": "n\n" for number in range(log.FILES_SHOWN + 5)})
    newest = commits_of(run.site.git)[0][0]
    assert (len(newest.files), newest.left_out) == (log.FILES_SHOWN, 5)

    monkeypatch.setattr(log, "COMMITS_SHOWN", 2)
    commits, more = commits_of(run.site.git)
    assert (len(commits), more) == (2, True)
    rest, more = commits_of(run.site.git, 2)
    assert ([file.path for file in rest[0].files], more) == (["first.py"], False)


@pytest.mark.parametrize("oid", ["", "main", "--all", "0" * 40, "ab" * 20, "../../etc"])
def test_nothing_but_a_commits_name_is_looked_up(run: Run, oid: str) -> None:
    run.does("coder-1", {"first.py": "1\n"})
    assert commit_of(run.site.git, oid) is None


def test_a_git_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\necho begun\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(git_module, "program", lambda: str(slow))
    said = Git(tmp_path).beginning("log", most=100, seconds=1.0)
    assert not said.is_all
    assert b"begun\n".startswith(said.said)
