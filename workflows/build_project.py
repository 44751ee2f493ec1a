"""The program that this project is for: plan a library, implement its modules in parallel, review, fix."""

from __future__ import annotations

from activities.build_team import Architect, Coder, Review, Reviewer
from workflows import choreography, scatter

MOST_ROUNDS = 5
"""Reviews of each module: where coder and reviewer then still disagree, somebody else has to look."""


@choreography(coder=2, reviewer=2)
async def build_project(
    project_spec: str,
    architect: Architect,
    coder: Coder,
    reviewer: Reviewer,
) -> list[Review]:
    """Plan a library, implement its modules in parallel, review and fix until every module passes, or for five rounds.

    The reviews of the last round say which modules don't pass, and what is open.
    """
    plan = await architect.plan_modules(project_spec)
    await scatter(
        plan.modules, coder, lambda c, module: c.implement_module(module), key=lambda module: module.module_path
    )
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
            lambda c, fix: c.implement_module(fix[0], feedback=fix[1].feedback),
            key=lambda fix: fix[0].module_path,
        )
