"""What an attempt at a call has said so far: for people who look at the call while it is in flight."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from activities.border.context import CallContext
from activities.border.secrets import unfinished_secret
from activities.border.washing import fit_to_leave, said
from activities.contract.words import Kind, Saying, SoFar, State, Words
from activities.memory.transcript import Entry, for_people
from activities.models.hearing import Delta
from activities.models.reading import BYTES_OF_A_TOKEN

SHOWN = 200
"""Characters of its end that a heartbeat tells."""

KEPT = 100_000
"""Characters of an answer that are kept for whoever asks, the last ones."""

MOST_ENTRIES = 40
"""Entries that are told at once, each of them in short; whoever wants more asks again."""


class Received:
    """What an attempt has said; of several answers that come at once, what comes last.

    Pieces come in the thread of all requests, and questions in others.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.call = self.instance = self.method = self.step = self.attempt = ""
        self.began = 0.0
        self.resumed = 0
        self._entries: Callable[[], Sequence[Entry]] = tuple
        self._whole = 0
        self._end = ""
        self._characters = 0
        self._answer = 0
        self._coming = self._ended = False
        self._start = 0
        self._pieces: list[_Piece] = []
        self._kept = 0
        self._lock = threading.Lock()

    def begin(
        self, call: CallContext, name: str, attempt: str, began: float, entries: Callable[[], Sequence[Entry]]
    ) -> None:
        """Say whose it is.

        Args:
            call: Whose.
            name: Which call it is; no other has the same.
            attempt: Which attempt it is.
            began: When it began.
            entries: Returns what was said, whole.
        """
        self.instance, self.method, self.step = call.instance, call.method, call.step
        self.call, self.attempt = name, attempt
        self.began = began
        self._entries = entries
        self.resumed = self._whole = len(entries())

    def hear(self, delta: Delta) -> None:
        """Take in a piece, in whatever thread it is told."""
        with self._lock:
            if delta.begins or not self._coming:
                self._answer += 1
                self._coming, self._start, self._kept, self._pieces = True, 0, 0, []
                self._end, self._characters = "", 0
            self._characters += len(delta.text) + len(delta.tool)
            self._end = f"{self._end}{f' {delta.tool} ' if delta.tool else ''}{delta.text}"[-SHOWN:]
            if not self._pieces or delta.tool or self._pieces[-1].kind != delta.kind:
                if self._pieces:
                    self._pieces[-1].settle(whole=True)
                self._pieces.append(_Piece(delta.kind, delta.tool))
            self._pieces[-1].raw.append(delta.text)
            self._kept += len(delta.text)
            if self._kept > 2 * KEPT:
                self._leave_out()

    def forget(self) -> None:
        """Note that the answer is whole."""
        with self._lock:
            self._end, self._characters, self._coming = "", 0, False
            self._whole = len(self._entries())

    def told(self) -> dict[str, Any]:
        """Return what is told beside the checkpoint; nothing if nothing comes."""
        if not self._characters:
            return {}
        return {"receiving": {"tokens": self._characters // BYTES_OF_A_TOKEN + 1, "end": said(self._end, SHOWN)}}

    @property
    def has_said(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._answer or self._entries())

    def end(self) -> None:
        """Note that the attempt is over."""
        with self._lock:
            self._ended, self._entries = True, functools.partial(tuple, self._entries())

    def saying(self, so_far: SoFar) -> Saying | None:
        """Return what has come since somebody asked; None if nothing has.

        Args:
            so_far: What is known already.
        """
        goes_on = so_far.attempt == self.attempt
        with self._lock:
            entries = self._entries()[: self._whole]  # what comes after has not been recorded yet
            number = min(so_far.entries, len(entries)) if goes_on else 0
            new = [for_people(entry) for entry in entries[number : number + MOST_ENTRIES]]
            known = so_far.characters if goes_on and so_far.answer == self._answer else 0
            start, words = self._words(max(known, self._start))
            state: State = "ended" if self._ended else "coming" if self._coming else "silent"
            if goes_on and not new and not words and state == so_far.state:
                return None
            return Saying(
                call=self.call,
                step=self.step,
                instance=self.instance,
                method=self.method,
                attempt=self.attempt,
                began=self.began,
                resumed=self.resumed,
                number=number,
                entries=new,
                answer=self._answer,
                start=start,
                words=words if number + len(new) == len(entries) else [],  # which come after them
                state=state,
            )

    def _words(self, start: int) -> tuple[int, list[Words]]:
        for piece in self._pieces[-1:]:
            piece.settle(whole=not self._coming)
        words, passed = [], self._start
        for piece in self._pieces:
            if text := piece.told[max(start - passed, 0) :]:
                words.append(Words(kind=piece.kind, text=text, tool=piece.tool))
            passed += len(piece.told)
        return min(start, passed), words

    def _leave_out(self) -> None:
        """Leave out the beginning of a long answer."""
        for piece in self._pieces[-1:]:
            piece.settle(whole=False)
        self._kept = sum(len(piece.told) for piece in self._pieces)
        for piece in self._pieces:
            out = max(min(self._kept - KEPT, len(piece.told)), 0)
            piece.told = piece.told[out:]
            self._start += out
            self._kept -= out
        self._pieces = [piece for piece in self._pieces[:-1] if piece.told] + self._pieces[-1:]


class _Piece:
    """A part of an answer that is of one kind.

    Attributes:
        told: What of it may be told: washed, and without secrets.
        raw: What has come since.
    """

    def __init__(self, kind: Kind, tool: str) -> None:
        self.kind: Kind = kind
        self.tool = tool
        self.told = ""
        self.raw: list[str] = []

    def settle(self, *, whole: bool) -> None:
        """Wash what has come; as long as more may come, leave what may be the beginning of a secret."""
        if not self.raw:
            return
        text = "".join(self.raw)
        kept = 0 if whole else unfinished_secret(text)
        self.told += fit_to_leave(text[: len(text) - kept])
        self.raw = [text[-kept:]] if kept else []
