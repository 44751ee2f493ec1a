"""What calls use of their models."""

from __future__ import annotations

from pydantic import BaseModel


class Usage(BaseModel):
    """What a call used of its model.

    `cost_usd` is None when a model without a known price took part: then count tokens.
    `prompt_tokens` are all that were sent; of these, `cache_read_tokens` came from the provider's cache, for a tenth of
    the price or so, and `cache_write_tokens` were put into it where that costs something. `cost_usd` is with both.
    `estimated` counts the model calls of which the provider told no usage that can be true: theirs is estimated.
    """

    models: list[str] = []
    model_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = 0.0
    estimated: int = 0

    def __add__(self, other: Usage) -> Usage:
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            models=list(dict.fromkeys([*self.models, *other.models])),
            model_calls=self.model_calls + other.model_calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
            estimated=self.estimated + other.estimated,
        )

    def __sub__(self, earlier: Usage) -> Usage:
        unknown = self.cost_usd is None or earlier.cost_usd is None
        return Usage(
            models=self.models,
            model_calls=self.model_calls - earlier.model_calls,
            prompt_tokens=self.prompt_tokens - earlier.prompt_tokens,
            completion_tokens=self.completion_tokens - earlier.completion_tokens,
            cache_read_tokens=self.cache_read_tokens - earlier.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens - earlier.cache_write_tokens,
            cost_usd=None if unknown else (self.cost_usd or 0.0) - (earlier.cost_usd or 0.0),
            estimated=self.estimated - earlier.estimated,
        )
