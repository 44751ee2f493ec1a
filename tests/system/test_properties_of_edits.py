"""Whatever is edited in a program under its run: it gives what it gives, or waits and says where it was changed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, note

from tests.system.playground import Case, Playground
from tests.system.random_programs import edited_cases, examples


@pytest.mark.timeout(3600)
@examples(0.3)
@given(case=edited_cases)
def test_a_program_that_is_edited_under_its_run_gives_what_it_gives_or_waits_until_it_is_as_before(
    runner: asyncio.Runner, playground: Playground, case: Case
) -> None:
    note(str(case))
    faults = runner.run(playground.faults(case))
    assert not faults, "\n".join(faults)
