from __future__ import annotations

import pytest

from activities.contract.leases import Rates
from activities.errors import SettingInvalid
from activities.models.rates import key_of, limits_in, limits_set_for, told_by


def test_limits_are_set_by_model_or_by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_LIMITS", "openai/gpt-4o-mini=600rpm/100_000tpm openai/*=50rpm, anthropic/*=30000tpm")
    assert limits_set_for("openai/gpt-4o-mini") == Rates(requests=600, tokens=100_000)
    assert limits_set_for("openai/o3") == Rates(requests=50)
    assert limits_set_for("anthropic/claude-sonnet-4-5") == Rates(tokens=30_000)
    assert not limits_set_for("mistral/any")


@pytest.mark.parametrize(
    "setting",
    ["openai/o3", "o3=", "=5rpm", "o3=5", "o3=5rpm/6rpm", "o3=0rpm", "o3=-5rpm", "o3=5rpm/", "o3=xtpm"],
)
def test_a_setting_that_can_not_be_read_is_refused_in_words(setting: str) -> None:
    with pytest.raises(SettingInvalid, match=r"MODEL_LIMITS has '.*'; write a model and its requests and tokens"):
        limits_in(setting)


def openais(limit: str, left: str, reset: str) -> dict[str, str]:
    names = ("limit", "remaining", "reset")
    return {f"x-ratelimit-{name}-requests": value for name, value in zip(names, (limit, left, reset), strict=True)}


@pytest.mark.parametrize(
    ("headers", "requests", "is_scarce"),
    [
        (openais("600", "599", "100ms"), 600, False),
        (openais("600", "200", "40s"), 600, True),
        (openais("600", "200", "1m20s"), 600, True),
        (openais("14400", "4400", "16h40m0s"), 10, True),
        (openais("14400", "14399", "6s"), 14400, False),
        (openais("600", "0", "soon"), 600, True),
        ({"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "10"}, 50, True),
    ],
    ids=["OpenAI", "scarce", "with minutes", "of a day", "of a day, hardly used", "odd", "Anthropic"],
)
def test_what_a_provider_tells_is_read(headers: dict[str, str], requests: float, is_scarce: bool) -> None:
    told = told_by(headers)
    assert told is not None
    assert told.limits.requests == pytest.approx(requests)
    assert told.is_scarce is is_scarce


@pytest.mark.parametrize(
    "headers", [{}, openais("", "", ""), openais("0", "0", ""), openais("-5", "1", "1s"), openais("9" * 50, "1", "1s")]
)
def test_what_makes_no_sense_is_told_by_nobody(headers: dict[str, str]) -> None:
    assert told_by(headers) is None


def test_a_key_is_known_by_a_digest_and_so_is_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first-of-all")
    first = key_of("openai", {})
    assert "sk-first" not in first
    assert key_of("openai", {"api_base": "http://localhost"}) != first
    assert key_of("openai", {"api_key": "sk-another"}) != first
    monkeypatch.setenv("OPENAI_API_KEY", "sk-second-of-all")
    assert key_of("openai", {}) != first
