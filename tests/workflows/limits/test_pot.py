from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.contract.leases import Demand, Lease, Rates, Report
from workflows.limits import pot
from workflows.limits.pot import LEASE_S, PART_GIVEN, Pot

LIMITS = Rates(requests=600, tokens=100_000)
ALL = 600 * PART_GIVEN


def wanting(process: str, limits: Rates = LIMITS, seconds: float = 5.0, refused: float = 0, **runs: float) -> Report:
    """A report of a process in which requests of runs wait, each of 100 tokens."""
    demands = {run: Demand(waiting=waiting, waiting_tokens=100 * waiting) for run, waiting in runs.items()}
    return Report(process=process, seconds=seconds, runs=demands, limits=limits, refused=refused)


def settled(pot: Pot, *reports: Report, now: float = 0.0) -> dict[str, Lease]:
    """Return the leases when all have reported three times."""
    leases = {}
    for turn in range(3):
        for report in reports:
            leases[report.process] = pot.lease(report, now + 5.0 * turn)
    return leases


def requests(lease: Lease) -> float:
    assert lease.rates.requests is not None
    return lease.rates.requests


def test_one_process_that_wants_much_gets_all() -> None:
    lease = Pot().lease(wanting("p", a=1000), 0.0)
    assert requests(lease) == pytest.approx(ALL)
    assert lease.all_taken


def test_runs_get_the_same_however_many_calls_of_theirs_wait() -> None:
    leases = settled(Pot(), wanting("p1", a=1000), wanting("p2", a=1000, b=100))
    assert requests(leases["p1"]) + requests(leases["p2"]) == pytest.approx(ALL, rel=0.02)
    of_b = leases["p2"].weights["b"] / sum(leases["p2"].weights.values()) * requests(leases["p2"])
    assert of_b == pytest.approx(ALL / 2, rel=0.02)


def test_what_one_leaves_others_get() -> None:
    leases = settled(Pot(), wanting("p1", a=1000), wanting("p2", b=1))
    assert requests(leases["p2"]) < 50
    assert requests(leases["p1"]) == pytest.approx(ALL - requests(leases["p2"]), rel=0.01)


def test_where_there_is_plenty_processes_get_more_than_they_want() -> None:
    held = Pot()
    assert requests(held.lease(wanting("p1", a=1), 0.0)) > ALL / 2
    assert requests(held.lease(wanting("p2", b=1), 1.0)) > ALL / 4


def test_what_idle_processes_have_goes_to_who_wants_it_with_their_next_reports() -> None:
    held = Pot()
    idle = [wanting(f"idle{number}") for number in range(20)]
    settled(held, *idle, now=0.0)
    first = held.lease(wanting("p", a=10), 16.0)
    assert requests(first) < first.weights["a"]
    for report in idle:
        held.lease(report, 17.0)
    then = held.lease(wanting("p", a=10), 18.0)
    assert requests(then) >= then.weights["a"]


def test_a_lease_that_has_ended_is_given_to_others() -> None:
    held = Pot()
    held.lease(wanting("killed", a=1000), 0.0)
    first = held.lease(wanting("p", a=1000), 1.0)
    assert requests(first) == 0
    assert first.again_s == pot.SOON_S
    assert requests(held.lease(wanting("p", a=1000), LEASE_S + 0.1)) == pytest.approx(ALL)


def test_what_is_scarcer_decides_the_shares() -> None:
    lease = Pot().lease(wanting("p", Rates(requests=600, tokens=1_000), a=100), 0.0)
    assert lease.unit == "tokens"
    assert lease.rates.tokens == pytest.approx(1_000 * PART_GIVEN)


def test_without_a_limit_of_tokens_none_is_given() -> None:
    assert Pot().lease(wanting("p", Rates(requests=600), a=100), 0.0).rates.tokens is None


def test_refusals_lower_what_is_given_once_and_it_grows_again_slowly() -> None:
    held = Pot()
    held.lease(wanting("p", a=1000), 0.0)
    cut = requests(held.lease(wanting("p", a=1000, refused=7), 5.0))
    assert cut == pytest.approx(ALL * pot.CUT)
    assert requests(held.lease(wanting("p", a=1000, refused=7), 6.0)) == pytest.approx(cut, rel=0.01)
    assert cut < requests(held.lease(wanting("p", a=1000), 20.0)) < ALL
    assert requests(held.lease(wanting("p", a=1000), 300.0)) == pytest.approx(ALL)


