"""What is heard of an answer while it comes: for whoever listens, and to tell a silence from a long answer.

with listening(print):
    await complete(request)          # prints Delta(kind='text', text='It '), Delta(kind='text', text='rained.')
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from activities.contract.usage import Usage
from activities.contract.words import Kind

logger = logging.getLogger(__name__)

SILENCE_S = 60.0
"""Seconds without a sign of life after which an answer that has begun to come is given up."""


@dataclass(frozen=True)
class Delta:
    """A piece of an answer.

    Attributes:
        kind: Whether it is of the text, of the reasoning before it, or of the arguments of a tool that is called.
        text: The piece.
        tool: The tool's name, with the first piece of its arguments.
        begins: Whether it is the first piece of an answer.
    """

    kind: Kind
    text: str
    tool: str = ""
    begins: bool = field(default=False, compare=False)


Listener: TypeAlias = Callable[[Delta], object]

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())
_accounts: ContextVar[Callable[[Usage], None] | None] = ContextVar("accounts", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have every piece of the answers that are asked for inside told as soon as it comes.

    Args:
        listener: Is told; in another thread, that of all requests, which it must not hold up.
    """
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def counting(use: Callable[[Usage], None]) -> Iterator[None]:
    """Have told what answers have used that broke off, and are paid for all the same.

    Args:
        use: Is told; in the thread of the caller.
    """
    token = _accounts.set(use)
    try:
        yield
    finally:
        _accounts.reset(token)


def count(usage: Usage) -> None:
    """Tell what an answer has used that broke off."""
    if use := _accounts.get():
        use(usage)


class Hearing:
    """What is heard of one answer.

    Attributes:
        silence: Seconds without a sign of life after which it is given up; 0 where it is not to come in pieces.
        characters: How many have come so far.
        first_s: Seconds from the question to the first piece; None before it.
        whole: Whether all of it has come.
        told: What the response's headers tell of the provider's limits.
    """

    def __init__(self, silence: float) -> None:
        """Begin with the question.

        Args:
            silence: Seconds without a sign of life after which the answer is given up, once it has begun.
        """
        self.silence = silence
        self.characters = 0
        self.first_s: float | None = None
        self.whole = False
        self.told: Mapping[str, str] = {}
        self._listeners = _listeners.get()
        self._asked = time.monotonic()

    @property
    def broke_off(self) -> bool:
        """Whether it has begun to come, and has not come to its end."""
        return self.first_s is not None and not self.whole

    def hear(self, delta: Delta) -> None:
        """Take in a piece."""
        if self.first_s is None:
            self.first_s = time.monotonic() - self._asked
            delta = replace(delta, begins=True)
        self.characters += len(delta.text)
        for listener in self._listeners:
            try:
                listener(delta)
            except Exception:
                logger.exception("who listens to an answer failed, and is told no more of it")
                self._listeners = tuple(other for other in self._listeners if other is not listener)

    def in_words(self) -> str:
        """Say how much has come."""
        return f"{self.characters:,} characters" if self.characters else "no more than its beginning"
