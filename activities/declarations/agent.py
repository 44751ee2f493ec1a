"""Agents: classes whose docstring is the system prompt and whose methods are the work they can be asked for.

class Critic(Agent):
    \"\"\"You are a friendly critic.\"\"\"

    @prompt
    async def judge(self, poem: str) -> Verdict:
        \"\"\"Judge this poem: {poem}\"\"\"
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from activities.border.context import CallContext, current_call, workspaces_folder
from activities.declarations.declaration import check_assignment, check_attributes, check_made
from activities.declarations.method import Method, MethodOptions, check_declaration, check_types
from activities.declarations.state import check_state, declares_state
from activities.errors import DeclarationError
from activities.memory.transcript import Message, Transcript
from activities.values.schema import ANSWER_TOOL
from activities.workspace.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")

ASKING_OPTIONS = ("remind", "deadline", "default")
"""What may be set for the question of a person, and for nothing else."""


class Agent:
    """One who can be asked: the class docstring is the system prompt, class attributes are defaults.

    In a choreography agents are roles; the harness makes the instances. Elsewhere, `await
    Coder().implement_module(spec)` runs the same model loop in this process, with a conversation that lives as
    long as the object.

    Attributes:
        model: A litellm model string, `openai/gpt-4o-mini`. Without one the environment's MODEL is used.
        temperature: Passed to the model where it is set.
        max_tokens: The most tokens of one model answer.
        api_base: The address of an OpenAI-protocol server, for models named `openai/…`.
        fallbacks: Who is asked, in order, where the model is not to be had: in outages, and when it takes no more.
            Where the environment's MODEL is used and none are set, its MODEL_FALLBACKS are.
        strategy: How a typed answer is asked for: `json_schema`, `json_object`, `tool` or `text`. Without one
            it is chosen by what the model supports.
        max_turns: The most model answers in one call.
        max_reasks: How often an answer that does not validate is sent back.
        request_timeout: Seconds that one model request may take.
        patience: Seconds that a call of a run waits, in all, for models that are not to be had (outages, rate
            limits). They count neither as attempts nor towards the method's `timeout`.
        silence: Seconds in which nothing may come of an answer that has begun; then it is asked for again. 0 or None
            asks for answers at once, where a stalled one is noticed after `request_timeout`.
        context_window: The model's context window in tokens; litellm's table knows it for many models.
        compaction_model: Who summarises a conversation that has become too long; the model itself otherwise.
        parameters: Any other parameters of litellm's `acompletion`.
        prompt_caching: Whether providers that want to be told are told what of a conversation to keep for a later turn.
    """

    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    api_base: str | None = None
    fallbacks: Sequence[str] | None = None
    strategy: str | None = None
    max_turns: int = 25
    max_reasks: int = 3
    request_timeout: float = 600.0
    patience: float = 3600.0
    silence: float | None = 60.0
    context_window: int | None = None
    compaction_model: str | None = None
    parameters: Mapping[str, Any] = {}
    prompt_caching: bool = True

    def __init__(
        self, name: str | None = None, *, model: str | None = None, workspace: Path | str | None = None
    ) -> None:
        """Make an agent for use in this process.

        Args:
            name: Its name; the class's in lower case where none is given.
            model: Instead of the class's model.
            workspace: The folder for its files; `<workspaces>/<name>` where none is given.
        """
        if name is not None:
            self.name = name
        if model is not None:
            self.model = model
        if workspace is not None:
            self.workspace = Workspace(workspace)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Give the agent a state of its own, where its class declares one."""
        check_made(cls)
        made = super().__new__(cls)
        if declares_state(cls):
            vars(made)["state"] = copy.deepcopy(getattr(cls, "state"))  # noqa: B009  # no class has to have one
        return made

    if not TYPE_CHECKING:  # type checkers would take any name for an attribute then

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse what would be lost at the end of a call."""
            if _OF_A_CALL in vars(self):
                check_assignment(type(self), name)
            super().__setattr__(name, value)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_attributes(cls, Agent)
        check_state(cls)
        for name, method in methods_of(cls).items():
            _check_name(cls, name)
            check_declaration(cls.__name__, method)
            cls._check_method(method)
            _check_required_tools(cls, name, method)
        _check_overrides(cls)

    @classmethod
    def _check_method(cls, method: Method[..., Any]) -> None:
        """Check what a method may be declared as; a person's differ from a model's."""
        if misplaced := [name for name in method.options.set_beside(MethodOptions()) if name in ASKING_OPTIONS]:
            raise DeclarationError(
                f"{cls.__name__}.{method.name}: {', '.join(misplaced)}: only a person is reminded and may not answer "
                f"in time; leave it out, or make {cls.__name__} a Person"
            )

    @property
    def name(self) -> str:
        """Who this is: `coder-2` in a choreography."""
        call = current_call()
        return call.instance if call else str(vars(self).get("name", type(self).__name__.lower()))

    @name.setter
    def name(self, name: str) -> None:
        vars(self)["name"] = name

    @property
    def call(self) -> CallContext | None:
        """The call of a choreography that is being answered; None elsewhere.

        A tool that acts on the world hands its `idempotency_key` on, so that a repetition after a crash is known.
        """
        return current_call()

    @property
    def workspace(self) -> Workspace:
        """The folder of the run, shared by all agents of the run and by no other run."""
        mine: Workspace | None = vars(self).get("workspace")
        if mine is not None:
            return mine
        call = current_call()
        if call is not None:
            return Workspace.of_run(workspaces_folder(), call.workflow_id, call.run_id)
        return Workspace(workspaces_folder() / self.name)

    @workspace.setter
    def workspace(self, workspace: Workspace) -> None:
        vars(self)["workspace"] = workspace

    @property
    def transcript(self) -> Transcript:
        """What was said so far, for an agent that lives in this process."""
        transcript: Transcript = vars(self).setdefault("transcript", Transcript())
        return transcript

    @property
    def conversation(self) -> list[Message]:
        """What was said so far, as messages, for an agent that lives in this process."""
        return self.transcript.messages()


_OF_A_CALL = "_of_a_call"


def of_a_call(agent: Agent) -> Agent:
    """Take an agent for one that answers a single call: what is set on it from now on would be lost."""
    vars(agent)[_OF_A_CALL] = True
    return agent


def check_served(agent: type[Agent]) -> None:
    """Check a class when all modules are loaded and its calls are about to be served.

    Raises:
        DeclarationError: Its methods can't be called, or something would be lost; names class, method and mend.
    """
    check_made(agent)
    if inspect.isabstract(agent):
        missing = ", ".join(sorted(getattr(agent, "__abstractmethods__", ())))
        raise DeclarationError(f"{agent.__name__} is abstract: write {missing}, or serve the classes made from it")
    check_state(agent)
    for method in methods_of(agent).values():
        check_types(agent.__name__, method)


def methods_of(agent: type) -> dict[str, Method[..., Any]]:
    """Return an agent class's methods by name, inherited ones included, in the order of their definition."""
    found: dict[str, Method[..., Any]] = {}
    for base in reversed(agent.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Method):
                found[name] = value
            else:
                found.pop(name, None)
    return found


