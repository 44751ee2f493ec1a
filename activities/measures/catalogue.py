"""The metrics of the harness: their names, what they tell, by what they are told apart.

Labels are role, method, model and the like: of each there are few. What a run or an item is called is none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_OF_A_CALL = ("role", "method")
_OF_A_MODEL = ("role", "method", "model")

_REQUEST_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FIRST_TOKEN_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_LONG_S = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_USD = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(frozen=True)
class Metric:
    """Something that is measured.

    Attributes:
        name: Without what Prometheus wants at its end.
        help: What it tells.
        labels: By what it is told apart.
        unit: Of a histogram; a counter has none.
        buckets: Upper bounds of a histogram's buckets; none for a counter.
    """

    name: str
    help: str
    labels: Sequence[str]
    unit: str = ""
    buckets: Sequence[float] = field(default=())

    @property
    def is_counter(self) -> bool:
        """Whether it counts; else it is a histogram."""
        return not self.buckets

    @property
    def exposed_name(self) -> str:
        """Its name as Prometheus reads it."""
        return f"{self.name}_total" if self.is_counter else f"{self.name}_{self.unit}"


CALLS = Metric(
    "choreography_calls",
    "Attempts at calls of agent methods, by outcome: done, paused, tried_again, failed, stopped.",
    (*_OF_A_CALL, "outcome"),
)
CALL_SECONDS = Metric(
    "choreography_call_duration", "How long attempts at calls of agent methods took.", _OF_A_CALL, "seconds", _LONG_S
)
CALL_ERRORS = Metric(
    "choreography_call_errors",
    "Errors that ended an attempt at a call, by class, and whether the call was tried again.",
    (*_OF_A_CALL, "error", "retried"),
)
MODEL_CALLS = Metric("choreography_model_calls", "Requests that a model has answered.", _OF_A_MODEL)
MODEL_ERRORS = Metric(
    "choreography_model_errors",
    "Requests that a model has not answered, by class: limited, outage, stalled, unreadable, refused, too_long, other.",
    (*_OF_A_MODEL, "error"),
)
MODEL_SECONDS = Metric(
    "choreography_model_latency", "How long answers of a model took, in all.", _OF_A_MODEL, "seconds", _REQUEST_S
)
FIRST_TOKEN_SECONDS = Metric(
    "choreography_model_first_token",
    "How long the first token of an answer took, where it is streamed.",
    _OF_A_MODEL,
    "seconds",
    _FIRST_TOKEN_S,
)
PROMPT_TOKENS = Metric("choreography_prompt_tokens", "Tokens sent to a model, cached ones included.", _OF_A_MODEL)
COMPLETION_TOKENS = Metric("choreography_completion_tokens", "Tokens that a model has answered.", _OF_A_MODEL)
CACHE_READ_TOKENS = Metric(
    "choreography_cache_read_tokens", "Tokens of prompts that came from the provider's cache.", _OF_A_MODEL
)
CACHE_WRITE_TOKENS = Metric(
    "choreography_cache_write_tokens", "Tokens of prompts that were put into the provider's cache.", _OF_A_MODEL
)
COST = Metric("choreography_model_cost", "What answers of a model cost; the sum is the bill.", _OF_A_MODEL, "usd", _USD)
UNPRICED = Metric("choreography_unpriced_model_calls", "Answers of a model whose price is not known.", _OF_A_MODEL)
REASKS = Metric("choreography_reasks", "Answers that were sent back, as they would not do.", _OF_A_MODEL)
COMPACTIONS = Metric("choreography_compactions", "Conversations that were made shorter to fit.", _OF_A_MODEL)
WAITS = Metric(
    "choreography_model_wait",
    "How long calls waited for a model, by reason: limit, where too much was asked of it, or outage.",
    (*_OF_A_MODEL, "reason"),
    "seconds",
    _LONG_S,
)

CATALOGUE: Sequence[Metric] = (
    CALLS,
    CALL_SECONDS,
    CALL_ERRORS,
    MODEL_CALLS,
    MODEL_ERRORS,
    MODEL_SECONDS,
    FIRST_TOKEN_SECONDS,
    PROMPT_TOKENS,
    COMPLETION_TOKENS,
    CACHE_READ_TOKENS,
    CACHE_WRITE_TOKENS,
    COST,
    UNPRICED,
    REASKS,
    COMPACTIONS,
    WAITS,
)
