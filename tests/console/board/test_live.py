from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from console.board import live
from console.board.live import Watched


class Page:
    """A page that is looked at, and changes when told to."""

    def __init__(self) -> None:
        self.looks = 0
        self.parts: dict[str, str] = {"now": "0", "rest": "same"}
        self.is_over = False

    async def look(self) -> tuple[Mapping[str, str], bool]:
        self.looks += 1
        return dict(self.parts), self.is_over


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page that is looked at a hundred times a second."""
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    return Page()


async def test_a_reader_gets_all_first_and_then_what_has_changed(page: Page) -> None:
    parts = Watched(page.look).parts()
    assert await anext(parts) == {"now": "0", "rest": "same"}
    page.parts["now"] = "1"
    assert await anext(parts) == {"now": "1"}
    page.is_over = True
    assert [part async for part in parts if part] == []


async def test_fifty_readers_cost_one_look(page: Page) -> None:
    watched = Watched(page.look)

    async def read() -> list[Mapping[str, str]]:
        return [parts async for parts in watched.parts() if parts]

    reading = [asyncio.create_task(read()) for _ in range(50)]
    for number in range(1, 6):
        page.parts["now"] = str(number)
        before = page.looks
        while page.looks < before + 2:
            await asyncio.sleep(0.005)
    page.is_over = True
    seen = await asyncio.gather(*reading)
    assert all(parts[-1]["now"] == "5" for parts in seen)
    assert page.looks < 100


async def test_a_slow_reader_misses_what_was_in_between_and_holds_nobody_up(page: Page) -> None:
    watched = Watched(page.look)
    slow, quick = watched.parts(), watched.parts()
    assert await anext(slow) == await anext(quick) == {"now": "0", "rest": "same"}
    for number in range(1, 4):
        page.parts["now"] = str(number)
        while (await anext(quick)).get("now") != str(number):
            pass
    assert await anext(slow) == {"now": "3"}


async def test_nobody_looks_when_nobody_watches(page: Page) -> None:
    watched = Watched(page.look)
    parts = watched.parts()
    await anext(parts)
    await parts.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0.05)
    looks = page.looks
    await asyncio.sleep(0.05)
    assert page.looks == looks
    assert not watched.is_watched