def test_where_nobody_tells_the_limits_what_was_answered_is_taken_for_them() -> None:
    held = Pot()
    report = Report(process="p", runs={"a": Demand(waiting=1000)}, refused=3, a_minute=100)
    first = requests(held.lease(report, 0.0))
    assert first == pytest.approx(100 * PART_GIVEN * pot.CUT)
    later = requests(held.lease(report.model_copy(update={"refused": 0, "seconds": 5}), 600.0))
    assert later > 100  # and whether there is more is found out
    assert requests(held.lease(wanting("p", a=1000), 601.0)) == pytest.approx(ALL)


def test_what_was_asked_before_the_first_leases_is_missing_for_a_minute() -> None:
    def first(process: str, remaining: float) -> Report:
        return wanting(process, seconds=0, a=1000).model_copy(update={"remaining": Rates(requests=remaining)})

    held = Pot()
    assert requests(held.lease(first("p1", 300), 0.0)) == pytest.approx(ALL - 300)
    held.lease(first("p2", 200), 1.0)  # others have gone on meanwhile
    assert held.given("requests", 59.0) == pytest.approx(ALL - 400)
    assert held.given("requests", 61.0) == pytest.approx(ALL)
    held.lease(first("p3", 100), 20.0)  # what is missing by now is what was given
    assert held.given("requests", 59.0) == pytest.approx(ALL - 400)


def test_many_processes_report_less_often() -> None:
    held = Pot()
    leases = [held.lease(wanting(f"p{number}", a=10), 0.0) for number in range(100)]
    assert pot.REPORT_EVERY_S < settled(held, wanting("p0", a=10))["p0"].again_s <= pot.LATEST_REPORT_S
    assert len(leases) == 100


def test_a_refusal_now_and_then_changes_nothing() -> None:
    held = Pot()
    for turn in range(20):
        held.lease(wanting("p", a=1000, refused=int(turn % 7 == 0)), 20.0 * turn)
    assert requests(held.lease(wanting("p", a=1000), 400.0)) == pytest.approx(ALL)


def test_in_an_outage_one_process_tries_for_all() -> None:
    held = Pot()
    leases = settled(held, wanting("p1", a=10), wanting("p2", a=10))
    assert not any(lease.away for lease in leases.values())
    away = wanting("p1", a=10).model_copy(update={"outage": "away"})
    assert requests(held.lease(away, 11.0)) > 0
    others = held.lease(wanting("p2", a=10).model_copy(update={"outage": "away"}), 12.0)
    assert (requests(others), others.away) == (0, True)
    last = 12.0 + LEASE_S + 1  # the one that tried was killed
    assert requests(held.lease(wanting("p2", a=10), last)) > 0
    assert requests(held.lease(wanting("p3", a=10), last)) == 0
    held.lease(wanting("p2", a=10).model_copy(update={"outage": "there"}), last + 1)
    assert requests(held.lease(wanting("p3", a=10), last + 2)) > 0


def test_one_process_that_reaches_nobody_stops_no_other() -> None:
    held = Pot()
    held.lease(wanting("cut off", a=10).model_copy(update={"outage": "away"}), 0.0)
    lease = held.lease(wanting("p2", a=10).model_copy(update={"outage": "there"}), 1.0)
    assert not lease.away
    assert requests(lease) > 0


units: list[Literal["requests", "tokens"]] = ["requests", "tokens"]
reports = st.builds(
    lambda process, waiting, sent, seconds, refused: Report(
        process=process,
        seconds=seconds,
        runs={
            run: Demand(waiting=n, waiting_tokens=150 * n, sent=sent, sent_tokens=90 * sent)
            for run, n in waiting.items()
        },
        limits=LIMITS,
        refused=refused,
    ),
    st.sampled_from(["p1", "p2", "p3", "p4", "p5"]),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 300)),
    st.integers(0, 100),
    st.floats(0, 40),
    st.sampled_from([0, 0, 0, 1]),
)


@given(st.lists(st.tuples(reports, st.floats(0, 20)), max_size=30))
def test_never_is_more_out_on_lease_than_there_is(asked: list[tuple[Report, float]]) -> None:
    held, now, out = Pot(), 0.0, dict[str, tuple[Lease, float]]()
    for report, pause in asked:
        now += pause
        held = Pot.model_validate_json(held.model_dump_json())  # as when it continues as new
        out[report.process] = held.lease(report, now), now + LEASE_S
        for unit in units:
            given_now = sum(getattr(lease.rates, unit) for lease, until in out.values() if until > now)
            assert given_now <= getattr(LIMITS, unit) * PART_GIVEN * (1 + 1e-9)
