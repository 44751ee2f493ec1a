"""What users test their own teams with: fakes that stand for agents in a choreography, without server and model."""

from testing.fakes import FakeCall, FakeError, calls_of, fake

__all__ = ["FakeCall", "FakeError", "calls_of", "fake"]
