from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import message_of
from workflows import choreography
from workflows.options import Options

ROLES = {"coder": ["Coder.implement", "Coder.explain"], "reviewer": ["Reviewer.review"]}


def test_a_run_without_options_decides_nothing() -> None:
    options = Options()
    options.check(ROLES)
    assert options.model_of("coder", "Coder.implement") is None


def test_a_model_may_be_set_for_a_role_and_for_a_method_which_goes_before() -> None:
    options = Options(models={"coder": "openai/a", "Coder.explain": "openai/b"})
    options.check(ROLES)
    assert options.model_of("coder", "Coder.implement") == "openai/a"
    assert options.model_of("coder", "Coder.explain") == "openai/b"
    assert options.model_of("reviewer", "Reviewer.review") is None


@pytest.mark.parametrize(
    "given",
    [
        {"instances": {"coder": 0}},
        {"instances": {"coder": -1}},
        {"instances": {"coder": "many"}},
        {"instances": {"coder": 10**9}},
        {"instances": 3},
        {"models": {"coder": 4}},
        {"instance": {"coder": 2}},
    ],
    ids=str,
)
def test_options_of_another_shape_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(given)


# In a run


@choreography
async def greet(worker: Worker) -> str:
    """Ask who is there."""
    return await worker.whoami()


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"instances": {"coder": 2}}, "options: 'instances' names the role 'coder', but the roles are worker."),
        ({"models": {"coder": "openai/a"}}, "options: 'models' names 'coder', which is neither a role nor a method"),
        ({"models": {"Worker.treble": "openai/a"}}, "there are Worker.double, Worker.fail, "),
        ({"instances": {"worker": 0}}, "'options' does not fit: 'instances.worker': Input should be greater than"),
        ({"pools": {}}, "'options' does not fit: 'pools': Extra inputs are not permitted"),
        ([], "'options' does not fit"),
    ],
    ids=str,
)
async def test_options_that_do_not_fit_fail_the_run_and_are_named(runs: Runs, options: Any, complaint: str) -> None:
    assert complaint in await message_of(await runs.start(greet, options))


@pytest.mark.usefixtures("served")
async def test_options_may_be_null(runs: Runs) -> None:
    assert await runs.execute(greet, None) == "worker-1"
