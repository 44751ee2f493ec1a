"""The workflow that keeps pages of a run's journal, `<workflow id>/journal`: where they are many, or large."""

from __future__ import annotations

from temporalio import workflow

from activities.contract.conversations import Owner
from activities.contract.names import JOURNAL


@workflow.defn(name=JOURNAL, sandboxed=False)
class JournalPages:
    """Keeps pages until the run has ended."""

    @workflow.init
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._pages: dict[str, bytes] = {}
        self._ended = False

    @workflow.run
    async def run(self, owner: Owner) -> str:
        """Keep pages for a run.

        Args:
            owner: The run.
        """
        await workflow.wait_condition(lambda: self._ended)
        return f"kept {len(self._pages)} pages"

    @workflow.update(description="Keep another page.")
    def add(self, name: str, page: bytes) -> None:
        """Keep a page, once, however often it is sent.

        Args:
            name: The digest of what it holds.
            page: What it holds.
        """
        self._pages[name] = page

    @workflow.query(description="A page of the journal, by its name.")
    def page(self, name: str) -> bytes:
        """Return a page."""
        return self._pages[name]

    @workflow.signal(description="End, if this still belongs to that run.")
    def end(self, owner: Owner) -> None:
        """End; what was kept is not needed any more."""
        self._ended = self._ended or owner == self._owner
