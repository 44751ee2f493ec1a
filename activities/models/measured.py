"""One request to a model, measured: whether it was answered, when, and what that used."""

from __future__ import annotations

import time

from activities.errors import AgentError, ContextTooLong, ModelRefused, ModelUnavailable
from activities.measures import catalogue as metrics
from activities.measures.measures import count, measuring_also, observe, observe_first_token
from activities.measures.spans import is_traced, note
from activities.models import model, traced


async def complete(request: model.ModelRequest) -> model.Answer:
    """Ask a model as `model.complete` does.

    Raises:
        ModelUnavailable, ModelRefused, ContextTooLong: See there.
    """
    provider = await traced.provider_of(request.model) if is_traced() else ""
    began = time.monotonic()
    with measuring_also(model=request.model), traced.asking(request, provider):
        try:
            answer = await model.complete(request)
        except AgentError as error:
            count(metrics.MODEL_ERRORS, error=class_of(error))
            note(**{"error.type": class_of(error)})
            raise
        traced.answered(answer)
        observe(metrics.MODEL_SECONDS, time.monotonic() - began)
        if answer.first_token_s is not None:
            observe_first_token(answer.first_token_s)
        _count_usage(answer)
    return answer


def class_of(error: AgentError) -> str:
    """Return why a request was not answered, in a word."""
    if isinstance(error, ModelUnavailable):
        return (
            "limited" if error.limited else "stalled" if error.stalled else "outage" if error.outage else "unreadable"
        )
    if isinstance(error, ContextTooLong):
        return "too_long"
    return "refused" if isinstance(error, ModelRefused) else "other"


def _count_usage(answer: model.Answer) -> None:
    used = answer.usage
    count(metrics.MODEL_CALLS)
    count(metrics.PROMPT_TOKENS, used.prompt_tokens)
    count(metrics.COMPLETION_TOKENS, used.completion_tokens)
    count(metrics.CACHE_READ_TOKENS, used.cache_read_tokens)
    count(metrics.CACHE_WRITE_TOKENS, used.cache_write_tokens)
    count(metrics.UNPRICED, int(used.cost_usd is None))
    if used.cost_usd is not None:
        observe(metrics.COST, used.cost_usd)
