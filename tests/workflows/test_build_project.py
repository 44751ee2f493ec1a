from __future__ import annotations

import pytest

from activities.build_team import Architect, Coder, Implementation, ModuleSpec, Plan, Review, Reviewer
from activities.merger import InConflict, Merge, Merger
from workflows.build_project import MOST_ROUNDS, build_project


def module(name: str) -> ModuleSpec:
    return ModuleSpec(
        name=name, module_path=f"textkit/{name}.py", test_path=f"tests/test_{name}.py", purpose=name, api=f"{name}()"
    )


class Team:
    """Stands in for all: plans modules, implements and merges them, and finds each faulty a number of times."""

    name = "team"

    def __init__(self, faults: dict[str, int], conflicts: int = 0) -> None:
        self.faults = faults
        self.conflicts = conflicts
        self.log: list[str] = []

    async def plan_modules(self, project_spec: str) -> Plan:
        self.log.append(f"plan {project_spec}")
        return Plan(package="textkit", modules=[module(name) for name in self.faults])

    async def implement_module(self, module: ModuleSpec, feedback: str | None = None) -> Implementation:
        self.log.append(f"implement {module.name}: {feedback}")
        return Implementation(module_path=module.module_path, test_path=module.test_path, summary="done")

    async def merge(self, branches: str) -> Merge:
        assert branches == "team"
        if self.log[-1].startswith("plan") or not self.conflicts:
            return Merge(commit="1", merged=[branches])
        self.conflicts -= 1
        return Merge(commit="1", conflicts=[InConflict(branch=branches, path="both.py", text="<<<<<<<")])

    async def review_module(self, module_path: str, test_path: str) -> Review:
        name = module_path.removeprefix("textkit/").removesuffix(".py")
        assert test_path == f"tests/test_{name}.py"
        self.log.append(f"review {name}")
        self.faults[name] -= 1
        if self.faults[name] < 0:
            return Review(module_path=module_path, verdict="PASS", feedback="")
        return Review(module_path=module_path, verdict="NEEDS_FIXES", feedback=f"{self.faults[name]} to go")


async def build(faults: dict[str, int], conflicts: int = 0) -> tuple[list[Review], list[str]]:
    team = Team(faults, conflicts)
    return await build_project("a library", team, team, team, team), team.log  # type: ignore[arg-type]


async def test_a_library_without_faults_is_planned_implemented_and_reviewed_once() -> None:
    reviews, log = await build({"slugify": 0, "wrap": 0})
    assert [review.module_path for review in reviews] == ["textkit/slugify.py", "textkit/wrap.py"]
    assert log == [
        "plan a library",
        "implement slugify: None",
        "implement wrap: None",
        "review slugify",
        "review wrap",
    ]


async def test_what_needs_fixes_is_implemented_again_with_the_feedback_until_all_passes() -> None:
    reviews, log = await build({"slugify": 0, "wrap": 2})
    assert [review.verdict for review in reviews] == ["PASS", "PASS"]
    assert log[3:] == [
        "review slugify",
        "review wrap",
        "implement wrap: 1 to go",
        "review slugify",
        "review wrap",
        "implement wrap: 0 to go",
        "review slugify",
        "review wrap",
    ]


async def test_where_a_coder_and_a_reviewer_disagree_it_ends_with_what_is_open() -> None:
    reviews, log = await build({"slugify": 0, "wrap": 100})
    assert [review.verdict for review in reviews] == ["PASS", "NEEDS_FIXES"]
    assert reviews[1].feedback == "95 to go"
    assert len([line for line in log if line.startswith("implement wrap")]) == MOST_ROUNDS


async def test_a_conflict_goes_back_to_its_author_and_is_reviewed_when_it_is_merged() -> None:
    _, log = await build({"wrap": 0}, conflicts=2)
    assert [line.partition(":")[0] for line in log[1:]] == [*["implement wrap"] * 3, "review wrap"]
    assert "Resolve it in your files:\n\nboth.py:\n<<<<<<<" in "\n".join(log)


async def test_what_is_never_merged_is_tried_for_so_many_rounds_and_ends_with_what_reviewers_miss() -> None:
    reviews, log = await build({"wrap": 100}, conflicts=1000)
    assert [review.verdict for review in reviews] == ["NEEDS_FIXES"]
    assert len([line for line in log if line.startswith("implement wrap")]) == MOST_ROUNDS**2


async def test_a_library_without_modules_is_done_when_it_is_planned() -> None:
    assert await build({}) == ([], ["plan a library"])


@pytest.mark.parametrize(
    ("role", "agent", "size"),
    [("architect", Architect, 1), ("coder", Coder, 2), ("reviewer", Reviewer, 2), ("merger", Merger, 1)],
)
def test_its_roles_are_played_by_the_team(role: str, agent: type, size: int) -> None:
    assert (build_project.roles[role], build_project.pools[role]) == (agent, size)
