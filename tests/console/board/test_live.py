from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from console import looking
from console.board import live
from console.board.live import Look, Watched
from tests.conftest import Runs
from tests.console.board.conftest import Served


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


async def test_who_comes_later_is_sent_nothing_that_was_seen_before(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EVERY_S", 600)
    watched = Watched(page.look)
    first, second = watched.parts(), watched.parts()
    assert await anext(first) == {"now": "0", "rest": "same"}
    page.parts["now"] = "1"
    assert await anext(second) == {"now": "1", "rest": "same"}
    assert await anext(first) == {"now": "1"}
    for reader in (first, second):
        await reader.aclose()  # type: ignore[attr-defined]


async def test_who_watches_is_told_when_nobody_can_look_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> tuple[Mapping[str, str], bool]:
        raise KeyError("now")

    with pytest.raises(KeyError, match="now"):
        await anext(Watched(look).parts())


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


async def test_all_who_watch_a_run_come_at_once_and_cost_one_look(
    runs: Runs, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = 0, looking.look

    async def counted(*given: Any) -> None:
        nonlocal looks
        looks += 1
        await look(*given)

    monkeypatch.setattr("console.board.reading.look", counted)
    monkeypatch.setattr(live, "EVERY_S", 60)
    board = await served("ann=steer:first-secret tv=look:third-secret")
    async with runs.serving("tests.workflows.council"), AsyncExitStack() as stack:
        run = await runs.start("decide_once", {"title": "Roses", "pages": 12})

        async def watch(who: str) -> str:
            headers = {"Authorization": f"Bearer {who}-secret"}
            stream = await stack.enter_async_context(board.stream("GET", f"/runs/{run.id}/live", headers=headers))
            lines = stream.aiter_lines()
            while (line := await anext(lines)) != "event: now":
                pass
            return line

        assert len(await asyncio.gather(*(watch(who) for who in ["first", "third"] * 10))) == 20
    assert looks == 1


async def test_a_look_that_fails_fails_for_all_who_wait_and_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        if looks == 1:
            raise OSError("gone")
        return looks

    monkeypatch.setattr(live, "EVERY_S", 0.01)
    shared = Look(look)
    assert [str(error) for error in await asyncio.gather(shared.now(), shared.now(), return_exceptions=True)] == [
        "gone"
    ] * 2
    await asyncio.sleep(0.02)
    assert [await shared.now(), await shared.now()] == [2, 2]
