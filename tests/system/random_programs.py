"""Random programs, and what may be done to them while they run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, get_args

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.system.playground import Case, Disturbance
from tests.system.programs import Edit, Program, Step

LATE = 1000
"""More than happens in any run: what comes after that comes when the run has ended."""

EXAMPLES = os.environ.get("EXAMPLES")

words = st.sampled_from(["tea", "milk", "honey", "salt", "rye", "figs", "oil"])
word_lists = st.lists(words, max_size=3, unique=True)


def calls(*kinds: Any) -> st.SearchStrategy[Step]:
    return st.builds(Step, kind=st.sampled_from(kinds), text=words)


bare = calls("think", "do", "keep", "think", "use", "keep", "glance", "ask", "think", "named", "fail")
inside = calls("think", "do", "use", "keep", "glance", "ask")
sleeps = st.just(Step(kind="sleep"))
scatters = st.builds(Step, kind=st.just("scatter"), items=word_lists, inner=st.lists(inside | sleeps, max_size=2))
groups = st.lists(st.builds(Step, kind=st.just("do"), items=word_lists), min_size=1, max_size=2)
fan_outs = st.builds(Step, kind=st.just("fan_out"), inner=groups)
flat = bare | sleeps | scatters | fan_outs
gathers = st.builds(Step, kind=st.just("gather"), inner=st.lists(flat, min_size=1, max_size=3))
phases = st.builds(Step, kind=st.just("phase"), text=words, inner=st.lists(flat | gathers, min_size=1, max_size=2))
parts = st.lists(bare | flat | gathers | phases, min_size=2, max_size=4)
disturbances = st.builds(
    Disturbance,
    after=st.integers(0, 12) | st.just(LATE),
    what=st.sampled_from(["reset", "kill"]),
    where=st.integers(0, 9),
)

evictions = st.sampled_from([False, False, False, True])


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Make a program whose steps can be told apart: no two are about the same."""
    program = Program(parts=draw(st.lists(parts, min_size=1, max_size=2)))
    numbers = itertools.count(1)
    return Program(parts=[[_numbered(step, numbers) for step in part] for part in program.parts])


def _numbered(step: Step, numbers: Iterator[int]) -> Step:
    text = f"{step.text} {next(numbers)}" if step.text else ""
    return step.model_copy(update={"text": text, "inner": [_numbered(inner, numbers) for inner in step.inner]})


cases = st.builds(Case, program=programs(), disturbances=st.lists(disturbances, max_size=2), evicted=evictions)

edits: st.SearchStrategy[tuple[int, Edit, int]] = st.tuples(
    st.integers(1, 6), st.sampled_from(get_args(Edit)), st.integers(0, 20)
)
edited_cases = st.builds(Case, program=programs(), disturbances=st.just([]), evicted=evictions, edit=edits)


def examples(share: float) -> settings:
    """Return the settings of a test that has a share of all the examples."""
    return settings(
        max_examples=int(int(EXAMPLES or 50) * share),
        deadline=None,
        derandomize=EXAMPLES is None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
