"""A team that says its worker's secrets wherever it can, and a run that does so too."""

from __future__ import annotations

import logging
import os

from pydantic import BaseModel

from activities import Agent, Person, prompt, secret, task, tool
from workflows import choreography, scatter

_TOKEN = os.environ.get("TEAM_TOKEN", "")
"""Known to the program of the run, as its module reads it."""

logger = logging.getLogger("leaky")


class Kept(BaseModel):
    """What a leak keeps."""

    token: str = ""


class Leak(Agent):
    """You tell secrets."""

    state: Kept = Kept()

    @tool
    def look_around(self) -> str:
        """Return the environment."""
        self.state.token = os.environ["TEAM_TOKEN"]
        return f"{dict(os.environ)}"

    @tool
    def write_down(self) -> str:
        """Write the environment into a file."""
        self.workspace.write("notes.txt", f"password={os.environ['DB_PASSWORD']}\n")
        return self.workspace.read("notes.txt")

    @tool
    def stumble(self) -> str:
        """Fail."""
        raise ValueError(f"wrong password: {os.environ['DB_PASSWORD']}")

    @prompt
    async def answer(self, what: str) -> str:
        """{what}"""

    @task
    async def give(self, name: str) -> dict[str, str]:
        """Return a secret."""
        logger.warning("gives %s", os.environ[name])
        return {"given": os.environ[name], os.environ[name]: "as a key", "from a file": secret("MOUNTED")}

    @task(retries=0)
    async def fail(self, name: str) -> None:
        """Fail with a secret."""
        try:
            raise LookupError(os.environ[name])
        except LookupError as error:
            raise ValueError(f"can't use {os.environ[name]}") from error

    @task
    async def use(self, name: str) -> int:
        """Use a secret, which stays here."""
        assert self.call is not None
        return len(self.call.secret(name))


class Owner(Person):
    """Who is asked."""

    @prompt
    async def agree(self, to: str) -> bool:
        """Is {to} right?"""


@choreography(leak=1)
async def tell_all(names: list[str], leak: Leak, owner: Owner) -> dict[str, object]:
    """Tell all."""
    answers = [await leak.answer(what) for what in ("look around", "write it down", "stumble")]
    given = [await leak.give(name) for name in names]
    failed = await scatter(names, leak, lambda one, name: one.fail(name), on_error="collect")
    refused = await scatter(["be refused"], leak, lambda one, what: one.answer(what), on_error="collect")
    agreed = await owner.agree(_TOKEN)
    return {
        "answers": answers,
        "given": given,
        "failed": [str(error) for error in (*failed, *refused)],
        "agreed": agreed,
        "token": _TOKEN,
        "used": await leak.use("STRIPE_KEY"),
    }


@choreography
async def fail_telling(leak: Leak) -> None:
    """Fail with a secret of the program's."""
    raise ValueError(f"this is it: {_TOKEN}")
