"""The workflow that keeps pages of a run's ledger, `<workflow id>/ledger`: where they are many, or large."""

from __future__ import annotations

from temporalio import workflow

from activities.contract import LEDGER


@workflow.defn(name=LEDGER, sandboxed=False)
class LedgerPages:
    """Keeps pages until the run has ended."""

    @workflow.init
    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._pages: list[bytes] = []
        self._ended = False

    @workflow.run
    async def run(self, owner: str) -> str:
        """Keep pages for a run.

        Args:
            owner: Its first run id.
        """
        await workflow.wait_condition(lambda: self._ended)
        return f"kept {len(self._pages)} pages"

    @workflow.update(description="Keep another page.")
    def add(self, number: int, page: bytes) -> None:
        """Keep a page, once, however often it is sent.

        Args:
            number: How many there are before it.
            page: What it holds.
        """
        del self._pages[number:]
        self._pages.append(page)

    @workflow.query(description="A page of the ledger, by its number from 0.")
    def page(self, number: int) -> bytes:
        """Return a page."""
        return self._pages[number]

    @workflow.signal(description="End, if this still belongs to that run.")
    def end(self, owner: str) -> None:
        """End; what was kept is not needed any more."""
        self._ended = self._ended or owner == self._owner
