"""What is asked of a model, and what it answers, in one form whoever is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from activities.contract.usage import Usage
from activities.models.hearing import SILENCE_S
from activities.models.model_errors import Shape
from activities.values.schema import Schema

Message = dict[str, Any]


@dataclass(frozen=True)
class ModelRequest:
    """One request to a model.

    Attributes:
        model: By litellm's name.
        messages: The conversation.
        tools: What the model may call.
        response_format: The form of its answer.
        parameters: Any others of litellm's `acompletion`.
        goes_on: Whether another request will begin with all of this, so that it is worth keeping at the provider's.
        cached: Whether the provider is told what to keep.
        waits: Whether to wait for the model where it is not to be had.
        silence: Seconds without a sign of life after which an answer is given up that has begun; 0 asks for it at once.
    """

    model: str
    messages: Sequence[Message]
    tools: Sequence[Schema] = ()
    response_format: Schema | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    goes_on: bool = False
    cached: bool = True
    waits: bool = True
    silence: float = SILENCE_S

    @property
    def shapes(self) -> list[Shape]:
        """What it asks for that not every server knows."""
        asked: dict[Shape, Any] = {"response_format": self.response_format, "tools": self.tools}
        return [shape for shape, what in asked.items() if what]


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes:
        message: As a message of the conversation.
        finish_reason: Why it ended, by OpenAI's word.
        usage: What it used.
        first_token_s: Seconds from the question to the first piece of the answer; None where it came at once.
        told: What the provider's headers tell of its limits.
    """

    message: Message
    finish_reason: str
    usage: Usage
    first_token_s: float | None = None
    told: Mapping[str, str] = field(default_factory=dict)
