"""The limits of a model: as they are set, and as its provider tells them with each response.

>>> limits_in("openai/gpt-4o-mini=600rpm/100000tpm anthropic/*=50rpm")["anthropic/*"]
Rates(requests=50.0, tokens=None)
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from activities.contract.leases import Rates
from activities.contract.text import clip, digest_of
from activities.errors import SettingInvalid

SETTING = "MODEL_LIMITS"
"""The variable that sets limits: `openai/gpt-4o-mini=600rpm/100000tpm anthropic/*=50rpm`."""

OFF = "off"
"""In its place: requests are sent as they come."""

_LIMIT = re.compile(r"([\d_]+(?:\.\d+)?)(rpm|tpm)")


def limits_in(setting: str) -> dict[str, Rates]:
    """Return the limits that a setting gives, by model, or by a pattern of models.

    Raises:
        SettingInvalid: It can't be read; says what it should look like.
    """
    found: dict[str, Rates] = {}
    for word in [] if setting == OFF else setting.replace(",", " ").split():
        model, _, limits = word.rpartition("=")
        amounts = [_LIMIT.fullmatch(part) for part in limits.split("/")]
        told = {match[2]: float(match[1]) for match in amounts if match}
        if not model or None in amounts or len(told) != len(amounts) or not all(told.values()):
            raise SettingInvalid(
                f"{SETTING} has '{clip(word, 200)}'; write a model and its requests and tokens a minute, one or both: "
                "openai/gpt-4o-mini=600rpm/100000tpm. Several are parted by spaces; anthropic/* is all of a provider's."
            )
        found[model] = Rates(requests=told.get("rpm"), tokens=told.get("tpm"))
    return found


def limits_set_for(model: str) -> Rates:
    """Return the limits that are set for a model; those of its own name go before those of a pattern.

    Raises:
        SettingInvalid: The setting can't be read.
    """
    given = _limits_in(os.environ.get(SETTING, ""))
    found = given.get(model, Rates())
    for pattern, rates in given.items():
        if fnmatchcase(model, pattern):
            found = found | rates
    return found


def are_off() -> bool:
    """Whether the setting says that requests are sent as they come, whatever the provider tells."""
    return os.environ.get(SETTING, "") == OFF


_limits_in = functools.lru_cache(maxsize=8)(limits_in)


def key_of(provider: str, parameters: Mapping[str, Any]) -> str:
    """Return a digest of by which key, and where, a provider is asked: limits belong to these.

    Args:
        provider: litellm's name of it.
        parameters: Those of the request.
    """
    prefix = provider.upper()
    names = [f"{prefix}_{what}" for what in ("API_KEY", "API_BASE", "BASE_URL", "ORGANIZATION", "ORG_ID")]
    names += _ELSEWHERE.get(provider, ())
    given = [str(parameters.get(name) or "") for name in ("api_key", "api_base", "organization")]
    return digest_of("\n".join([provider, *given, *(os.environ.get(name, "") for name in names)]))


_ELSEWHERE = {
    "bedrock": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION_NAME"),
    "vertex_ai": ("VERTEXAI_PROJECT", "VERTEXAI_LOCATION"),
    "gemini": ("GOOGLE_API_KEY",),
}


@dataclass(frozen=True)
class Told:
    """What a provider tells of its limits with a response.

    Attributes:
        limits: In a minute.
        remaining: What may be asked now.
        is_scarce: Whether less is left than half of one of the limits.
    """

    limits: Rates
    remaining: Rates
    is_scarce: bool


def told_by(headers: Mapping[str, str]) -> Told | None:
    """Return what the headers of a response tell; None where they tell nothing that makes sense."""
    limits, remaining, is_scarce = {}, {}, False
    for unit, names in _NAMES:
        most, left = _number(headers.get(names[0])), _number(headers.get(names[1]))
        if most:
            is_scarce = is_scarce or (left is not None and left < most / 2)
            limits[unit], remaining[unit] = _in_a_minute(most, left, headers.get(names[2], "")), left
    return Told(Rates(**limits), Rates(**remaining), is_scarce) if limits else None


_NAMES = [
    (unit, tuple(form.format(unit=unit, what=what) for what in ("limit", "remaining", "reset")))
    for form in ("anthropic-ratelimit-{unit}-{what}", "x-ratelimit-{what}-{unit}")
    for unit in ("requests", "tokens")
]

HEADERS = frozenset(name for _, names in _NAMES for name in names)
"""OpenAI's, which most providers have taken over, and Anthropic's."""

_LONGER_THAN_A_MINUTE_S = 180.0
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def _in_a_minute(most: float, left: float | None, reset: str) -> float:
    """Return a limit in a minute: some tell that of a day, which shows by how slowly what was used comes back.

    Args:
        most: The limit.
        left: What is left of it.
        reset: How long it takes until all is there again: `1m30s`. Where little was used it tells nothing.
    """
    if left is None or left > most / 2 or not (match := _DURATION.fullmatch(reset)):
        return most
    days, hours, minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
    until = 86_400 * days + 3_600 * hours + 60 * minutes + seconds + thousandths / 1_000
    whole = until * most / (most - left)
    return most * 60 / whole if whole > _LONGER_THAN_A_MINUTE_S else most


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() and len(text) <= 12 else None
