from __future__ import annotations

import json
import random
import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from activities.answering.checkpoint import READABLE_BYTES, Checkpoint, InnerCheckpoint
from activities.contract.limits import PAYLOAD_LIMIT
from activities.contract.usage import Usage
from activities.memory.transcript import Entry


def result(text: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": "c1", "content": text}


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(0, 9), st.sampled_from([0, 500]))
def test_progress_that_was_recorded_is_read_as_it_was(texts: list[str], failures: int, times: int) -> None:
    entries = [result(text * (times + 1)) for text in texts]
    checkpoint = Checkpoint(
        entries=entries, failures=failures, usage=Usage(models=["m"], cost_usd=None), state={"a": [1]}
    )
    assert Checkpoint.read(json.loads(json.dumps(checkpoint.record()))) == checkpoint


def test_short_progress_can_be_read_by_people() -> None:
    assert Checkpoint(entries=[result("fine")]).record()["entries"] == [result("fine")]


def test_long_progress_is_compressed() -> None:
    written = json.dumps(Checkpoint(entries=[result("word " * READABLE_BYTES)]).record())
    assert len(written) < READABLE_BYTES


def test_no_progress_is_larger_than_the_server_takes() -> None:
    chance = random.Random(1)
    noise = ["".join(chance.choices(string.printable, k=100_000)) for _ in range(40)]
    checkpoint = Checkpoint(entries=[result(text) for text in noise], tools_done=["f"])
    written = checkpoint.record()
    assert len(json.dumps(written)) < PAYLOAD_LIMIT
    again = Checkpoint.read(written)
    assert again.tools_done == ["f"]
    assert all("characters left out" in entry["content"] for entry in again.entries)


def test_progress_leaves_room_for_what_is_sent_along() -> None:
    noise = "".join(random.Random(1).choices(string.printable, k=40_000))
    checkpoint = Checkpoint(entries=[result(noise)])
    assert len(json.dumps(checkpoint.record(20_000))) < 20_000 < len(json.dumps(checkpoint.record()))


def noise(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices(string.printable, k=length))


def asked_inside(number: int, **fields: Any) -> InnerCheckpoint:
    said: list[Entry] = [
        {"role": "assistant", "content": noise(number, 100_000), "tool_calls": [{"id": "c1"}]},
        result(noise(number + 100, 100_000)),
        {"role": "assistant", "content": f"answer {number}"},
    ]
    deeper = {"deeper": InnerCheckpoint(method="Reader.read", asked="Read.", entries=said)}
    usage = Usage(model_calls=4)
    return InnerCheckpoint(
        method="Post.send", asked=noise(number, 9_000), entries=said, usage=usage, inner=deeper, **fields
    )


def test_progress_of_prompts_inside_is_read_as_it_was() -> None:
    checkpoint = Checkpoint(
        inner={"a": asked_inside(1, done=True), "b": asked_inside(2, error="HTTP 503", tool_call="c1")}
    )
    assert Checkpoint.read(json.loads(json.dumps(checkpoint.record()))) == checkpoint


def test_progress_with_very_much_said_inside_fits_and_keeps_every_answer() -> None:
    inside = {str(number): asked_inside(number, done=True) for number in range(30)}
    checkpoint = Checkpoint(inner=inside, usage=Usage(model_calls=120))
    written = checkpoint.record()
    assert len(json.dumps(written)) < PAYLOAD_LIMIT
    again = Checkpoint.read(written)
    assert again.usage == checkpoint.usage
    assert [one.entries[-1]["content"] for one in again.inner.values()] == [f"answer {n}" for n in range(30)]


def test_of_a_prompt_inside_that_is_not_answered_yet_every_turn_is_kept() -> None:
    inside = {str(number): asked_inside(number, done=True) for number in range(30)}
    checkpoint = Checkpoint(inner={**inside, "unfinished": asked_inside(99)})
    [*_, unfinished] = Checkpoint.read(checkpoint.record()).inner.values()
    assert [entry["role"] for entry in unfinished.entries] == ["assistant", "tool", "assistant"]


def test_a_snapshot_stays_as_it_was_while_prompts_inside_go_on() -> None:
    checkpoint = Checkpoint(inner={"a": asked_inside(1)})
    snapshot = checkpoint.snapshot()
    before = snapshot.model_dump_json()
    checkpoint.inner["a"].entries.append(result("more"))
    checkpoint.inner["a"].inner["deeper"].entries.append(result("more"))
    checkpoint.inner["b"] = asked_inside(2)
    assert snapshot.model_dump_json() == before
