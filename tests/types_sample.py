"""Choreographies as a type checker and an editor see them; nothing runs them.

Each `type: ignore` stands for an error that must be there, of its kind and in its line: `test_types.py` takes the
marks away and sees that mypy finds just these.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, assert_type

from activities import Agent, Person, prompt, task, tool
from activities.build_team import Architect, Coder, Implementation, ModuleSpec, Plan, Review, Reviewer
from activities.merger import Merger
from workflows import choreography, fan_out, instance, scatter
from workflows.build_project import build_project
from workflows.errors import ItemFailed


class Publisher(Agent):
    """You know what is worth reading."""

    @task
    async def publish(self, package: str, *, draft: bool = False) -> int:
        """Publish a package; return its number."""
        return len(package) + draft

    @task(retries=1)
    def tag(self, version: str) -> str:
        """Set a tag."""
        return version

    @task(timeout=5)
    async def fetch(self, url: str) -> bytes:
        """Fetch a page."""
        return url.encode()

    @tool(timeout=5, approve=True)
    def count(self, words: list[str]) -> int:
        """Count words."""
        return len(words)

    @tool
    @prompt(turns=3)
    async def judge(self, text: str) -> Literal["good", "bad"] | None:
        """Judge this text: {text}"""

    async def plain(self, text: str) -> str:
        """Be an ordinary method: one method of an agent may await another."""
        count = assert_type(await self.count([text]), int)
        return f"{count} {assert_type(await self.judge(text), Literal['good', 'bad'] | None)}"


class Owner(Person):
    """Who pays for it."""

    @prompt
    async def approve(self, plan: Plan) -> Literal["yes", "no"]:
        """Shall this be built? {plan}"""

    @prompt(remind=3600, deadline=86_400, default=0)
    async def rate(self, package: str) -> int:
        """How good is {package}?"""


@choreography(owner=["ann", "bob"])
async def people(plan: Plan, owner: Owner) -> None:
    assert_type(await owner.approve(plan), Literal["yes", "no"])
    assert_type(await instance(owner, "ann").rate(package="textkit"), int)
    assert_type(await scatter([plan], owner, lambda o, plan: o.approve(plan)), list[Literal["yes", "no"]])

    await owner.approve("textkit")  # type: ignore[arg-type]
    await owner.agree(plan)  # type: ignore[attr-defined]


@choreography
async def calls(spec: ModuleSpec, architect: Architect, coder: Coder, publisher: Publisher) -> None:
    assert_type(await architect.plan_modules("a library"), Plan)
    assert_type(await architect.read_file("TASKS.md"), str)
    assert_type(await architect.run_tests([]), str)
    assert_type(await coder.implement_module(spec), Implementation)
    assert_type(await coder.implement_module(module=spec, feedback="shorter"), Implementation)
    assert_type(await publisher.publish("textkit", draft=True), int)
    assert_type(await publisher.tag("1.0"), str)
    assert_type(await publisher.fetch("index"), bytes)
    assert_type(await publisher.count(["a"]), int)
    assert_type(await publisher.judge("a"), Literal["good", "bad"] | None)

    await coder.implement_module("wrap.py")  # type: ignore[arg-type]
    await coder.implement_module()  # type: ignore[call-arg]
    await coder.implement_module(spec, feedbak="shorter")  # type: ignore[call-arg]
    await coder.implement_modules(spec)  # type: ignore[attr-defined]
    await coder.read_file(1)  # type: ignore[arg-type]
    await publisher.publish("textkit", True)  # type: ignore[call-arg]
    print((await coder.implement_module(spec)).verdict)  # type: ignore[attr-defined]


@choreography(coder=2)
async def instances(spec: ModuleSpec, coder: Coder) -> None:
    assert_type(instance(coder, "coder-2"), Coder)
    assert_type(await instance(coder, "coder-2").implement_module(spec), Implementation)

    await instance(coder, "coder-2").review_module(spec)  # type: ignore[attr-defined]


@choreography(coder=2)
async def scatters(specs: list[ModuleSpec], coder: Coder, reviewer: Reviewer) -> None:
    assert_type(await scatter(specs, coder, lambda c, spec: c.implement_module(spec)), list[Implementation])
    assert_type(
        await scatter(specs, coder, lambda c, spec: c.implement_module(spec), on_error="collect"),
        list[Implementation | ItemFailed],
    )

    async def implement_and_review(c: Coder, spec: ModuleSpec) -> Review:
        await c.implement_module(spec)
        return await reviewer.review_module(spec.module_path, spec.test_path)

    assert_type(await scatter(specs, coder, implement_and_review), list[Review])
    pairs = [(spec, "shorter") for spec in specs]
    assert_type(await scatter(pairs, coder, lambda c, p: c.implement_module(p[0], feedback=p[1])), list[Implementation])

    await scatter(specs, coder, lambda c, spec: c.review_module(spec))  # type: ignore[attr-defined]
    await scatter(specs, coder, lambda c, spec: c.implement_module(spec.name))  # type: ignore[arg-type]
    await scatter(specs, reviewer, implement_and_review)  # type: ignore[arg-type]
    await scatter(pairs, coder, implement_and_review)  # type: ignore[arg-type]
    await scatter(specs, coder, implement_and_review, on_error="ignore")  # type: ignore[call-overload]


@choreography
async def groups(specs: list[ModuleSpec], coder: Coder, reviewer: Reviewer) -> None:
    async def implement(c: Coder, spec: ModuleSpec) -> Implementation:
        return await c.implement_module(spec)

    async def review(r: Reviewer, spec: ModuleSpec) -> Review:
        return await r.review_module(spec.module_path, spec.test_path)

    assert_type(await fan_out([(specs, coder, implement)]), list[list[Implementation]])
    assert_type(await fan_out([(specs, reviewer, review), (specs, reviewer, review)]), list[list[Review]])
    assert_type(await fan_out([(specs, coder, implement)], on_error="collect"), list[list[Implementation | ItemFailed]])
    assert_type(await fan_out({"a": (specs, coder, implement)}), dict[str, list[Implementation]])
    assert_type(await fan_out({1: (specs, reviewer, review), 2: (specs, reviewer, review)}), dict[int, list[Review]])
    assert_type(
        await fan_out({"a": (specs, coder, implement)}, on_error="collect"),
        dict[str, list[Implementation | ItemFailed]],
    )
    by_name = {spec.name: ([spec], coder, implement) for spec in specs}
    assert_type(await fan_out(by_name), dict[str, list[Implementation]])
    assert_type(await fan_out(by_name.values()), list[list[Implementation]])
    await fan_out(
        [
            (specs, coder, lambda c, spec: c.implement_module(spec)),
            (specs, reviewer, lambda r, spec: r.review_module(spec.module_path, spec.test_path)),
        ]
    )

    await fan_out(
        {
            "implementations": (specs, coder, lambda c, spec: c.implement_module(spec)),
            "reviews": (specs, reviewer, lambda r, spec: r.review_module(spec.module_path, spec.test_path)),
        }
    )

    await fan_out({"a": (specs, coder)})  # type: ignore[arg-type]
    await fan_out([(specs, coder)])  # type: ignore[arg-type]
    await fan_out([(5, coder, implement)])  # type: ignore[list-item]


async def functions(architect: Architect, coder: Coder, reviewer: Reviewer, merger: Merger) -> None:
    _ = assert_type(build_project("a library", architect, coder, reviewer, merger), Awaitable[list[Review]])
    assert_type(
        await build_project("a library", architect, coder=coder, reviewer=reviewer, merger=merger), list[Review]
    )

    await build_project(architect, coder, reviewer, merger)  # type: ignore[call-arg]
    await build_project(5, architect, coder, reviewer, merger)  # type: ignore[arg-type]
    await build_project("a library", architect, reviewer, coder, merger)  # type: ignore[arg-type]