def patience_of(agent: type[Agent], method: Method[..., Any]) -> float:
    """Return the seconds that a call waits, in all, for models that are not to be had."""
    return agent.patience if method.options.patience is None else method.options.patience


def silence_of(agent: type[Agent], method: Method[..., Any]) -> float:
    """Return the seconds in which nothing may come of an answer that has begun; 0 where it comes at once."""
    return (agent.silence if method.options.silence is None else method.options.silence) or 0.0


def tools_of(agent: type) -> dict[str, Method[..., Any]]:
    """Return the methods that a model is offered, by name."""
    return {name: method for name, method in methods_of(agent).items() if method.offered}


def system_prompt_of(agent: type) -> str | None:
    """Return the class docstring, or that of the nearest agent class above it."""
    for base in agent.__mro__:
        if base is not Agent and issubclass(base, Agent) and base.__doc__:
            return _cleaned(base.__doc__)
    return None


_cleaned = functools.lru_cache(maxsize=1_000)(inspect.cleandoc)  # as it is asked for with each turn


def _check_required_tools(agent: type, name: str, method: Method[..., Any]) -> None:
    known = tools_of(agent)
    for required in method.options.require:
        if required not in known:
            raise DeclarationError(
                f"{agent.__name__}.{name}: requires the tool '{required}', which the class does not have "
                f"(its tools: {', '.join(known) or 'none'}); correct the name or add the tool"
            )


def _check_name(agent: type, name: str) -> None:
    if name in vars(Agent) or name == ANSWER_TOOL:
        raise DeclarationError(
            f"{agent.__name__}.{name}: the harness uses the name '{name}' itself; give the method another one"
        )


def _check_overrides(agent: type) -> None:
    nearest: dict[str, tuple[type, Any]] = {}
    for base in agent.__mro__:
        for name, value in vars(base).items():
            above, overriding = nearest.setdefault(name, (base, value))
            if isinstance(value, Method) and not isinstance(overriding, Method):
                raise DeclarationError(
                    f"{above.__name__}.{name} overrides the {value.kind} {base.__name__}.{name} without being one; "
                    f"write @{value.kind} above it"
                )
