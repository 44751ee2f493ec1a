"""What modules offer: the choreographies and agents that a worker finds in them. There is no registry to edit."""

from __future__ import annotations

import importlib
import keyword
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from activities.declarations.agent import Agent, check_served, methods_of
from activities.declarations.person import Person
from workflows.errors import ChoreographyError
from workflows.program.choreography import Choreography

OWN_PACKAGES = ("workflows", "activities")


class DiscoveryError(ChoreographyError):
    """A module can't be served; says which and why."""


@dataclass(frozen=True)
class Offer:
    """Choreographies and agent classes by name."""

    choreographies: dict[str, Choreography[..., Any]]
    agents: dict[str, type[Agent]]


def own_modules() -> list[str]:
    """Return the names of the project's own modules: the wings' files, beside the rooms of the harness."""
    folder = Path(__file__).parents[2]
    return [
        f"{package}.{module.name}"
        for package in OWN_PACKAGES
        for module in pkgutil.iter_modules([str(folder / package)])
        if not module.ispkg
    ]


def discover(modules: Iterable[str]) -> Offer:
    """Import modules and return what they offer.

    An agent class is offered if a choreography has it as a role, or if it is in a module, has methods, and no other
    class there is made from it: a base class with shared tools serves nobody by itself.

    Args:
        modules: Names as in an import statement, or paths of files or package folders.

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


def _import(given: str) -> ModuleType:
    """Import a module that was named as in an import statement, or by its file or folder."""
    here = Path.cwd()
    _look_in(here)
    name = given
    if file := _file_of(given):
        folder, name = _place_in_python(file, here)
        _look_in(folder)
    _check_name(given, name)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise DiscoveryError(
            f"There is no module '{name}' to serve: looked in {here} and where Python looks (PYTHONPATH). "
            "Give the module's name as in an import statement, or the path of its file."
        ) from error
    _check_file(name, module, file or _named_file(name, here))
    return module


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _file_of(given: str) -> Path | None:
    """Return the file or package folder that is meant, None if a module is named.

    Raises:
        DiscoveryError: There is none.
    """
    path = Path(given).expanduser().absolute()
    if not ("/" in given or given.endswith(".py") or path.is_dir()):
        return None
    for file in (path, path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file.parent if file.name == "__init__.py" else file
    if not path.is_dir():
        raise DiscoveryError(f"There is no module '{given}' to serve: there is neither a file nor a folder {path}.")
    if not (path / "__init__.py").is_file():
        modules = ", ".join(f"{given.rstrip('/')}/{file.name}" for file in sorted(path.glob("*.py"))) or "none here"
        raise DiscoveryError(f"{path} is a folder without __init__.py; name its modules, each by --module: {modules}.")
    return path


def _place_in_python(file: Path, here: Path) -> tuple[Path, str]:
    """Return the folder from which a file or package is imported, and by which name.

    That is the current folder, if the path from there is a name, or else the folder that its packages are in.
    """
    parts = [*file.parts[:-1], file.stem if file.is_file() else file.name]
    if file.is_relative_to(here):
        inner = parts[len(here.parts) :]
        if inner and all(part.isidentifier() for part in inner):
            return here, ".".join(inner)
    folder = file.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder, ".".join(parts[len(folder.parts) :])


def _check_name(given: str, name: str) -> None:
    for part in name.split("."):
        if not part.isidentifier() or keyword.iskeyword(part):
            mended = re.sub(r"\W", "_", re.sub(r"^([\d_]+)(.+)$", r"\2_\1", part)).strip("_") or "team"
            raise DiscoveryError(
                f"--module {given}: '{part}' is no name that Python can import; rename it, to {mended} for example."
                if part
                else f"--module {given}: give the module's name as in an import statement, or the path of its file."
            )


def _named_file(name: str, here: Path) -> Path | None:
    """Return the file or package in the current folder that a user means by a name."""
    base = here.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base) if file.exists()), None)


def _check_file(name: str, module: ModuleType, file: Path | None) -> None:
    """Refuse a module that is not the one that was meant, or that others would get instead of what they mean."""
    if file is None:
        return
    found = getattr(module, "__file__", None)
    meant = file / "__init__.py" if file.is_dir() else file
    if found is not None and meant.exists() and Path(found).resolve() != meant.resolve():
        raise DiscoveryError(f"{file} has the name of another module, {name} in {found}; rename it.")
    if found is None and file.is_file():
        raise DiscoveryError(f"{file} has the name of a module of Python itself, {name}; rename it.")
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise DiscoveryError(
            f"{file} has the name of a module of Python's standard library, {name.partition('.')[0]}, and would be "
            "imported in its place; rename it."
        )


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
