"""A model on loopback that plays the team of `build_project`, for a kit of as many modules as are wanted.

One module is wrong at first, so that its review asks for a fix. Where all have to list their module in one file, their
work conflicts, and the model resolves it from both sides. Asked as `openai/strict` it wants a docstring, too.
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from activities.build_team import Implementation, ModuleSpec, Plan, Review
from testing.loopback import Exchange
from tests.provider import Provider, Reply, Request, Slow, Text, ToolCall, Tools

INDEX = "kit/__init__.py"
STRICT = "strict"
DOCUMENTED = '"""Say its name."""'
_PREAMBLE = '"""A kit."""\n'
_WRONG = "module_1"
_DOCUMENT_IT = "Give it a docstring."


class Developers(Provider):
    """The team's model."""

    def __init__(self, modules: int, *, one_file: bool, pace: float, seed: int) -> None:
        """Prepare to answer.

        Args:
            modules: How many the kit has.
            one_file: Whether each has to be listed in the same file.
            pace: The most seconds that an answer takes.
            seed: Of how long each takes.
        """
        super().__init__(self._at_leisure)
        self.names = [f"module_{number}" for number in range(modules)]
        self.may_end = threading.Event()
        self._one_file = one_file
        self._pace = pace
        self._chance = random.Random(seed)
        self._begun: set[str] = set()

    @property
    def files(self) -> list[str]:
        """What a finished kit consists of."""
        return sorted([INDEX, *map(_module, self.names), *map(_test, self.names)])

    @property
    def index(self) -> list[str]:
        """The lines of the file that is everybody's, sorted."""
        listed = [_listing(name) for name in self.names] if self._one_file else []
        return sorted([*_PREAMBLE.splitlines(), *listed])

    def _at_leisure(self, request: Request) -> Reply:
        reply = self._answer(request.model, request.last_user, _said_by_tools(request))
        return Slow(self._chance.uniform(0, self._pace), reply)

    def _answer(self, model: str, asked: str, said: Sequence[str]) -> Reply:
        if asked.startswith("Plan the modules"):
            modules = [
                ModuleSpec(name=name, module_path=_module(name), test_path=_test(name), purpose=name, api=f"{name}()")
                for name in self.names
            ]
            return _next([_writes(INDEX, _PREAMBLE)], said, Plan(package="kit", modules=modules))
        named = re.search(r"kit/(\w+)\.py", asked)
        assert named, asked
        if asked.startswith("Review the module"):
            return self._review(model, named[1], said)
        return self._implement(named[1], asked.rpartition("if any: ")[2], said)

    def _implement(self, name: str, feedback: str, said: Sequence[str]) -> Reply:
        self._begun.add(name)
        done = Implementation(module_path=_module(name), test_path=_test(name), summary="done")
        listed = said[-1].splitlines() if said else []
        if "conflicts with what others have merged" in feedback:
            both = [line for line in listed if line.startswith(("from ", '"""'))]
            return _next([_reads(INDEX), _writes(INDEX, _lines(both))], said, done)
        if feedback != "none":
            return _next([_writes(_module(name), _text(name, documented=_DOCUMENT_IT in feedback))], said, done)
        text = _text(name, says="nothing" if name == _WRONG else name)
        steps = [_writes(_module(name), text), _writes(_test(name), self._tests(name))]
        if not self._one_file:
            return _next(steps, said, done)
        steps += [_reads(INDEX), _writes(INDEX, _lines([*listed, _listing(name)]))]
        # Two begin before anything is merged: so what they do to the file conflicts.
        return When(lambda: len(self._begun) > 1, _next(steps, said, done))

    def _tests(self, name: str) -> str:
        place = "kit" if self._one_file else f"kit.{name}"
        return f"from {place} import {name}\n\n\ndef test_{name}() -> None:\n    assert {name}() == {name!r}\n"

    def _review(self, model: str, name: str, said: Sequence[str]) -> Reply:
        steps = [_reads(_module(name)), ToolCall("run_tests", {"paths": [_test(name)]})]
        feedback = ""
        if len(said) == len(steps):
            text, tests = said
            feedback = "Its tests fail." if "FAILED" in tests else ""
            if model == STRICT and name == self.names[0] and DOCUMENTED not in text:
                feedback = _DOCUMENT_IT
        verdict = Review(module_path=_module(name), verdict="NEEDS_FIXES" if feedback else "PASS", feedback=feedback)
        # Whoever kills workers is done before the run is.
        return When(
            lambda: bool(feedback) or name != self.names[-1] or self.may_end.is_set(), _next(steps, said, verdict)
        )


@dataclass(frozen=True)
class When:
    """A reply that is due when a condition holds."""

    condition: Callable[[], bool]
    then: Reply

    def send(self, to: Exchange) -> None:
        """Write itself, unless the client hangs up before."""
        while not self.condition():
            if to.ends_within(0.02):
                return
        self.then.send(to)


def _said_by_tools(request: Request) -> list[str]:
    """Return what tools have said since the call began."""
    messages = request.messages
    began = max(number for number, message in enumerate(messages) if message["role"] == "user")
    return [str(message["content"]) for message in messages[began:] if message["role"] == "tool"]


def _next(steps: Sequence[ToolCall], said: Sequence[str], answer: BaseModel) -> Reply:
    return Tools((steps[len(said)],)) if len(said) < len(steps) else Text(answer.model_dump_json())


def _reads(path: str) -> ToolCall:
    return ToolCall("read_file", {"path": path})


def _writes(path: str, content: str) -> ToolCall:
    return ToolCall("write_file", {"path": path, "content": content})


def _module(name: str) -> str:
    return f"kit/{name}.py"


def _test(name: str) -> str:
    return f"tests/test_{name}.py"


def _listing(name: str) -> str:
    return f"from kit.{name} import {name}"


def _text(name: str, *, says: str = "", documented: bool = False) -> str:
    docstring = f"    {DOCUMENTED}\n" if documented else ""
    return f"def {name}() -> str:\n{docstring}    return {(says or name)!r}\n"


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))
