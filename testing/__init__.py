"""What users test their own teams with: fakes for agents, a scripted provider for models, and the replay check."""

from testing.fakes import FakeCall, FakeError, calls_of, fake
from testing.prompt_cache import PromptCache
from testing.provider import ScriptedProvider
from testing.replay import DoesNotReplay, replays

__all__ = ["DoesNotReplay", "FakeCall", "FakeError", "PromptCache", "ScriptedProvider", "calls_of", "fake", "replays"]
