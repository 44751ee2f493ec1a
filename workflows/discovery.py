"""What modules offer: the choreographies and agents that a worker finds in them. There is no registry to edit."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from activities.agent import Agent, check_served, methods_of
from activities.person import Person
from workflows.choreography import Choreography
from workflows.errors import ChoreographyError

OWN_PACKAGES = ("workflows", "activities")


class DiscoveryError(ChoreographyError):
    """A module can't be served; says which and why."""


@dataclass(frozen=True)
class Offer:
    """Choreographies and agent classes by name."""

    choreographies: dict[str, Choreography[..., Any]]
    agents: dict[str, type[Agent]]


def own_modules() -> list[str]:
    """Return the names of the project's own modules."""
    folder = Path(__file__).parent.parent
    return [
        f"{package}.{module.name}"
        for package in OWN_PACKAGES
        for module in pkgutil.iter_modules([str(folder / package)])
    ]


def discover(modules: Iterable[str]) -> Offer:
    """Import modules and return what they offer.

    An agent class is offered if a choreography has it as a role, or if it is in a module, has methods, and no other
    class there is made from it: a base class with shared tools serves nobody by itself.

    Args:
        modules: Names as in an import statement; a file `my_team.py` in the current folder is `my_team`.

    Raises:
        DiscoveryError: A module can't be imported, or two things in them have one name.
    """
    choreographies: dict[str, Choreography[..., Any]] = {}
    agents: dict[str, type[Agent]] = {}
    for module in map(_import, modules):
        found = [value for value in vars(module).values() if isinstance(value, Choreography)]
        for choreography in found:
            _add(choreographies, choreography.name, choreography, "choreographies")
        for agent in [*_roles(found), *_agents_in(module)]:
            check_served(agent)
            if issubclass(agent, Person):  # who answers on the run, and on no queue
                continue
            _add(agents, agent.__name__, agent, "agents")
    return Offer(choreographies, agents)


def _import(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    name = name.removeprefix("./").removesuffix(".py").replace("/", ".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise DiscoveryError(
            f"There is no module '{name}' to serve: looked in {here} and where Python looks (PYTHONPATH). "
            "Give the module's name as in an import statement."
        ) from error


def _roles(choreographies: Iterable[Choreography[..., Any]]) -> Iterator[type[Agent]]:
    for choreography in choreographies:
        yield from choreography.roles.values()


def _agents_in(module: ModuleType) -> list[type[Agent]]:
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Agent)]
    return [
        agent
        for agent in classes
        if methods_of(agent) and not any(other is not agent and issubclass(other, agent) for other in classes)
    ]


def _add(known: dict[str, Any], name: str, value: Any, what: str) -> None:
    if known.setdefault(name, value) is not value:
        raise DiscoveryError(
            f"Two {what} are called {name}: {_place(known[name])} and {_place(value)}. Rename one, "
            "or serve only your own modules with --bare."
        )


def _place(value: Any) -> str:
    return f"{value.__module__}.{getattr(value, '__qualname__', value.__name__)}"
