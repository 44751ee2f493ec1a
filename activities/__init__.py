"""The wing that touches the world: agents, their tools, the model boundary, the workspace."""

from activities.agent import Agent, prompt, task, tool
from activities.person import Person

__all__ = ["Agent", "Person", "prompt", "task", "tool"]
