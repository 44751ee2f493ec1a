from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent

import pytest
from temporalio.client import Client

from activities import Agent, prompt, task, tool
from tests.conftest import Runs
from tests.workflows.changed import ask_twice
from tests.workflows.crew import Worker
from tests.workflows.histories import steps
from workflows import choreography
from workflows.errors import SettingsInvalid
from workflows.serving.discovery import DiscoveryError
from workflows.serving.settings import Settings
from workflows.serving.workers import workers


class Cook(Agent):
    """You cook."""

    @tool
    def taste(self, dish: str) -> str:
        """Taste a dish."""
        return f"{dish} is good"

    @tool
    def smell(self, dish: str) -> str:
        """Smell a dish."""
        return f"{dish} smells good"

    @prompt
    async def invent(self) -> str:
        """Invent a dish."""

    @task
    def cook(self, dish: str) -> str:
        """Cook a dish."""
        return dish


@choreography
async def dine(dish: str, cook: Cook, worker: Worker) -> str:
    """Have a dish cooked, and taste it."""
    await ask_twice(worker)
    return await cook.taste(await cook.cook(dish))


def settings(*, serve: Sequence[str] = (), concurrency: Sequence[str] = ()) -> Settings:
    return Settings.read(modules=[__name__], bare=True, serve=serve, concurrency=concurrency)


TYPISTS = "tests.workflows.typists"
COOK = ["Cook", "Cook.invent", "Cook.cook"]


# What is served


def test_each_prompt_and_task_has_a_queue_of_its_own_and_a_class_has_one_for_its_tools() -> None:
    queues = settings(serve=["Cook"]).queues
    assert list(queues) == COOK
    assert [len(activities) for activities in queues.values()] == [2, 1, 1]


def test_without_names_everything_is_served() -> None:
    served = settings()
    assert {"Cook", "Cook.cook", "Worker.work"} <= set(served.queues)
    assert {choreography.name for choreography in served.choreographies} == {"dine", "ask_twice"}


def test_an_agent_is_served_without_choreographies() -> None:
    assert settings(serve=["Cook"]).choreographies == []


def test_choreographies_are_served_without_agents() -> None:
    served = settings(serve=["choreography"])
    assert served.queues == {}
    assert len(served.choreographies) == 2


def test_a_method_is_served_alone() -> None:
    assert list(settings(serve=["Cook.cook"]).queues) == ["Cook.cook"]


def test_names_add_up() -> None:
    assert list(settings(serve=["Cook.cook", "Cook", "Cook.cook"]).queues) == ["Cook.cook", "Cook", "Cook.invent"]


@pytest.mark.parametrize("name", ["Coo", "Cook.", "cook", "Cook.cooks", "Cook.taste", ""])
def test_an_unknown_name_is_an_error_that_lists_what_there_is(name: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"--serve .*: there is nothing of that name.* Cook, Cook\.invent, Cook"):
        settings(serve=[name])


def test_the_projects_own_modules_are_served_unless_only_others_are_asked_for() -> None:
    names = {choreography.name for choreography in Settings.read(modules=[__name__]).choreographies}
    assert names == {"build_project", "dine", "ask_twice"}


def test_nothing_but_other_modules_needs_modules() -> None:
    with pytest.raises(SettingsInvalid, match="name a module"):
        Settings.read(bare=True)


def test_a_module_that_there_is_not_is_an_error() -> None:
    with pytest.raises(DiscoveryError, match="no module 'absent'"):
        Settings.read(modules=["absent"])


# Calls at a time


def test_a_number_is_the_limit_of_every_queue() -> None:
    limits = settings(concurrency=["4"]).concurrency
    assert [limits[queue] for queue in COOK] == [4, 4, 4]


def test_the_closest_name_decides() -> None:
    limits = settings(concurrency=["Cook.cook=1", "Cook=2", "4"]).concurrency
    assert limits["Worker.work"] == 4
    assert [limits[queue] for queue in COOK] == [2, 2, 1]


@pytest.mark.parametrize("word", ["", "0", "-1", "many", "Cook=", "Cook=0", "Cook=many", "=4", "1.5", "²"])
def test_a_limit_that_is_no_number_is_an_error(word: str) -> None:
    with pytest.raises(SettingsInvalid, match="give a number from 1, as in 4 or Coder=4"):
        settings(concurrency=[word])


def test_a_limit_for_an_unknown_name_is_an_error() -> None:
    with pytest.raises(SettingsInvalid, match="--concurrency Cooks: there is nothing of that name"):
        settings(concurrency=["Cooks=2"])


# Serving


async def test_a_run_needs_no_more_than_the_queues_of_its_methods(runs: Runs) -> None:
    async with runs.serving(__name__, serve=("choreography", "Cook.cook", "Cook", "Worker.whoami")):
        run = await runs.start(dine, "soup")
        assert await run.result() == "soup is good"
    assert [step.method for step in await steps(run)] == ["Worker.whoami", "Cook.cook", "Cook.taste"]


async def test_a_module_that_looks_at_the_clock_when_it_is_imported_is_an_error_with_advice(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "clocked.py").write_text(
        dedent("""
            import datetime
            from workflows import choreography

            began = datetime.datetime.now()

            @choreography
            async def dine() -> None: ...
        """)
    )
    with pytest.raises(SettingsInvalid, match=r"\(at clocked.py:5\) A choreography has no clock"):
        workers(client, Settings.read(modules=["clocked"], bare=True))


# How fast


async def test_a_methods_calls_begin_no_more_often_than_it_says_on_all_workers_together(runs: Runs) -> None:
    count, per_second, at_first = 12, 4, 4
    async with runs.serving(TYPISTS), runs.serving(TYPISTS, serve=("Typist",)):
        began = sorted(await runs.execute("type_letters", count))
    assert began[-1] - began[0] > 0.8 * (count - at_first - 1) / per_second
