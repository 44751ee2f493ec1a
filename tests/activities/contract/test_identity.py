from __future__ import annotations

import pytest

from activities.contract.identity import CallId, step_of


@pytest.mark.parametrize("instance", ["coder-2", "alice", "anna-lena", "Änne 2", "x" * 500])
def test_a_calls_id_tells_what_is_asked_where_of_whom(instance: str) -> None:
    id = str(CallId.of("2.4.1", "Coder.implement", instance, "{}"))
    read = CallId.read(id)
    assert read is not None
    assert read[:2] == ("2.4.1", "Coder.implement")
    assert instance.startswith(read.instance[:20])
    assert str(read) == id
    assert step_of(id) == "2.4.1"
    assert len(id) < 200


def test_what_differs_in_anything_has_another_id() -> None:
    ids = [
        CallId.of("1", "Coder.do", "coder-1", "{}"),
        CallId.of("2", "Coder.do", "coder-1", "{}"),
        CallId.of("1", "Coder.redo", "coder-1", "{}"),
        CallId.of("1", "Coder.do", "coder-2", "{}"),
        CallId.of("1", "Coder.do", "coder-1", '{"a":1}'),
    ]
    assert len({str(id) for id in ids}) == len(ids)
    assert len({id.digest for id in ids}) == len(ids) - 1


@pytest.mark.parametrize("id", ["", "17", "1-2", "breathe"])
def test_what_is_no_calls_id_tells_nothing(id: str) -> None:
    assert CallId.read(id) is None
