"""A team in whose run everything that is said begins with `plain-`."""

from __future__ import annotations

from activities import Agent, Person, prompt, task, tool
from workflows import choreography, scatter


class Clerk(Agent):
    """You say what is plain-system."""

    @tool
    def look(self, what: str) -> str:
        """Look."""
        return f"plain-tool-result {what}"

    @prompt
    async def answer(self, what: str) -> str:
        """{what}"""

    @task(retries=1)
    async def fail(self, why: str) -> None:
        """Fail."""
        raise ValueError(f"plain-failure {why}")


class Owner(Person):
    """Who is asked."""

    @prompt
    async def agree(self, to: str) -> str:
        """Is {to} right?"""


@choreography(clerk=1)
async def tell(text: str, clerk: Clerk, owner: Owner) -> dict[str, object]:
    """Tell."""
    answer = await clerk.answer(f"plain-question {text}")
    failed = await scatter([f"plain-item {text}"], clerk, lambda one, item: one.fail(item), on_error="collect")
    agreed = await owner.agree(f"plain-agreement {text}")
    return {"answer": answer, "agreed": agreed, "failed": [str(error) for error in failed]}


@choreography
async def fail_plainly(text: str, clerk: Clerk) -> None:
    """Fail."""
    await clerk.fail(text)
