"""Agents: what a class declares, what it inherits, and how its methods run in this process."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from activities import Agent, prompt, task, tool
from activities.border.context import CallContext, answering
from activities.declarations.agent import methods_of, system_prompt_of, tools_of
from activities.declarations.method import Method
from activities.errors import DeclarationError


class Reading:
    """A mixin that is no agent."""

    @tool
    def read_file(self, path: str) -> str:
        """Read a file."""
        return f"text of {path}"


class Listing(Agent):
    """You can list files."""

    @tool
    async def list_files(self) -> list[str]:
        """List the files."""
        return ["a.py"]


class Critic(Reading, Listing):
    """You are a friendly critic.

    Be brief.
    """

    @prompt
    async def judge(self, poem: str) -> str:
        """Judge this poem: {poem}"""


class StrictCritic(Critic):
    @prompt
    async def judge(self, poem: str) -> str:
        """Judge this poem without mercy: {poem}"""

    @tool
    def read_file(self, path: str) -> str:
        """Read a file with care."""
        return f"careful {self.plain(path)}"

    def plain(self, path: str) -> str:
        return Reading.read_file.function(self, path)  # type: ignore[no-any-return]


def declaration_error(declare: Callable[[], object]) -> str:
    with pytest.raises(DeclarationError) as caught:
        declare()
    return str(caught.value)


def test_the_class_docstring_is_the_system_prompt() -> None:
    assert system_prompt_of(Critic) == "You are a friendly critic.\n\nBe brief."


def test_a_class_without_docstring_has_its_base_class_system_prompt() -> None:
    assert system_prompt_of(StrictCritic) == system_prompt_of(Critic)


def test_the_docstring_of_a_mixin_that_is_no_agent_is_no_system_prompt() -> None:
    class Reader(Reading, Listing):
        pass

    assert system_prompt_of(Reader) == "You can list files."


def test_an_agent_without_any_docstring_has_no_system_prompt() -> None:
    class Silent(Agent):
        pass

    assert system_prompt_of(Silent) is None


def test_tools_come_from_mixins_whether_they_are_agents_or_not() -> None:
    assert set(tools_of(Critic)) == {"read_file", "list_files"}


def test_an_overridden_prompt_replaces_the_inherited_one() -> None:
    assert methods_of(StrictCritic)["judge"].docstring.startswith("Judge this poem without mercy")
    assert methods_of(Critic)["judge"].docstring.startswith("Judge this poem:")


async def test_an_overridden_tool_runs_as_overridden() -> None:
    assert await StrictCritic().read_file("a") == "careful text of a"


async def test_an_overriding_tool_may_call_the_one_above_it() -> None:
    class Shouting(Critic):
        @tool
        async def list_files(self) -> list[str]:
            """List the files in capitals."""
            return [name.upper() for name in await super().list_files()]

        @tool
        def read_file(self, path: str) -> str:
            """Read a file in capitals."""
            return str(super().read_file(path)).upper()

    assert await Shouting().list_files() == ["A.PY"]
    assert await Shouting().read_file("a") == "TEXT OF A"


def test_a_tool_decorator_above_a_prompt_offers_it_to_the_model() -> None:
    class Author(Agent):
        @tool
        @prompt
        async def sketch(self, theme: str) -> str:
            """Sketch a poem on {theme}."""

        @prompt
        async def write(self, theme: str) -> str:
            """Write a poem on {theme}."""

    assert list(tools_of(Author)) == ["sketch"]
    assert Author.sketch.kind == "prompt"


def test_a_task_is_not_offered_to_the_model() -> None:
    class Author(Agent):
        @task
        def publish(self, poem: str) -> None:
            """Publish it."""

    assert list(methods_of(Author)) == ["publish"]
    assert tools_of(Author) == {}


def test_decorators_set_options() -> None:
    class Author(Agent):
        @tool(timeout=5, retries=1)
        def look_up(self, word: str) -> str:
            """Look a word up."""
            return word

        @task(timeout=7)
        async def publish(self) -> None: ...

        @prompt(timeout=9, retries=2, model="openai/x", require="look_up", turns=3, reasks=1, strategy="tool")
        async def write(self) -> str:
            """Write a poem."""

    assert (Author.look_up.options.timeout, Author.look_up.options.retries) == (5, 1)
    assert Author.publish.options.timeout == 7
    options = Author.write.options
    assert (options.timeout, options.retries, options.model, options.turns) == (9, 2, "openai/x", 3)
    assert (options.reasks, options.strategy) == (1, "tool")
    assert options.require == ("look_up",)


def test_a_required_tool_that_the_class_lacks_is_an_error() -> None:
    def declare() -> None:
        class Author(Listing):
            @prompt(require=("write_file",))
            async def write(self) -> str:
                """Write."""

    message = declaration_error(declare)

    assert "Author.write" in message
    assert "'write_file'" in message
    assert "its tools: list_files" in message
    assert "add the tool" in message


def test_a_required_tool_may_be_inherited() -> None:
    class Author(Reading, Agent):
        @prompt(require=("read_file",))
        async def write(self) -> str:
            """Write."""

    assert Author.write.options.require == ("read_file",)


def test_an_override_without_a_decorator_is_an_error() -> None:
    def declare() -> None:
        class Author(Critic):
            async def judge(self, poem: str) -> str:
                return poem

    assert declaration_error(declare) == (
        "Author.judge overrides the prompt Critic.judge without being one; write @prompt above it"
    )


def test_an_override_by_a_mixin_without_a_decorator_is_an_error() -> None:
    class Fast:
        def list_files(self) -> list[str]:
            return []

    def declare() -> None:
        class Author(Fast, Listing):  # type: ignore[misc]
            pass

    assert declaration_error(declare) == (
        "Fast.list_files overrides the tool Listing.list_files without being one; write @tool above it"
    )


@pytest.mark.parametrize("name", ["call", "name", "workspace", "model", "final_answer"])
def test_a_method_may_not_take_a_name_that_the_harness_uses(name: str) -> None:
    async def method(self: Agent) -> str:
        """Answer."""
        raise NotImplementedError

    message = declaration_error(lambda: type("Author", (Agent,), {name: prompt(method)}))

    assert message.startswith(f"Author.{name}: ")
    assert "give the method another one" in message


@pytest.mark.parametrize("outer", [prompt, task(timeout=1), tool(timeout=1)], ids=["prompt", "task", "tool(…)"])
def test_two_decorators_that_contradict_each_other_are_an_error(outer: Callable[[Any], Any]) -> None:
    message = declaration_error(lambda: outer(Critic.judge))

    assert "Critic.judge is a prompt already" in message
    assert "write one decorator" in message


async def test_methods_run_in_this_process_and_are_awaited_whether_async_or_not() -> None:
    assert await Critic().read_file("a.py") == "text of a.py"
    assert await Critic().list_files() == ["a.py"]


def test_a_sync_method_called_from_sync_code_is_just_called() -> None:
    result: Any = Critic().read_file("a.py")

    assert result == "text of a.py"


async def test_a_sync_method_does_not_block_the_loop() -> None:
    loop = asyncio.get_running_loop()

    class Waiting(Agent):
        @task
        def until_the_loop_goes_on(self) -> bool:
            goes_on = asyncio.Event()
            asyncio.run_coroutine_threadsafe(self._set(goes_on), loop).result(timeout=5)
            return goes_on.is_set()

        async def _set(self, event: asyncio.Event) -> None:
            event.set()

    assert await Waiting().until_the_loop_goes_on()


def test_a_method_on_the_class_describes_itself() -> None:
    assert isinstance(Critic.judge, Method)
    assert repr(Critic.judge) == "<prompt Critic.judge>"


def test_an_agents_name_is_its_class_in_lower_case_unless_it_has_one() -> None:
    assert Critic().name == "critic"
    assert Critic("anna").name == "anna"


def test_in_a_choreography_an_agent_is_named_as_its_instance(workspaces: Path) -> None:
    critic = Critic()

    with answering(CallContext("poems", "run", "critic-2", "Critic.judge", "1")):
        assert critic.name == "critic-2"
        assert critic.call is not None

    assert critic.call is None


def test_an_agents_workspace_is_its_own_unless_one_is_given(workspaces: Path, tmp_path: Path) -> None:
    Critic("anna").workspace.write("a.txt", "hers")
    Critic(workspace=tmp_path / "given").workspace.write("a.txt", "given")

    assert (workspaces / "anna" / "a.txt").read_text() == "hers"
    assert (tmp_path / "given" / "a.txt").read_text() == "given"


def test_agents_of_one_run_share_a_workspace_that_no_other_run_has() -> None:
    def folder(run: str, instance: str) -> Path:
        with answering(CallContext("poems", run, instance, "Critic.judge", "1")):
            agent = Critic()
            agent.workspace.write("a.txt", "text")
            return Path(agent.workspace.root)

    assert folder("1", "critic-1") == folder("1", "critic-2")
    assert folder("1", "critic-1") != folder("2", "critic-1")
