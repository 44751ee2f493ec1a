"""The wing that touches the world: agents, their tools, the model boundary, the workspace."""

from activities.answering.interpreters import answer_in_process
from activities.border.secrets import secret
from activities.declarations.agent import Agent
from activities.declarations.decorators import prompt, task, tool
from activities.declarations.method import answered_here_by
from activities.declarations.person import Person

__all__ = ["Agent", "Person", "prompt", "secret", "task", "tool"]

answered_here_by(answer_in_process)
