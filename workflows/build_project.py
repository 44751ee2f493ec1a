"""The program that this project is for: plan a library, implement its modules in parallel, review, fix."""

from __future__ import annotations

from activities.build_team import Architect, Coder, ModuleSpec, Review, Reviewer
from activities.merger import Merger
from workflows import choreography, scatter

MOST_ROUNDS = 5
"""Reviews of each module, and attempts to merge it in between: where they then still disagree, somebody has to look."""


@choreography(coder=2, reviewer=2)
async def build_project(
    project_spec: str,
    architect: Architect,
    coder: Coder,
    reviewer: Reviewer,
    merger: Merger,
) -> list[Review]:
    """Plan a library, implement its modules in parallel, review and fix until every module passes, or for five rounds.

    Each coder works on a branch of its own; reviewers see what was merged. The reviews of the last round say which
    modules don't pass, and what is open.
    """

    async def deliver(c: Coder, module: ModuleSpec, feedback: str | None = None) -> None:
        for _ in range(MOST_ROUNDS):  # what conflicts with the others' work goes back to its author
            await c.implement_module(module, feedback)
            # Without the tests of all: reviewers run them side by side, merges are made one by one.
            if not (feedback := (await merger.merge(c.name)).open):
                return

    plan = await architect.plan_modules(project_spec)
    await merger.merge(architect.name)
    await scatter(plan.modules, coder, deliver, key=lambda module: module.module_path)
    rounds = 0
    while True:
        rounds += 1
        reviews = await scatter(plan.modules, reviewer, lambda r, m: r.review_module(m.module_path, m.test_path))
        fixes = [(m, r) for m, r in zip(plan.modules, reviews, strict=True) if r.verdict == "NEEDS_FIXES"]
        if not fixes or rounds == MOST_ROUNDS:
            return reviews
        await scatter(
            fixes,
            coder,
            lambda c, fix: deliver(c, fix[0], fix[1].feedback),
            key=lambda fix: fix[0].module_path,
        )
