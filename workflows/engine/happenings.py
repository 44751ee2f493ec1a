"""What happens to a run's program: steps that end, and how that is written down on the pages of a journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from workflows.engine.packing import pack, unpack


class Step(NamedTuple):
    """A piece of work that the program waits for.

    Attributes:
        id: Its place in the program.
        what: What it is, for people.
        digest: What is asked, to tell it from other work at the same place.
    """

    id: str
    what: str
    digest: str = ""

    def is_as(self, other: Step) -> bool:
        """Whether it is the same work at the same place."""
        return (self.id, self.digest) == (other.id, other.digest)


@dataclass(frozen=True)
class Outcome:
    """How a step ended: with data, with an error's kind and reason, or cancelled.

    Attributes:
        data: JSON.
        error: Kind and reason.
        cause: What the error came from; it is not written down.
        past: Whether it was so in an earlier run, and is accounted for.
    """

    data: str | None = None
    error: tuple[str, str] | None = None
    cause: BaseException | None = None
    past: bool = False


class Happening(NamedTuple):
    """The end of a step, as the program was told it.

    Attributes:
        at: Seconds since the program began.
        step: What has ended.
        outcome: How.
    """

    at: float
    step: Step
    outcome: Outcome


def write_page(happenings: Iterable[Happening]) -> bytes:
    """Write down what happened."""
    return pack([round(h.at, 3), *h.step, h.outcome.data, h.outcome.error] for h in happenings)


def read_pages(pages: bytes) -> Iterator[Happening]:
    """Read what was written, page after page."""
    for at, id, what, digest, data, error in unpack(pages):
        yield Happening(at, Step(id, what, digest), Outcome(data, tuple(error) if error else None, past=True))
