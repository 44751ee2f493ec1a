"""What a worker process is to serve: read from a command line's words, and from what the modules offer."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from activities.calls.activity import Activity, activity_for
from activities.contract.names import CHOREOGRAPHY_QUEUE, method_name
from activities.declarations.agent import Agent, methods_of
from activities.declarations.method import Method
from activities.errors import AgentError, SettingInvalid, place_of
from activities.models.rates import SETTING, limits_in
from activities.workspace.repository import repository_of
from workflows.errors import ChoreographyError, SettingsInvalid
from workflows.program.choreography import Choreography
from workflows.serving.discovery import Offer, discover, own_modules


@dataclass(frozen=True)
class Settings:
    """What a worker process is to serve.

    Attributes:
        queues: The activities of each task queue.
        choreographies: Those to serve; none if the process serves agents only.
        concurrency: Calls at a time by queue.
        keeps_repositories: Whether any of the activities works in a repository.
        per_minute: Calls that begin in a minute, by queue, on all workers together; those without are not limited.
        grace: Seconds that calls in flight may go on when the worker stops.
        asks_models: Whether any of the activities may ask a model.
        team: Whose queues they are: each name begins with it; empty for the plain names.
        allow_unsandboxed: Whether code that models write may run without a sandbox where there is none.
    """

    queues: Mapping[str, Sequence[Activity]]
    choreographies: Sequence[Choreography[..., Any]]
    concurrency: Mapping[str, int]
    grace: float
    asks_models: bool
    team: str = ""
    allow_unsandboxed: bool = False
    keeps_repositories: bool = False
    per_minute: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(
        cls,
        *,
        serve: Sequence[str] = (),
        concurrency: Sequence[str] = (),
        modules: Sequence[str] = (),
        bare: bool = False,
        grace: float = 30.0,
        team: str = "",
        allow_unsandboxed: bool = False,
    ) -> Settings:
        """Make settings from a command line's words.

        Raises:
            SettingsInvalid: A name or number is not known; lists what there is.
            DiscoveryError: A module can't be served.
        """
        if bare and not modules:
            raise SettingsInvalid("--bare serves only what --module names; name a module.")
        if team and not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", team):
            raise SettingsInvalid(f"--team {team}: give a name of letters, digits, - and _.")
        offer = _discover([*([] if bare else own_modules()), *modules])
        queues = _queues(offer)
        if not queues:
            raise SettingsInvalid(
                f"There is neither a choreography nor an agent with methods in {', '.join(modules)}: nothing to serve."
            )
        chosen = _chosen(serve, queues)
        _check_environment()
        return cls(
            queues={name: queues[name] for name in chosen if name != CHOREOGRAPHY_QUEUE},
            choreographies=list(offer.choreographies.values()) if CHOREOGRAPHY_QUEUE in chosen else [],
            concurrency=_limits(concurrency, queues),
            grace=grace,
            asks_models=any(name in _ask_models(offer) for name in chosen),
            team=team,
            allow_unsandboxed=allow_unsandboxed,
            keeps_repositories=any(name in _keep_repositories(offer) for name in chosen),
            per_minute=_per_minute(offer),
        )


def _discover(modules: Sequence[str]) -> Offer:
    """Import modules, and tell of an error in one of them where it is instead of how it was come upon."""
    try:
        return discover(modules)
    except (ChoreographyError, AgentError):
        raise
    except Exception as error:
        # A syntax error's message names the line itself.
        place = "" if isinstance(error, SyntaxError) else f" (at {place_of(error)})"
        raise SettingsInvalid(f"A module can't be imported: {type(error).__name__}: {error}{place}") from error


def _queues(offer: Offer) -> dict[str, list[Activity]]:
    """Return the activities of every queue: one of its own for each prompt and task, one per class for its tools."""
    queues: dict[str, list[Activity]] = {}
    for agent in offer.agents.values():
        for method in methods_of(agent).values():
            queues.setdefault(queue_of(agent, method), []).append(activity_for(agent, method))
    if offer.choreographies:
        queues[CHOREOGRAPHY_QUEUE] = []
    return queues


def _check_environment() -> None:
    try:
        limits_in(os.environ.get(SETTING, ""))
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None


def _per_minute(offer: Offer) -> dict[str, float]:
    """Return how many calls may begin in a minute, by the queues of the methods that say so."""
    return {
        queue_of(agent, method): method.options.per_minute
        for agent in offer.agents.values()
        for method in methods_of(agent).values()
        if method.options.per_minute is not None
    }


def _ask_models(offer: Offer) -> list[str]:
    """Return the queues of agents that have prompts: their tasks and tools may ask these too."""
    return [
        queue
        for name, agent in offer.agents.items()
        if any(method.kind == "prompt" for method in methods_of(agent).values())
        for queue in (name, *(method_name(name, method) for method in methods_of(agent)))
    ]


def _keep_repositories(offer: Offer) -> set[str]:
    """Return the queues of agents that work on branches of a repository."""
    agents = [agent for agent in offer.agents.values() if repository_of(agent) is not None]
    return {queue_of(agent, method) for agent in agents for method in methods_of(agent).values()}


def queue_of(agent: type[Agent], method: Method[..., Any]) -> str:
    """Return the task queue of a method: a prompt or task has one of its own, tools have their class's."""
    return agent.__name__ if method.kind == "tool" else method_name(agent.__name__, method.name)


def _chosen(names: Sequence[str], queues: Mapping[str, object]) -> list[str]:
    if not names:
        return list(queues)
    return list(dict.fromkeys(queue for name in names for queue in _matching("--serve", name, queues)))


def _matching(option: str, name: str, queues: Mapping[str, object]) -> list[str]:
    found = [queue for queue in queues if queue == name or queue.startswith(f"{name}.")]
    if not found:
        raise SettingsInvalid(
            f"{option} {name}: there is nothing of that name to serve. There are: {', '.join(queues)}."
        )
    return found


def _limits(words: Sequence[str], queues: Mapping[str, object]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for word in sorted(words, key=lambda word: len(word.rpartition("=")[0])):  # the closest name has the last word
        name, named, number = word.rpartition("=")
        if not number.isdecimal() or int(number) < 1 or (named and not name):
            raise SettingsInvalid(f"--concurrency {word}: give a number from 1, as in 4 or Coder=4.")
        for queue in _matching("--concurrency", name, queues) if name else queues:
            limits[queue] = int(number)
    return limits
