from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from activities.errors import DeclarationError
from workflows.errors import SettingsInvalid
from workflows.serving.discovery import DiscoveryError, discover, own_modules
from workflows.serving.settings import Settings

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Write:
    """A way to write a module into the current folder; returns its name, which is the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name: str, text: str) -> str:
        module = f"{name}_of_{request.node.name.partition('[')[0]}"
        Path(f"{module}.py").write_text(dedent(text))
        monkeypatch.delitem(sys.modules, module, raising=False)
        return module

    return write


TEAM = """
    from activities import Agent, task
    from workflows import choreography

    class Base(Agent):
        "Has what all have."
        @task
        def rest(self) -> None: "Do nothing."

    class Cook(Base):
        "You cook."
        @task
        def cook(self, dish: str) -> str: "Cook."

    class Waiter(Base):
        "You serve."

    class Idler(Agent):
        "You have nothing to do."

    @choreography
    async def dine(dish: str, cook: Cook, waiter: Waiter) -> str:
        return await cook.cook(dish)

    @choreography
    async def starve(waiter: Waiter) -> None:
        await waiter.rest()
"""


def test_a_module_offers_its_choreographies(write: Write) -> None:
    assert list(discover([write("team", TEAM)]).choreographies) == ["dine", "starve"]


def test_a_module_offers_its_agents_but_no_bases_and_none_without_methods(write: Write) -> None:
    assert list(discover([write("team", TEAM)]).agents) == ["Cook", "Waiter"]


def test_a_base_that_is_a_role_is_offered(write: Write) -> None:
    team = TEAM + "\n    @choreography\n    async def rest(base: Base) -> None: ...\n"
    assert set(discover([write("team", team)]).agents) == {"Cook", "Waiter", "Base"}


def test_an_agent_is_offered_through_the_choreography_that_has_it_as_a_role(write: Write) -> None:
    team = write("team", TEAM)
    program = write("program", f"from {team} import dine")
    assert list(discover([program]).agents) == ["Cook", "Waiter"]


def test_what_several_modules_import_from_one_is_offered_once(write: Write) -> None:
    team = write("team", TEAM)
    program = write("program", f"from {team} import dine, Cook, Waiter")
    offer = discover([team, program])
    assert (list(offer.choreographies), list(offer.agents)) == (["dine", "starve"], ["Cook", "Waiter"])


def test_two_agents_of_one_name_are_an_error_that_names_both(write: Write) -> None:
    one, other = write("team", TEAM), write("others", TEAM.replace("dine", "sup").replace("starve", "fast"))
    with pytest.raises(DiscoveryError, match=rf"Two agents are called Cook: {one}.Cook and {other}.Cook. Rename one"):
        discover([one, other])


def test_two_choreographies_of_one_name_are_an_error_that_names_both(write: Write) -> None:
    one = write("team", TEAM)
    other = write("others", f"from {one} import *\n\n@choreography\nasync def dine(cook: Cook) -> None: ...")
    with pytest.raises(DiscoveryError, match=rf"Two choreographies are called dine: {one}.dine and {other}.dine"):
        discover([one, other])


@pytest.mark.parametrize("name", ["{}", "{}.py", "./{}.py"])
def test_a_module_may_be_named_as_a_file(write: Write, name: str) -> None:
    assert list(discover([name.format(write("team", TEAM))]).agents) == ["Cook", "Waiter"]


def test_a_module_in_a_folder_may_be_named_as_a_file(write: Write, tmp_path: Path) -> None:
    module = write("team", TEAM)
    (tmp_path / "teams").mkdir()
    (tmp_path / f"{module}.py").rename(tmp_path / "teams" / f"{module}.py")
    assert list(discover([f"teams/{module}.py"]).agents) == ["Cook", "Waiter"]


@pytest.mark.parametrize("folder", ["elsewhere", "folder with spaces", "01", "a-b", "ünï"])
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
def test_a_module_may_be_named_by_its_path_wherever_it_is(
    write: Write, tmp_path: Path, folder: str, absolute: bool
) -> None:
    module = write("team", TEAM)
    place = tmp_path.parent / f"{tmp_path.name} beside" / folder
    place.mkdir(parents=True)
    file = (tmp_path / f"{module}.py").rename(place / f"{module}.py")
    name = str(file) if absolute else f"../{tmp_path.name} beside/{folder}/{module}.py"
    assert list(discover([name]).agents) == ["Cook", "Waiter"]


def test_an_absolute_path_into_the_current_folder_is_the_module_that_its_name_is(write: Write, tmp_path: Path) -> None:
    module = write("team", TEAM)
    assert list(discover([module, f"{tmp_path}/{module}.py", f"./{module}"]).agents) == ["Cook", "Waiter"]


@pytest.mark.parametrize("ending", ["", "/", "/__init__.py"])
def test_a_package_may_be_named_by_its_folder(
    write: Write, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    module = write("team", TEAM)
    (tmp_path / f"{module}_package").mkdir()
    (tmp_path / f"{module}.py").rename(tmp_path / f"{module}_package" / "__init__.py")
    assert list(discover([f"{module}_package{ending}"]).agents) == ["Cook", "Waiter"]


def test_a_module_in_a_package_elsewhere_is_imported_as_a_part_of_it(write: Write, tmp_path: Path) -> None:
    module = write("team", TEAM)
    package = tmp_path.parent / f"{tmp_path.name} beside" / f"{module}_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / f"{module}.py").rename(package / "base.py")
    (package / "team.py").write_text("from .base import Cook, dine\n")
    assert list(discover([f"{package}/team.py"]).agents) == ["Cook", "Waiter"]


def test_a_folder_that_is_no_package_is_an_error_that_names_its_modules(write: Write, tmp_path: Path) -> None:
    module = write("team", TEAM)
    (tmp_path / "teams").mkdir()
    (tmp_path / f"{module}.py").rename(tmp_path / "teams" / "one.py")
    with pytest.raises(DiscoveryError, match=r"without __init__\.py; name its modules, .*: teams/one\.py"):
        discover(["teams"])


@pytest.mark.parametrize(
    ("name", "mended"),
    [("01_team", "team_01"), ("my-team", "my_team"), ("my team", "my_team"), ("class", "class"), ("2", "2")],
)
@pytest.mark.parametrize("ending", ["", ".py"])
def test_a_file_that_has_no_name_for_python_is_an_error_that_proposes_one(
    write: Write, tmp_path: Path, name: str, mended: str, ending: str
) -> None:
    (tmp_path / f"{write('team', TEAM)}.py").rename(tmp_path / f"{name}.py")
    with pytest.raises(DiscoveryError, match=rf"'{name}' is no name that Python can import; rename it, to {mended}"):
        discover([f"{name}{ending}"])


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "a.", ".a"])
def test_what_is_no_module_is_an_error(write: Write, name: str) -> None:
    with pytest.raises(DiscoveryError):
        discover([name])


@pytest.mark.parametrize("name", ["statistics", "queue", "sys", "zipapp", "temporalio", "activities"])
@pytest.mark.parametrize("ending", ["", ".py"])
def test_a_file_with_the_name_of_a_module_that_others_use_is_refused(
    write: Write, tmp_path: Path, name: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{write('team', TEAM)}.py").rename(tmp_path / f"{name}.py")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    with pytest.raises(DiscoveryError, match=r"has the name of .*; rename it"):
        discover([f"{name}{ending}"])


def test_a_file_that_is_not_there_is_an_error_that_says_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match=rf"there is neither a file nor a folder {tmp_path}/teams/absent\.py"):
        discover(["teams/absent.py"])


def test_a_syntax_error_in_a_module_names_its_line(write: Write) -> None:
    module = write("team", "def broken(:\n    pass\n")
    with pytest.raises(SettingsInvalid, match=rf"can't be imported: SyntaxError: .*\({module}\.py, line 1\)"):
        Settings.read(modules=[f"{module}.py"], bare=True)


def test_a_module_that_there_is_not_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DiscoveryError, match=rf"no module 'absent' to serve: looked in {tmp_path}"):
        discover(["absent"])


def test_a_module_that_imports_what_there_is_not_fails_as_that_import_does(write: Write) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
        discover([write("team", "import nowhere")])


def test_the_projects_own_modules_offer_its_program_and_its_team() -> None:
    offer = discover(own_modules())
    assert "build_project" in offer.choreographies
    assert {"Architect", "Coder", "Reviewer"} <= set(offer.agents)
    assert {"TeamMember", "Author"}.isdisjoint(offer.agents)


def test_the_projects_own_modules_are_imported_without_litellm() -> None:
    program = (
        "import sys; from workflows.serving.discovery import *; "
        "discover(own_modules()); print('litellm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


UNSEEN = """
    from __future__ import annotations
    from typing import TYPE_CHECKING
    from activities import Agent, Person, prompt, task

    if TYPE_CHECKING:
        from plans import Plan

    class Builder(Agent):
        @task
        def build(self, plan: {build}) -> None: "Build."

    class Owner(Person):
        @prompt
        async def approve(self, plan: {approve}) -> bool: "Shall this be built? {{plan}}"
"""


@pytest.mark.parametrize(
    ("types", "method"),
    [
        ({"build": "Plan", "approve": "str"}, "Builder.build"),
        ({"build": "str", "approve": "list[Plan]"}, "Owner.approve"),
    ],
)
def test_a_type_that_only_type_checkers_know_keeps_a_module_from_being_served(
    write: Write, types: dict[str, str], method: str
) -> None:
    with pytest.raises(DeclarationError, match=f"{method}: name 'Plan' is not defined; .* not under TYPE_CHECKING"):
        discover([write("team", UNSEEN.format(**types))])
