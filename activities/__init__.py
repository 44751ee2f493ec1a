"""The wing that touches the world: agents, their tools, the model boundary, the workspace."""

from activities.agent import Agent, prompt, task, tool

__all__ = ["Agent", "prompt", "task", "tool"]
