"""What the demo says: a line for what happens and, while nothing does, for what is waited for. It is never silent.

with Narrator("the server") as narrator:
    narrator.say("Spec:    a library")
    narrator.waits_for("the worker")
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TextIO

_SILENT_S = 1.0


class Narrator:
    """Says what happens; a thread says meanwhile what is waited for, whatever holds up the others.

    On a terminal that is one line, written over each time and gone at the end; elsewhere it is a line each time.
    """

    def __init__(self, waits_for: str, out: TextIO | None = None) -> None:
        """Begin to wait for something.

        Args:
            waits_for: What, in words.
            out: Where to say it; the standard output if none is given.
        """
        self._out = out or sys.stdout
        self._in_place = self._out.isatty()
        self._turn = threading.Condition()
        self._over = False
        self._line_stands = False
        self._last = self._since = time.monotonic()
        self._what: Callable[[], str] = lambda: waits_for
        self._thread = threading.Thread(target=self._talk, name="narrator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._turn:
            self._over = True
            self._turn.notify()
        self._thread.join()

    def say(self, text: str = "") -> None:
        """Say what has happened."""
        with self._turn:
            self._write(f"{text}\n", passing=False)
            self._since = time.monotonic()

    def waits_for(self, what: str | Callable[[], str]) -> None:
        """Set what is waited for from now on.

        Args:
            what: In words, or what tells it each time.
        """
        with self._turn:
            self._what = what if callable(what) else lambda: what
            self._since = time.monotonic()

    def _talk(self) -> None:
        with self._turn:
            while not self._over:
                rest = self._last + _SILENT_S - time.monotonic()
                if rest > 0:
                    self._turn.wait(rest)
                    continue
                waited = f"{time.monotonic() - self._since:.0f} s"
                with suppress(OSError):  # who listened has gone, which the one who says something is told
                    self._write(f"         … waiting for {self._what()} ({waited})", passing=True)
            with suppress(OSError):
                self._write("", passing=False)

    def _write(self, text: str, *, passing: bool) -> None:
        self._last = time.monotonic()
        before = "\r\033[K" if self._line_stands else ""
        if passing:
            text = text[: shutil.get_terminal_size().columns - 1] if self._in_place else f"{text}\n"
        self._line_stands = passing and self._in_place
        print(f"{before}{text}", end="", file=self._out, flush=True)
