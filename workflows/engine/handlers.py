"""How a workflow that is composed of parts serves what its parts take: their signals, queries and updates.

The SDK knows handlers of a workflow's class only, and of those that are set later it shows no description.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from workflows.engine.sdk import declared_handler

W = TypeVar("W")


def serving_handlers_of(**parts: type) -> Callable[[type[W]], type[W]]:
    """Give a workflow's class the handlers of its parts.

    Args:
        **parts: The class of each part, by the attribute of the workflow that holds it. Its handlers are declared as in
            a workflow: `@workflow.signal`, `@workflow.query`, `@workflow.update`.
    """

    def give(made: type[W]) -> type[W]:
        for attribute, part in parts.items():
            for name, function in inspect.getmembers(part, inspect.isfunction):
                if (handler := _handler(attribute, function)) is not None:
                    setattr(made, name, handler)
        return made

    return give


def _handler(part: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
    declared = declared_handler(function)
    if declared is None:
        return None
    handler: Any = declared.decorate(_passed_on(part, function))
    if declared.validator is not None:
        handler.validator(_passed_on(part, declared.validator))
    return cast("Callable[..., Any]", handler)


def _passed_on(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function, updated=())  # not its declaration, which is for an object of its own class
    def passed_on(self: Any, *args: Any) -> Any:
        return function(getattr(self, part), *args)

    return passed_on
