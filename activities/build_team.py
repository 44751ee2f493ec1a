"""The team of `build_project`: an architect who plans, coders who implement, reviewers who run the tests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from activities.declarations.agent import Agent
from activities.declarations.decorators import prompt, tool
from activities.workspace.repository import Repository


class ModuleSpec(BaseModel):
    """A module of the library, as the architect plans it."""

    name: str
    module_path: str = Field(description="Path of the module, such as textkit/wrap.py")
    test_path: str = Field(description="Path of its tests, such as tests/test_wrap.py")
    purpose: str
    api: str = Field(description="The public functions with their signatures and what they do")


class Plan(BaseModel):
    """A library as a list of modules that can be implemented independently."""

    package: str
    modules: list[ModuleSpec]


class Implementation(BaseModel):
    """What a coder has written."""

    module_path: str
    test_path: str
    summary: str


class Review(BaseModel):
    """What a reviewer found."""

    module_path: str
    verdict: Literal["PASS", "NEEDS_FIXES"]
    feedback: str = Field(description="What has to change, concretely; empty if nothing has")


class TeamMember(Agent):
    """You work with others on a Python library, whose files are in a repository."""

    workspace = Repository()

    @tool
    def list_files(self) -> list[str]:
        """List the files of the project's workspace."""
        return self.workspace.list_files()

    @tool
    def read_file(self, path: str) -> str:
        """Read a file of the project's workspace.

        Args:
            path: Relative to the workspace, such as textkit/wrap.py.
        """
        return self.workspace.read(path)

    @tool
    async def run_tests(self, paths: list[str]) -> str:
        """Run pytest in the project's workspace and return its verdict and output.

        Args:
            paths: Test files to run; all of the project's tests if the list is empty.
        """
        return str(await self.workspace.run_tests(*paths))


class Author(TeamMember):
    """You write Python code on a branch of your own, which is merged with what others write."""

    @tool
    def write_file(self, path: str, content: str) -> str:
        """Write a file in the project's workspace, replacing it if it is there.

        Args:
            path: Relative to the workspace, such as textkit/wrap.py.
            content: The whole text of the file.
        """
        return self.workspace.write(path, content)

    @tool
    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace a piece of text in a file of the project's workspace.

        Args:
            path: Relative to the workspace, such as textkit/wrap.py.
            old: The text to replace; it must occur exactly once.
            new: What stands there afterwards.
        """
        return self.workspace.edit(path, old, new)


class Architect(Author):
    """You are an experienced software architect. You plan small Python libraries whose modules can be implemented
    independently of each other, each by another developer who sees only its own part of the plan.
    """

    @prompt
    async def plan_modules(self, project_spec: str) -> Plan:
        """Plan the modules of the library that is described below. First write the package's __init__.py, with a
        docstring only: modules are imported by their own name. Give every module exactly one file and one test file,
        and describe its functions so precisely that a developer can write it without seeing the other modules.

        {project_spec}
        """


class Coder(Author):
    """You are an expert Python developer. You write clean, typed, documented modules, each with its pytest tests."""

    @prompt
    async def implement_module(self, module: ModuleSpec, feedback: str | None = None) -> Implementation:
        """Implement this module and its tests: {module}

        Feedback from the last review or merge, if any: {feedback}
        """


class Reviewer(TeamMember):
    """You are a careful code reviewer. You read the code, run its tests, and let nothing pass that does not work."""

    workspace = Repository(read_only=True)

    @prompt(require=("run_tests",))
    async def review_module(self, module_path: str, test_path: str) -> Review:
        """Review the module {module_path} with its tests {test_path}. Read it, run its tests, and judge: PASS only if
        it does what it says and its tests pass, NEEDS_FIXES with concrete feedback otherwise.
        """
