"""The demo's narrator: lines for what happens, and in between what is waited for."""

from __future__ import annotations

import io
import time

import pytest

from console.narrator import Narrator


class Screen(io.StringIO):
    """A terminal's output, as it was sent there."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.narrator._SILENT_S", 0.02)


def told(out: io.StringIO, text: str) -> str:
    """Wait until a text was said; return all that was."""
    deadline = time.monotonic() + 10
    while text not in out.getvalue():
        assert time.monotonic() < deadline, out.getvalue()
        time.sleep(0.005)
    return out.getvalue()


def test_who_waits_is_told_for_what_though_everything_is_held_up() -> None:
    out = io.StringIO()
    with Narrator("the server", out):
        assert told(out, "(0 s)\n").startswith("         … waiting for the server (0 s)\n")


def test_what_is_waited_for_is_asked_each_time() -> None:
    out = io.StringIO()
    calls = ["coder-1"]
    with Narrator("the server", out) as narrator:
        narrator.waits_for(lambda: ", ".join(calls))
        told(out, "waiting for coder-1 ")
        calls.append("coder-2")
        told(out, "waiting for coder-1, coder-2 ")


def test_on_a_terminal_one_line_is_written_over_and_gone_at_the_end() -> None:
    screen = Screen()
    with Narrator("the server", screen) as narrator:
        told(screen, "waiting")
        narrator.say("It is there.")
        told(screen, "It is there.\n         … waiting")
    said = screen.getvalue()
    assert said.count("\n") == 1
    assert "\r\033[KIt is there.\n" in said
    assert said.endswith("\r\033[K")


def test_a_line_on_a_terminal_is_not_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    with Narrator("x" * 100, screen):
        told(screen, "waiting")
    line = screen.getvalue().split("\r")[0]
    assert len(line) == 39
    assert line.startswith("         … waiting for xxx")


def test_nothing_is_waited_for_while_enough_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.narrator._SILENT_S", 60)
    out = io.StringIO()
    with Narrator("the server", out) as narrator:
        for line in ("one", "two", "three"):
            narrator.say(line)
    assert out.getvalue() == "one\ntwo\nthree\n"


def test_whoever_has_stopped_listening_ends_no_narrator() -> None:
    out = io.StringIO()
    narrator = Narrator("the server", _Closed(out))
    with narrator:
        told(out, "tried\n" * 3)
    with pytest.raises(BrokenPipeError):
        narrator.say("anybody there?")


class _Closed(io.StringIO):
    def __init__(self, tried: io.StringIO) -> None:
        super().__init__()
        self._tried = tried

    def write(self, text: str) -> int:
        self._tried.write("tried\n")
        raise BrokenPipeError
