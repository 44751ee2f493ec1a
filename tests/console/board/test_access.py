from __future__ import annotations

import pytest

from activities.errors import SettingInvalid
from console.board.access import Access, Refused

TOKENS = "ann=steer:first-secret, bob=answer(owner,judge-2):second-secret tv=look:third-secret"


def test_a_token_says_who_it_is_and_what_it_may() -> None:
    access = Access.read("0.0.0.0", [], TOKENS)
    ann, bob, tv = (access.known(f"{which}-secret") for which in ("first", "second", "third"))
    assert [who.may("steer") for who in (ann, bob, tv)] == [True, False, False]
    assert [who.may("answer") for who in (ann, bob, tv)] == [True, True, False]
    assert [bob.may_answer(person) for person in ("owner-1", "owner", "judge-2", "judge-1", "anyone")] == [
        *(True, True, True),
        *(False, False),
    ]
    assert ann.may_answer("anyone")
    assert not tv.may_answer("owner-1")


@pytest.mark.parametrize("token", ["", "first", "first-secret ", "FIRST-SECRET", "first-secret\0"])
def test_no_other_token_is_let_in(token: str) -> None:
    with pytest.raises(Refused) as refused:
        Access.read("0.0.0.0", [], TOKENS).known(token)
    assert refused.value.status == 401


@pytest.mark.parametrize("tokens", ["ann", "ann=all:first-secret", "ann=look:short", "ann=look", "=look:long-enough"])
def test_a_token_that_can_not_be_read_is_an_error_that_does_not_tell_it(tokens: str) -> None:
    with pytest.raises(SettingInvalid, match="BOARD_TOKENS has an entry that can't be read") as error:
        Access.read("127.0.0.1", [], tokens)
    assert "secret" not in str(error.value)


def test_others_than_this_machine_are_let_in_with_tokens_only() -> None:
    with pytest.raises(SettingInvalid, match=r"Whoever reaches 0\.0\.0\.0 could steer all runs"):
        Access.read("0.0.0.0", [], "")
    assert not Access.read("127.0.0.1", [], "").visitors
