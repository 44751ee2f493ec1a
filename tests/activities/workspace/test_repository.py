"""Branches, commits and merges of a run's repository, with the real git; calls as their attempts would make them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from activities import Agent
from activities.contract.branches import MAIN, Standing, branch_of
from activities.errors import DeclarationError, ResultInvalid
from activities.workspace import git as git_module
from activities.workspace.desk import Desk, working_at
from activities.workspace.git import GitFailed, NoGit, git_in_words, program
from activities.workspace.merging import MergeDesk, Merging, merge
from activities.workspace.repository import Repository, repository_of
from activities.workspace.site import Call, RepositoryLost, Site, SourceUnusable
from workflows.serving.settings import Settings
from workflows.serving.workers import git_of


class Run:
    """The calls of one run, and what it knows of its branches from their replies."""

    def __init__(self, site: Site, *, run_id: str = "run-1", stand: Mapping[str, str] | None = None) -> None:
        self.site = site
        self.run_id = run_id
        self.stand = dict(stand or {})
        self._step = 0

    def call(self, instance: str, item: str = "wrap", *, source: str = "", merges: bool = False) -> Desk:
        """Return a call that has begun."""
        self._step += 1
        call = Call(
            f"{self.run_id}/{self._step}",
            1_700_000_000 + self._step,
            "textkit",
            str(self._step),
            "Coder.make",
            instance,
            item,
        )
        desk = (MergeDesk if merges else Desk)(self.site, branch_of(instance), call, dict(self.stand), source)
        desk.begin()
        return desk

    def ends(self, desk: Desk) -> None:
        self.stand |= desk.end()

    def does(self, instance: str, files: Mapping[str, str], item: str = "wrap") -> Desk:
        """Make a call that writes files and ends well."""
        desk = self.call(instance, item)
        for path, content in files.items():
            desk.workspace.write(path, content)
        self.ends(desk)
        return desk

    async def merges(self, *names: str, tests: bool = False) -> Merging:
        desk = self.call("merger-1", merges=True)
        assert isinstance(desk, MergeDesk)
        made = await merge(desk, names, tests=tests)
        self.ends(desk)
        return made

    def log(self, branch: str, form: str = "%s") -> list[str]:
        return self.site.git.text("log", "--first-parent", f"--format={form}", branch).splitlines()

    def files(self, branch: str) -> dict[str, str]:
        tree = self.site.git.tree(f"refs/heads/{branch}")
        contents = self.site.git.contents(entry.oid for entry in tree.values())
        return dict(zip(tree, (content.decode() for content in contents), strict=True))

    def left(self) -> dict[str, str]:
        return self.site.git.references("refs/left/")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "textkit.repository")


@pytest.fixture
def run(site: Site) -> Run:
    return Run(site)


def again(desk: Desk) -> Desk:
    """Return the next attempt of a call, which knows nothing of the one before."""
    return replace(desk, moved={})


def source_at(folder: Path, files: Mapping[str, str]) -> Path:
    """Make somebody's repository with a commit."""
    folder.mkdir()
    for path, content in files.items():
        (folder / path).write_text(content)
    commit = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "first")
    for command in (("init", "-q", "-b", "trunk"), ("add", "-A"), commit):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    return folder


# Commits


def test_a_call_is_one_commit_that_tells_who_did_what_for_which_step(run: Run) -> None:
    run.does("coder-1", {"textkit/wrap.py": "WIDTH = 80\n"})
    [told, began] = run.site.git.text("log", "--format=%an <%ae>|%s|%(trailers:separator=;)", "coder-1").splitlines()
    assert told == (
        "coder-1 <coder-1@run>|make: wrap|"
        "Run: textkit;Step: 1;Method: Coder.make;Item: wrap;Instance: coder-1;Call: run-1/1"
    )
    assert "Begin with nothing" in began
    assert run.files("coder-1") == {"textkit/wrap.py": "WIDTH = 80\n"}


