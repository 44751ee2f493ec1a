"""What a run that continues as new takes along, and where the pages of its journal are kept."""

from __future__ import annotations

from pydantic import BaseModel

PAGES_ENCODING = b"json/pages-of-a-journal"
"""The encoding of a payload that stands for pages of a journal in the inputs of a run."""


CARRIED = b'{"carried":'
"""How the first input of a run begins that continues as new, or that goes on where another one was."""


class PagesKept(BaseModel):
    """Where pages of a journal are kept, and which."""

    workflow_id: str
    pages: list[str] = []
    """Their names, in order: digests of what they hold."""
    size: int = 0
    """Bytes in all of them."""
