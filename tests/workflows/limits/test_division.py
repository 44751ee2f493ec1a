from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.limits.division import divide, fair_shares, wanted_by_runs

amounts = st.integers(0, 10**9).map(lambda thousandths: thousandths / 1_000)
by_run = st.dictionaries(st.sampled_from("abcdef"), amounts, max_size=6)
wants = st.dictionaries(st.sampled_from(["p1", "p2", "p3", "p4"]), by_run, max_size=4)


@given(amounts, by_run)
def test_no_more_is_divided_than_there_is_or_wanted(total: float, wants: dict[str, float]) -> None:
    shares = fair_shares(total, wants)
    assert sum(shares.values()) <= total * (1 + 1e-9)
    assert all(0 <= shares[name] <= want for name, want in wants.items())


@given(amounts, by_run)
def test_nothing_is_left_while_anybody_wants_more(total: float, wants: dict[str, float]) -> None:
    assert sum(fair_shares(total, wants).values()) == pytest.approx(min(total, sum(wants.values())))


@given(amounts, by_run)
def test_whoever_gets_less_than_is_wanted_gets_as_much_as_anybody(total: float, wants: dict[str, float]) -> None:
    shares = fair_shares(total, wants)
    most = max(shares.values(), default=0)
    assert all(share >= most * (1 - 1e-9) for name, share in shares.items() if share < wants[name] * (1 - 1e-9))


@given(amounts, wants)
def test_a_runs_share_goes_to_where_its_calls_wait(total: float, wants: dict[str, dict[str, float]]) -> None:
    divided, of_runs = divide(total, wants), wanted_by_runs(wants)
    shares = fair_shares(total, of_runs)
    for process, runs in wants.items():
        for run, want in runs.items():
            assert divided[process][run] <= want * (1 + 1e-9)
            assert divided[process][run] * of_runs[run] == pytest.approx(shares[run] * want, rel=1e-6, abs=1e-9)
