"""A call at its branch: its folder is brought to where the branch stands, and what it has changed becomes one commit.

Each step can be done again by the next attempt of the call: what was done is found by the note of the branch and by the
trailer `Call` of its newest commit. What a call leaves that did not end well is put under `refs/left`, by the next one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from activities.contract.branches import MAIN
from activities.errors import ResultInvalid
from activities.workspace.git import Entry, Git
from activities.workspace.site import Call, Note, Site
from activities.workspace.tree import Found, changes_to, is_as, put_away, read_tree, write_tree
from activities.workspace.workspace import Workspace

_MARKERS = (b"<<<<<<< ", b">>>>>>> ")


@dataclass
class Desk:
    """Where one call works.

    Attributes:
        site: The run's repository.
        branch: On what it works: its instance's branch, or `main` where all share one tree.
        call: Who works.
        stand: Where branches stand as far as the run knows, by commits.
        source: What the repository begins from.
        moved: Where branches stand since this call.
    """

    site: Site
    branch: str
    call: Call
    stand: Mapping[str, str]
    source: str = ""
    moved: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def workspace(self) -> Workspace:
        """The folder in which the call works."""
        return Workspace(self.site.tree(self.branch))

    def begin(self) -> None:
        """Have the folder hold what the call begins with; for a later attempt, leave it as the earlier one left it."""
        git = self.site.make(self.call, self.source)
        with self.site.locked(self.branch):
            note = self.site.note(self.branch)
            if note is not None and note.call == self.call.key and note.ready and self.workspace.root.is_dir():
                return
            if note is None or note.call != self.call.key:
                self._set_aside(git, note)
                note = Note(call=self.call.key)
                self.site.write_note(self.branch, note)
            self._prepare(git, note)

    def unfinished(self) -> str:
        """Say what keeps the call from ending, to its author; nothing if nothing does."""
        note = self.site.note(self.branch)
        marked = [path for path in note.conflicts if self._is_marked(path)] if note else []
        if marked:
            return (
                f"These files still hold both sides of a conflict with what others have merged: {', '.join(marked)}. "
                "In each, put one text in place of everything from a line <<<<<<< to the line >>>>>>>, so that it does "
                "what both sides are for."
            )
        return " ".join(read_tree(self.workspace.root).unfit[:5])

    def end(self) -> dict[str, str]:
        """Commit what the call has changed, once; return where its branch then stands.

        Raises:
            ResultInvalid: Something keeps the call from ending.
        """
        if told := self.unfinished():
            raise ResultInvalid(f"{self.call.method} ({self.call.instance}) can't be committed: {told}")
        git = self.site.git
        with self.site.locked(self.branch):
            note = self.site.note(self.branch)
            if note is None or note.call != self.call.key:
                raise RuntimeError(f"another call works on {self.branch} since; this attempt was given up meanwhile")
            head = git.commit_of(f"refs/heads/{self.branch}")
            commit = self._committed(git, note)
            self._move(git, commit, head)
        return {**self.moved, self.branch: commit}

    def _committed(self, git: Git, note: Note) -> str:
        """Return the commit of what is in the folder: that on which the call works, if nothing was changed."""
        before = git.tree(note.base)
        found = read_tree(self.workspace.root)
        if is_as(found.files, before) and not note.merging:
            return note.base
        changes = changes_to(self.workspace.root, found.files, before)
        parents = [note.base, note.merging] if note.merging else [note.base]
        kept = f"refs/calls/{self.branch}/{self._name}"  # wherever its branch goes
        return git.commit_changes(kept, parents, changes, self.call.message())

    def _set_aside(self, git: Git, note: Note | None) -> None:
        """Keep what is in the folder and in no commit, as whoever worked there did not end well."""
        root, head = self.workspace.root, git.commit_of(f"refs/heads/{self.branch}")
        if not root.is_dir() or (note is not None and not note.ready) or not head:
            return
        found = read_tree(root)
        if found.unfit:
            put_away(root, self.site.left())
            return
        before = git.tree(head)
        if not is_as(found.files, before) and not self._is_as_begun(git, note, found):
            message = self.call.message(f"Left on {self.branch} by a call that did not end well")
            changes = changes_to(root, found.files, before)
            git.commit_changes(f"refs/left/{self.branch}/{self._name}", [head], changes, message)

    def _is_as_begun(self, git: Git, note: Note | None, found: Found) -> bool:
        """Whether a folder with conflicts in it was not touched."""
        if note is None or not note.merging:
            return False
        return is_as(found.files, git.merged(note.base, note.merging, (self.branch, MAIN)).files)

    def _prepare(self, git: Git, note: Note) -> None:
        """Bring branch and folder to where the run knows the branch to stand, with what was merged meanwhile."""
        reference, main = f"refs/heads/{self.branch}", self.site.stands(MAIN, self.stand.get(MAIN, ""))
        known = self.site.stands(self.branch, self.stand.get(self.branch, ""))
        base, tree = self._with_main(git, known, main, note)
        self._move(git, base, git.commit_of(reference))
        write_tree(self.workspace.root, tree or git.tree(base), git)
        note.base, note.ready = base, True
        self.site.write_note(self.branch, note)

    def _with_main(self, git: Git, known: str, main: str, note: Note) -> tuple[str, Mapping[str, Entry] | None]:
        """Return the commit to work on, and where it conflicts with `main`, what the folder is to hold."""
        if git.is_ancestor(main, known):
            return known, None
        if git.is_ancestor(known, main):
            return main, None
        merged = git.merged(known, main, (self.branch, MAIN))
        if not merged.conflicts:
            message = self.call.message(f"Take in {MAIN}")
            return git.commit_tree(merged.tree, [known, main], message), None
        note.merging, note.conflicts = main, list(merged.conflicts)
        return known, merged.files

    def _move(self, git: Git, commit: str, head: str) -> None:
        """Move the branch; a commit that it does not lead to any more is kept beside."""
        if head == commit:
            return
        own = git.trailer(head, "Call") == self.call.key if head else True
        if not own and not git.is_ancestor(head, commit):
            self.site.leave(self.branch, head)
        git.point(f"refs/heads/{self.branch}", commit)

    def _is_marked(self, path: str) -> bool:
        with contextlib.suppress(Exception):
            lines = self.workspace.read(path).encode().splitlines()
            return all(any(line.startswith(marker) for line in lines) for marker in _MARKERS)
        return False

    @property
    def _name(self) -> str:
        """The call's key as a part of a reference."""
        return self.call.key.replace("/", "-")


_current: ContextVar[Desk | None] = ContextVar("desk", default=None)


def current_desk() -> Desk | None:
    """Return where the call works that is being answered here; None if it has no repository."""
    return _current.get()


@contextlib.contextmanager
def working_at(desk: Desk | None) -> Iterator[None]:
    """Let a call work at a desk."""
    token = _current.set(desk)
    try:
        yield
    finally:
        _current.reset(token)
