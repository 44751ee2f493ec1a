"""Where the pages of a run's journal are kept."""

from __future__ import annotations

from pydantic import BaseModel

PAGES_ENCODING = b"json/pages-of-a-journal"
"""The encoding of a payload that stands for pages of a journal in the inputs of a run."""


class PagesKept(BaseModel):
    """Where pages of a journal are kept, and which."""

    workflow_id: str
    pages: list[str] = []
    """Their names, in order: digests of what they hold."""
    size: int = 0
    """Bytes in all of them."""