def test_a_call_that_changed_nothing_makes_no_commit(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    run.does("coder-1", {})
    run.does("coder-1", {"a": "1"})
    assert len(run.log("coder-1")) == 2


def test_a_repeated_attempt_goes_on_with_the_files_as_they_are(run: Run) -> None:
    desk = run.call("coder-1")
    desk.workspace.write("a", "half")
    second = again(desk)
    second.begin()
    assert second.workspace.read("a") == "half"
    assert run.left() == {}


def test_an_attempt_after_the_commit_makes_no_second_one(run: Run) -> None:
    desk = run.does("coder-1", {"a": "1"})
    second = again(desk)
    second.begin()
    assert second.end() == run.stand
    assert len(run.log("coder-1")) == 2


def test_what_an_attempt_changes_after_the_commit_of_an_earlier_one_amends_it(run: Run) -> None:
    desk = run.does("coder-1", {"a": "1"})
    second = again(desk)
    second.begin()
    second.workspace.write("a", "2")
    run.ends(second)
    assert len(run.log("coder-1")) == 2
    assert run.files("coder-1") == {"a": "2"}
    assert run.left() == {}


def test_what_a_call_leaves_that_did_not_end_well_is_set_aside_by_the_next(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    run.call("coder-1").workspace.write("a", "lost?")
    after = run.call("coder-1")
    assert after.workspace.read("a") == "1"
    [left] = run.left()
    assert run.site.git.text("show", f"{left}:a") == "lost?"
    assert "Left on coder-1 by a call that did not end well" in run.site.git.text("show", "--format=%s", left)


def test_setting_aside_is_done_once_when_it_is_cut_short(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.call("coder-1").workspace.write("a", "lost?")
    with monkeypatch.context() as killed:
        killed.setattr(Desk, "_prepare", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.call("coder-1")
    run._step -= 1
    run.call("coder-1")
    assert len(run.left()) == 1


def test_a_folder_that_is_half_way_between_two_commits_is_brought_to_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.does("coder-1", {"a": "1", "b": "1"})
    first = dict(run.stand)
    run.does("coder-1", {"a": "2", "b": "2"})
    reset = Run(run.site, run_id="run-2", stand=first)
    with monkeypatch.context() as killed:
        killed.setattr(Site, "write_note", _written_once(Site.write_note))
        with pytest.raises(KeyboardInterrupt):
            reset.call("coder-1")
    (run.site.tree("coder-1") / "b").unlink()
    reset._step -= 1
    assert reset.call("coder-1").workspace.read("b") == "1"
    assert all(name.count("/") == 3 for name in run.left())
    assert len(run.left()) == 1  # the commit that was undone, and nothing of the half


def _written_once(write: Callable[..., None]) -> Callable[..., None]:
    written: list[object] = []

    def once(*arguments: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(arguments)
        write(*arguments)

    return once


def test_an_attempt_that_was_given_up_commits_nothing_into_the_next_call(run: Run) -> None:
    late = run.call("coder-1")
    run.call("coder-1")
    with pytest.raises(RuntimeError, match="another call works on coder-1"):
        late.end()


def test_the_lock_that_a_killed_git_leaves_is_taken_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.does("coder-1", {"a": "1"})
    lock = run.site.git.folder / "refs/heads/coder-1.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    run.does("coder-1", {"a": "2"})
    assert run.files("coder-1") == {"a": "2"}


def test_instances_work_in_folders_of_their_own(run: Run) -> None:
    first, second = run.call("coder-1"), run.call("coder-2")
    first.workspace.write("a", "first")
    second.workspace.write("a", "second")
    run.ends(first)
    run.ends(second)
    assert (run.files("coder-1"), run.files("coder-2")) == ({"a": "first"}, {"a": "second"})


def test_in_one_tree_for_all_each_call_is_a_commit_on_main(run: Run) -> None:
    for number, instance in enumerate(("coder-1", "coder-2")):
        call = run.call(instance)
        desk = replace(call, branch=MAIN, stand=dict(run.stand))
        desk.begin()
        assert len(desk.workspace.list_files()) == number
        desk.workspace.write(instance, "done")
        run.ends(desk)
    assert run.log(MAIN, "%an")[:2] == ["coder-2", "coder-1"]
    assert (run.site.tree(MAIN) / "coder-1").read_text() == "done"


# Positions


def test_a_run_that_was_reset_finds_the_files_as_they_were_and_what_came_after_is_kept(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    then = dict(run.stand)
    later = run.does("coder-1", {"a": "2", "new": "x"}).end()["coder-1"]
    reset = Run(run.site, run_id="run-2", stand=then)
    desk = reset.call("coder-1")
    assert (desk.workspace.list_files(), desk.workspace.read("a")) == (["a"], "1")
    assert later in run.left().values()


def test_a_call_of_the_same_step_after_a_reset_does_not_take_over_the_earlier_ones_files(run: Run) -> None:
    run.call("coder-1").workspace.write("a", "before")
    reset = Run(run.site, run_id="run-2")
    assert reset.call("coder-1").workspace.list_files() == []
    assert len(run.left()) == 1


async def test_main_goes_back_as_well_when_a_run_is_reset(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    await run.merges("coder-1")
    then = dict(run.stand)
    run.does("coder-1", {"a": "2"})
    later = (await run.merges("coder-1")).commit
    reset = Run(run.site, run_id="run-2", stand=then)
    assert reset.call("reviewer-1").workspace.read("a") == "1"
    reset.does("coder-1", {"a": "3"})
    assert (await reset.merges("coder-1")).files == ["a"]
    assert run.files(MAIN) == {"a": "3"}
    assert later in run.left().values()


def test_a_commit_that_is_not_here_is_told_with_what_workers_need(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    run.stand["coder-1"] = "1" * 40
    with pytest.raises(RepositoryLost, match="share one WORKSPACES folder"):
        run.call("coder-1")


# Merges


async def test_what_is_merged_is_seen_by_all_at_their_next_call(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    run.does("coder-2", {"b": "2"})
    made = await run.merges("coder-1", "coder-2")
    assert (made.files, made.merged, made.conflicts) == (["a", "b"], ["coder-1", "coder-2"], {})
    assert run.call("reviewer-1").workspace.list_files() == ["a", "b"]
    assert run.call("coder-1").workspace.list_files() == ["a", "b"]
    assert sorted(path.name for path in run.site.tree(MAIN).iterdir()) == ["a", "b"]
    assert run.log(MAIN)[:2] == ["Merge coder-2: wrap", "Merge coder-1: wrap"]


async def test_a_role_stands_for_the_branches_of_its_instances(run: Run) -> None:
    for number in (1, 2, 10):
        run.does(f"coder-{number}", {f"{number}": "x"})
    run.does("coder-reviewer-1", {"not": "of the role"})
    assert (await run.merges("coder")).merged == ["coder-1", "coder-2", "coder-10"]
    assert (await run.merges("nobody")).merged == []


async def test_a_merge_that_was_done_is_found_done_by_the_next_attempt(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    desk = run.call("merger-1", merges=True)
    assert isinstance(desk, MergeDesk)
    first = await merge(desk, ["coder-1"], tests=False)
    second = again(desk)
    assert isinstance(second, MergeDesk)
    second.begin()
    assert await merge(second, ["coder-1"], tests=False) == first
    assert second.end() == desk.end()
    assert len(run.log(MAIN)) == 2


async def test_a_merge_killed_before_main_moves_is_made_anew_as_the_same_commit(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    desk = run.call("merger-1", merges=True)
    assert isinstance(desk, MergeDesk)
    _, made = desk.tried(["coder-1"])
    assert len(run.log(MAIN)) == 1
    assert (await merge(desk, ["coder-1"], tests=False)).commit == made.commit


async def test_main_that_somebody_else_moves_meanwhile_is_merged_onto(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.does("coder-1", {"a": "1"})
    run.does("coder-2", {"b": "2"})
    desk, other = (run.call(f"merger-{number}", merges=True) for number in (1, 2))
    assert isinstance(desk, MergeDesk)
    assert isinstance(other, MergeDesk)
    before, made = desk.tried(["coder-1"])
    await merge(other, ["coder-2"], tests=False)
    assert not desk.take_over(before, made)
    await merge(desk, ["coder-1"], tests=False)
    assert run.files(MAIN) == {"a": "1", "b": "2"}


async def test_a_conflict_goes_to_its_author_with_both_sides_and_what_is_clean_is_merged(run: Run) -> None:
    run.does("architect-1", {"a": "0\n"})
    await run.merges("architect")
    desks = {name: run.call(name) for name in ("coder-1", "coder-2", "coder-3")}
    for name, desk in desks.items():
        desk.workspace.write("b" if name == "coder-3" else "a", f"{name}\n")
        run.ends(desk)
    made = await run.merges("coder")
    assert made.merged == ["coder-1", "coder-3"]
    [(branch, [sides])] = made.conflicts.items()
    assert (branch, sides.path) == ("coder-2", "a")
    assert sides.text == "<<<<<<< main\ncoder-1\n=======\ncoder-2\n>>>>>>> coder-2\n"
    assert run.files(MAIN) == {"a": "coder-1\n", "b": "coder-3\n"}


async def conflicting(run: Run) -> Desk:
    """Return the next call of an author whose branch conflicts with main."""
    first, second = run.call("coder-1"), run.call("coder-2")
    first.workspace.write("a", "one\n")
    second.workspace.write("a", "two\n")
    run.ends(first)
    run.ends(second)
    assert (await run.merges("coder")).conflicts
    return run.call("coder-2")


async def test_the_author_of_a_conflict_can_not_end_before_it_is_resolved_and_then_has_merged(run: Run) -> None:
    desk = await conflicting(run)
    assert desk.workspace.read("a") == "<<<<<<< coder-2\ntwo\n=======\none\n>>>>>>> main\n"
    assert "both sides of a conflict" in desk.unfinished()
    with pytest.raises(ResultInvalid, match=r"can't be committed: These files .*: a\."):
        desk.end()
    desk.workspace.write("a", "one and two\n")
    assert desk.unfinished() == ""
    run.ends(desk)
    made = await run.merges("coder-2")
    assert (made.conflicts, run.files(MAIN)) == ({}, {"a": "one and two\n"})
    assert len(run.site.git.text("log", "--format=%H", "coder-2").splitlines()) == 5  # each once


async def test_a_killed_author_finds_the_conflict_as_far_as_it_was_resolved(run: Run) -> None:
    desk = await conflicting(run)
    desk.workspace.write("a", "resolved\n")
    second = again(desk)
    second.begin()
    assert second.workspace.read("a") == "resolved\n"
    run.ends(second)
    third = again(desk)
    third.begin()
    assert third.end() == second.end()


async def test_a_conflict_that_nobody_touched_is_not_set_aside(run: Run) -> None:
    await conflicting(run)
    assert "both sides" in run.call("coder-2").unfinished()
    assert run.left() == {}


async def test_a_file_that_one_changes_and_another_deletes_is_told_of(run: Run) -> None:
    run.does("coder-1", {"a": "0\n"})
    await run.merges("coder-1")
    first, second = run.call("coder-1"), run.call("coder-2")
    (first.workspace.root / "a").unlink()
    second.workspace.write("a", "changed\n")
    run.ends(first)
    run.ends(second)
    made = await run.merges("coder")
    assert [sides.path for sides in made.conflicts["coder-2"]] == ["a"]
    desk = run.call("coder-2")
    assert desk.unfinished() == ""  # there are no markers: whatever it leaves is its word
    run.ends(desk)
    assert (await run.merges("coder-2")).conflicts == {}


async def test_tests_that_fail_keep_main_as_it_is(run: Run) -> None:
    run.does(
        "coder-1", {"one.py": "ONE = 1\n", "tests/test_one.py": "import one\ndef test_one(): assert one.ONE == 1\n"}
    )
    assert (await run.merges("coder-1", tests=True)).refused == ""
    run.does("coder-2", {"one.py": "ONE = 2\n"})
    made = await run.merges("coder-2", tests=True)
    assert "test_one" in made.refused
    assert made.merged == []
    assert run.files(MAIN)["one.py"] == "ONE = 1\n"
    assert (run.site.tree(MAIN) / "one.py").read_text() == "ONE = 1\n"


# Sources


@pytest.mark.parametrize("bundled", [False, True])
def test_a_run_begins_from_a_repository_or_a_bundle_of_one_and_a_person_can_pull_its_end(
    run: Run, tmp_path: Path, bundled: bool
) -> None:
    theirs = source_at(tmp_path / "theirs", {"README": "theirs"})
    source = theirs
    if bundled:
        source = tmp_path / "their.bundle"
        subprocess.run(["git", "-C", str(theirs), "bundle", "create", "-q", str(source), "trunk"], check=True)
    desk = run.call("coder-1", source=str(source))
    assert desk.workspace.read("README") == "theirs"
    desk.workspace.write("new", "x")
    run.ends(desk)
    pull = ["git", "-C", str(theirs), "pull", "-q", "--ff-only", str(run.site.git.folder), "coder-1"]
    subprocess.run(pull, check=True)
    assert (theirs / "new").read_text() == "x"


@pytest.mark.parametrize("name", ["nowhere", "empty", "text", "ext::sh -c evil"])
def test_a_source_that_can_not_be_read_is_told_and_leaves_nothing(run: Run, tmp_path: Path, name: str) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    (tmp_path / "text").write_text("no bundle")
    with pytest.raises(SourceUnusable):
        run.call("coder-1", source=str(tmp_path / name))
    assert not run.site.exists
    assert run.call("coder-1").workspace.list_files() == []


# Hostile trees


def hostile(folder: Path) -> None:
    """Leave what a test might that wants out of its folder, in all forms that git knows."""
    for place in (folder, folder / "sub"):
        (place / ".git/hooks").mkdir(parents=True)
        (place / ".git/hooks/post-commit").write_text("#!/bin/sh\ntouch /tmp/evil\n")
        (place / ".git/hooks/post-commit").chmod(0o777)
        (place / ".git/config").write_text(f'[core]\n\tfsmonitor = "touch {folder.parent}/evil"\n\tbare = false\n')
        (place / ".git/HEAD").write_text("ref: refs/heads/main\n")
        (place / ".git/objects/info").mkdir(parents=True)
        (place / ".git/objects/info/alternates").write_text("/etc\n")
        (place / ".git/refs/heads").mkdir(parents=True)
    (folder / "linked").mkdir()
    (folder / "linked/.git").write_text(f"gitdir: {folder.parent}/repository.git\n")
    (folder / ".gitmodules").write_text(
        '[submodule "x"]\n\tpath = x\n\turl = ext::touch /tmp/evil\n\tupdate = !touch /tmp/evil\n'
    )
    (folder / ".gitattributes").write_text("* filter=evil merge=evil diff=evil ident eol=crlf\n")
    (folder / "out").symlink_to("/etc")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "-rf").write_text("--upload-pack=evil")
    (folder / '"quoted"\n\\x').write_text("name")
    (folder / os.fsdecode(b"not-utf8-\xff")).write_text("name")
    (folder / ".GIT").mkdir(exist_ok=True)
    (folder / ".GIT/config").write_text("evil")
    os.mkfifo(folder / "pipe")


def test_nothing_of_git_that_is_in_a_folder_is_read_or_kept(run: Run) -> None:
    desk = run.call("coder-1")
    hostile(desk.workspace.root)
    run.ends(desk)
    tree = run.site.git.tree("refs/heads/coder-1")
    assert set(tree) == {
        *(".gitmodules", ".gitattributes", "out", "passwd", "-rf", '"quoted"\n\\x', os.fsdecode(b"not-utf8-\xff")),
    }
    assert (tree["out"].mode, tree["passwd"].mode) == ("120000", "120000")
    assert list(run.site.git.contents([tree["passwd"].oid])) == [b"/etc/passwd"]
    assert not (run.site.folder / "evil").exists()
    assert run.site.git.run("fsck", "--no-dangling", codes=(0, 1)) == (1, b"")  # it sees what .gitmodules asks for


async def test_a_hostile_tree_is_merged_and_shown_without_a_way_out(run: Run) -> None:
    desk = run.call("coder-1")
    hostile(desk.workspace.root)
    run.ends(desk)
    await run.merges("coder-1")
    desk = run.call("coder-2")
    assert desk.workspace.root.joinpath("out").is_symlink()
    (desk.workspace.root / "out").unlink()
    desk.workspace.write("out/passwd", "in a folder of that name")
    (desk.workspace.root / "-rf").unlink()
    run.ends(desk)
    await run.merges("coder-2")
    assert (run.site.tree(MAIN) / "out/passwd").read_text() == "in a folder of that name"
    assert "root" in Path("/etc/passwd").read_text()
    third = run.call("coder-1")
    assert third.workspace.read("out/passwd") == "in a folder of that name"
    assert not (run.site.folder / "evil").exists()


@pytest.mark.parametrize("make", ["huge", "deep", "many links"])
def test_what_can_not_be_kept_is_told_to_its_author_and_put_away_by_the_next_call(run: Run, make: str) -> None:
    run.does("coder-1", {"a": "1"})
    desk = run.call("coder-1")
    root = desk.workspace.root
    if make == "huge":
        with (root / "huge").open("wb") as file:
            file.truncate(30_000_000_000)
    elif make == "deep":
        place = os.open(root, os.O_RDONLY)
        for _ in range(150):
            os.mkdir("d", dir_fd=place)
            inner = os.open("d", os.O_RDONLY, dir_fd=place)
            os.close(place)
            place = inner
        os.close(place)
    else:
        (root / "loop").symlink_to("loop")
        (root / "self").symlink_to(".")
        (root / "a").unlink()
        (root / "a").symlink_to("../../../../../../etc/passwd")
        run.ends(desk)
        assert run.site.git.tree("refs/heads/coder-1")["a"].mode == "120000"
        return
    assert "delete it" in desk.unfinished()
    with pytest.raises(ResultInvalid, match="can't be committed"):
        desk.end()
    assert run.call("coder-1").workspace.list_files() == ["a"]
    assert [path.name for path in run.site.left().iterdir()] == ["coder-1-1"]


def test_a_folder_that_is_a_link_elsewhere_is_not_followed(run: Run, tmp_path: Path) -> None:
    run.does("coder-1", {"a": "1"})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("kept")
    folder = run.site.tree("coder-1")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere)
    desk = run.call("coder-1")
    assert desk.workspace.read("a") == "1"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_messages_can_not_be_forged_by_what_a_call_is_about(run: Run) -> None:
    desk = run.call("coder-1", "x\n\nCall: run-1/9\nInstance: somebody\x1b[31m")
    desk.workspace.write("a", "1")
    run.ends(desk)
    assert run.site.git.trailer("refs/heads/coder-1", "Instance") == "coder-1"
    assert run.site.git.trailer("refs/heads/coder-1", "Call") == "run-1/1"
    assert "\x1b" not in run.site.git.text("log", "--format=%B", "coder-1")


def test_a_hook_in_the_repository_itself_never_runs(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    hooks = run.site.git.folder / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-commit", "post-update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {run.site.folder}/evil\n")
        (hooks / name).chmod(0o777)
    run.does("coder-1", {"a": "2"})
    assert not (run.site.folder / "evil").exists()


@pytest.mark.parametrize(
    "name", ["main", "-x", "../up", "a b/c", ".lock", "ö", "", "x" * 300, "repository.git", "a..b"]
)
def test_whatever_an_instance_is_called_it_has_a_branch(run: Run, name: str) -> None:
    run.does(name, {"a": "1"})
    branch = branch_of(name)
    assert run.files(branch) == {"a": "1"}
    assert run.site.tree(branch).parent == run.site.folder
    assert branch != MAIN


# Agents


def test_an_agents_workspace_is_where_its_call_works(run: Run, workspaces: Path, tmp_path: Path) -> None:
    class Coder(Agent):
        workspace = Repository()

    found = repository_of(Coder)
    assert found is not None
    assert found.kind == "own"
    assert Repository(shared=True).kind == "shared"
    with working_at(run.call("coder-1")):
        assert Coder().workspace.root == run.site.tree("coder-1")
    assert Coder().workspace.root == workspaces / "coder"
    assert Coder(workspace=tmp_path / "mine").workspace.root == tmp_path / "mine"


async def test_who_only_reads_finds_what_was_merged_and_leaves_nothing_to_anybody(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    await run.merges("coder-1")
    repository = Repository(read_only=True)
    told = Standing(access=repository.kind, stand=dict(run.stand))
    for _ in range(2):
        call = replace(run.call("coder-1").call, instance="reviewer-1")
        desk = repository.desk(("textkit", "run-id"), call, told)
        desk.site = run.site
        desk.begin()
        assert desk.workspace.list_files() == ["a"]
        assert desk.workspace.read("a") == "1"
        desk.workspace.write("a", "what a test wrote")
        desk.workspace.write("report.txt", "<<<<<<< \n>>>>>>> ")
        assert desk.unfinished() == ""
        assert desk.end() == {}
    assert (run.files(MAIN), run.left()) == ({"a": "1"}, {})
    assert "reviewer-1" not in run.site.git.references("refs/heads/")
    with pytest.raises(DeclarationError, match="choose one"):
        Repository(shared=True, read_only=True)


def test_what_a_run_is_started_with_comes_before_the_agents_source_and_that_before_the_environments(
    run: Run, workspaces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = run.call("coder-1").call
    monkeypatch.setenv("REPOSITORY", "/environment")

    def source(own: str, option: str) -> str:
        return Repository(own).desk(("textkit", "run-id"), call, Standing(access="own", source=option)).source

    assert [source("", ""), source("/own", ""), source("/own", "/option")] == ["/environment", "/own", "/option"]


def test_a_machine_without_git_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert git_in_words().startswith("Git: 2.")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_in_words().startswith("Git: none. There is no git here")
    with pytest.raises(NoGit, match="apt-get install git"):
        program()
    keeps, has_none = (Settings.read(bare=True, modules=[name]) for name in ("activities.merger", "examples/hello.py"))
    assert "apt-get install git" in git_of(keeps)  # what a worker says at its start
    assert git_of(has_none) == ""
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.20.1\n")
    old.chmod(0o755)
    git_module._found.cache_clear()
    with pytest.raises(NoGit, match=r"too old \(git version 2\.20\.1\)"):
        program()
    git_module._found.cache_clear()


def test_what_git_refuses_is_told(run: Run) -> None:
    run.does("coder-1", {"a": "1"})
    with pytest.raises(GitFailed, match=r"git ls-tree .* failed \(128\): fatal: "):
        run.site.git.tree("nothing")
