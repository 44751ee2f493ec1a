from __future__ import annotations

import json
import random
import string

from hypothesis import given
from hypothesis import strategies as st

from activities.contract import PAYLOAD_LIMIT, Usage
from activities.progress import READABLE_BYTES, Progress


def result(text: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": "c1", "content": text}


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(0, 9), st.sampled_from([0, 500]))
def test_progress_that_was_recorded_is_read_as_it_was(texts: list[str], failures: int, times: int) -> None:
    entries = [result(text * (times + 1)) for text in texts]
    progress = Progress(entries=entries, failures=failures, usage=Usage(models=["m"], cost_usd=None), state={"a": [1]})
    assert Progress.read(json.loads(json.dumps(progress.record()))) == progress


def test_short_progress_can_be_read_by_people() -> None:
    assert Progress(entries=[result("fine")]).record()["entries"] == [result("fine")]


def test_long_progress_is_compressed() -> None:
    written = json.dumps(Progress(entries=[result("word " * READABLE_BYTES)]).record())
    assert len(written) < READABLE_BYTES


def test_no_progress_is_larger_than_the_server_takes() -> None:
    chance = random.Random(1)
    noise = ["".join(chance.choices(string.printable, k=100_000)) for _ in range(40)]
    progress = Progress(entries=[result(text) for text in noise], tools_done=["f"])
    written = progress.record()
    assert len(json.dumps(written)) < PAYLOAD_LIMIT
    again = Progress.read(written)
    assert again.tools_done == ["f"]
    assert all("characters left out" in entry["content"] for entry in again.entries)


def test_progress_leaves_room_for_what_is_sent_along() -> None:
    noise = "".join(random.Random(1).choices(string.printable, k=40_000))
    progress = Progress(entries=[result(noise)])
    assert len(json.dumps(progress.record(20_000))) < 20_000 < len(json.dumps(progress.record()))
