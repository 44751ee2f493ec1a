"""The program that this project is for: plan a library, implement its modules in parallel, review, fix."""

from __future__ import annotations

from activities.build_team import Architect, Coder, Review, Reviewer
from workflows import choreography, scatter


@choreography(coder=2, reviewer=2)
async def build_project(
    project_spec: str,
    architect: Architect,
    coder: Coder,
    reviewer: Reviewer,
) -> list[Review]:
    """Plan a library, implement its modules in parallel, review and fix until every module passes."""
    plan = await architect.plan_modules(project_spec)
    await scatter(
        plan.modules, coder, lambda c, module: c.implement_module(module), key=lambda module: module.module_path
    )
    while True:
        reviews = await scatter(plan.modules, reviewer, lambda r, m: r.review_module(m.module_path, m.test_path))
        fixes = [(m, r) for m, r in zip(plan.modules, reviews, strict=True) if r.verdict == "NEEDS_FIXES"]
        if not fixes:
            return reviews
        await scatter(
            fixes,
            coder,
            lambda c, fix: c.implement_module(fix[0], feedback=fix[1].feedback),
            key=lambda fix: fix[0].module_path,
        )
