"""What agents say, heard while they say it: each word once, and nothing of it in any history."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from uuid import uuid4

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from activities.contract.names import hearing_of
from activities.contract.words import Saying
from console.words import CallHeard, News, Overhearing, Reader
from tests.conftest import Ledger, Runs
from tests.provider import Provider, Streamed, Text, ToolCall, Tools

COUNCIL = ("tests.workflows.council",)
SENTENCE = "It rained all day, and nobody went out. " * 5


async def heard(client: Client, run: str, *readers: Reader, until: str) -> list[list[News]]:
    """Listen until something has happened to a call; return what each reader was told."""
    hearing = Overhearing(client, run)
    told: list[list[News]] = [[] for _ in readers]
    async with asyncio.timeout(60):
        while not any(news.event == until for news in told[0]):
            await hearing.listen()
            for reader, news in zip(readers, told, strict=True):
                news += reader.news(hearing.calls)
            await asyncio.sleep(0.02)
    return told


def words(news: list[News]) -> str:
    return "".join(one.text or "" for one in news if one.event == "words")


async def scheduled(run: WorkflowHandle[object, object]) -> int:
    """Wait until a call has begun; return how many events there are."""
    while True:
        described = await run.describe()
        if any(call.HasField("last_started_time") for call in described.raw_description.pending_activities):
            return described.history_length
        await asyncio.sleep(0.05)


async def test_words_come_while_they_are_said_and_add_no_event(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Streamed(Text(SENTENCE), seconds=0.02, pieces=20))
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "Roses")
        before = await scheduled(run)
        hearing, reader, news = Overhearing(runs.client, run.id), Reader(), list[News]()
        while len(words(news)) < 60:
            await hearing.listen()
            news += reader.news(hearing.calls)
            await asyncio.sleep(0.02)
        assert (await run.describe()).history_length == before
        await run.terminate()
    assert [one.event for one in news[:3]] == ["call", "said", "words"]
    assert (news[0].instance, news[0].method) == ("press-1", "Press.produce")
    assert SENTENCE.startswith(words(news))
    asked = await runs.client.get_workflow_handle(hearing_of(runs.client.identity)).describe()
    assert asked.status == WorkflowExecutionStatus.COMPLETED


async def test_whoever_goes_on_where_they_were_is_told_nothing_twice(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    look = ToolCall("look_up", {"title": "Roses", "ledger": str(ledger.path)})
    provider.enqueue(Tools((look,), content="I look."), Streamed(Text(SENTENCE * 20), seconds=0.05))
    async with runs.serving(*COUNCIL):
        run = await runs.start("produce_twice", "Roses")
        while len(provider.requests) < 2:
            await asyncio.sleep(0.02)
        first, other = Reader(), Reader(instance="press-2")
        early, nothing = await heard(runs.client, run.id, first, other, until="words")
        [late] = await heard(runs.client, run.id, Reader.at(first.position), until="words")
        await run.terminate()
    said = [one.said for one in early + late if one.said]
    assert [one.who for one in said] == ["user", "assistant", "tool"]
    assert [one.tools[0][0] for one in said if one.tools] == ["look_up"]
    after = early[[one.event for one in early].index("words") :] + late
    assert (SENTENCE * 20).startswith(words(after))
    assert words(early)
    assert words(late)
    assert nothing == []


def saying(text: str, **told: object) -> Saying:
    known = {
        "call": "c",
        "step": "1",
        "instance": "press-1",
        "method": "Press.produce",
        "attempt": "a",
        "began": 1,
        "resumed": 0,
    }
    spoken = {"words": [{"kind": "text", "text": text}] if text else []}
    return Saying.model_validate({"number": 0, "answer": 1, "state": "coming", **spoken, **known, **told})


def call(*told: Saying) -> CallHeard:
    made = CallHeard.of(told[0])
    for one in told:
        made.take(one)
    return made


def in_words(news: list[News]) -> Iterator[str]:
    for one in news:
        yield one.text or (
            f"{one.event} {one.stand}" if one.event == "again" else one.said.text if one.said else one.event
        )


def test_a_call_that_is_tried_again_takes_back_what_does_not_stand() -> None:
    reader = Reader()
    entries = [{"role": "user", "content": "How was it?"}, {"role": "assistant", "content": "One."}]
    first = call(saying("Tw", entries=entries))
    assert list(in_words(reader.news({"c": first}))) == ["call", "How was it?", "One.", "Tw"]
    again = call(saying("Two.", entries=entries[:1], attempt="b", began=2, resumed=1))
    assert list(in_words(reader.news({"c": again}))) == ["again 1", "Two."]
    assert reader.news({"c": again}) == []


def test_another_call_of_the_same_step_is_another() -> None:
    reader = Reader()
    entries = [{"role": "user", "content": "How was it?"}]
    first = call(saying("Tw", entries=entries))
    assert list(in_words(reader.news({"c": first}))) == ["call", "How was it?", "Tw"]
    entries.append({"role": "assistant", "content": "Two."})
    first.take(saying("", number=1, entries=entries[1:], start=2, state="ended"))
    other = call(saying("Tw", entries=entries[:1], call="d", attempt="b", began=2))
    told = list(in_words(reader.news({"c": first, "d": other})))
    assert told == ["Two.", "ended", "call", "How was it?", "Tw"]


def test_a_late_reader_is_told_all_at_once_and_what_is_whole_in_the_place_of_its_words() -> None:
    reader, heard = Reader(), call(saying("It "))
    reader.news({"c": heard})
    for word in ("rained ", "all ", "day."):
        heard.take(saying(word, start=heard.characters))
    assert list(in_words(reader.news({"c": heard}))) == ["rained all day."]
    whole = {"role": "assistant", "content": "It rained all day."}
    heard.take(saying("", entries=[whole], start=heard.characters, state="ended"))
    assert list(in_words(reader.news({"c": heard}))) == ["It rained all day.", "ended"]
    assert list(in_words(Reader().news({"1": heard}))) == []
    assert Reader.at("no position")._known == {}


def test_a_position_among_many_calls_fits_into_a_header_and_is_gone_on_from() -> None:
    reader, heard = Reader(), call(saying("It rained."))
    calls = {
        name: dataclasses.replace(heard, call=name, step=f"12.{number}.1", attempt=uuid4().hex[:16])
        for number in range(150)
        if (name := uuid4().hex[:12])
    }
    reader.news(calls)
    assert len(reader.position) < 8_000
    again = Reader.at(reader.position)
    assert again.news({}) == []  # as before somebody has answered
    behind = {name: dataclasses.replace(one, words=[]) for name, one in calls.items()}
    assert again.news(behind) == again.news(calls) == []
