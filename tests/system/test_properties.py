"""Whatever a program is, and whatever is done to it while it runs: it gives what it gives undisturbed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, note

from tests.system.playground import Case, Playground
from tests.system.random_programs import cases, examples


@pytest.mark.timeout(3600)
@examples(0.7)
@given(case=cases)
def test_a_disturbed_program_gives_what_it_gives_undisturbed(
    runner: asyncio.Runner, playground: Playground, case: Case
) -> None:
    note(str(case))
    faults = runner.run(playground.faults(case))
    assert not faults, "\n".join(faults)
