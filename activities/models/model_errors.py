"""What went wrong when a model was asked: whether it may pass, and what a person can do about it."""

from __future__ import annotations

import email.utils
import json
import math
import re
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from activities.border.washing import said as shown
from activities.errors import (
    AgentError,
    ContextTooLong,
    ModelRefused,
    ModelUnavailable,
    ScriptExhausted,
    SettingInvalid,
)
from activities.models.bounds import NoKey, Stalled, TooMuch, Unreadable
from activities.models.rates import HEADERS


def sort_error(litellm: Any, model: str, error: Exception, uses: Collection[Shape] = ()) -> AgentError:
    """Decide whether an error may pass, and say what to do about it.

    Args:
        litellm: The module.
        model: Who was asked.
        error: What litellm raised.
        uses: What the request asked for that not every server knows.
    """
    return (
        _raised_by_us(error)
        or _too_much(model, error)
        or _stalled(model, error)
        or _unreadable(model, error)
        or _shape_refusal(litellm, model, error, uses)
        or _refusal(litellm, model, error)
        or _unavailable(litellm, model, error)
    )


def _shape_refusal(litellm: Any, model: str, error: Exception, uses: Collection[Shape]) -> ModelRefused | None:
    """Return what is to be said if a server does not know what the request asks for, whatever status it says so with.

    llama.cpp's servers say it with 500, others with 404 or 501; 400 and 422 say it by themselves.
    """
    status, text = _status(error), _words(error)
    told_apart = (litellm.ContextWindowExceededError, litellm.ContentPolicyViolationError, litellm.AuthenticationError)
    if status in (400, 401, 402, 408, 422, 429) or isinstance(error, told_apart):
        return None
    if not any(_SHAPES[shape].search(text) for shape in uses) or not _REFUSES.search(text):
        return None
    advice = "Its server does not take this way of asking: set another strategy, or use another model."
    return ModelRefused(f"{model}: {text} (HTTP {status}). {advice}", shape_refused=True)


Shape = Literal["response_format", "tools"]

_SHAPES: Mapping[Shape, re.Pattern[str]] = {
    "response_format": re.compile(
        r"response[ _-]?format|json[ _-]?(schema|object|mode)|structured|grammar|guided|constrained", re.IGNORECASE
    ),
    "tools": re.compile(r"\btools?\b|tool[ _-]?(choice|call|use)|function[ _-]?call", re.IGNORECASE),
}
_REFUSES = re.compile(
    r"\b(not|n't|cannot|un(supported|known|recogni[sz]ed|expected|implemented|available)|invalid|extra|disabled|only|"
    r"should be|must be|requires?)\b|n't\b",
    re.IGNORECASE,
)


def _too_much(model: str, error: Exception) -> ModelRefused | None:
    cause = next((cause for cause in _chain(error) if isinstance(cause, TooMuch)), None)
    if cause is None:
        return None
    return ModelRefused(
        f"{model}'s answer is not read: {cause}. Set max_tokens, or a greater MAX_RESPONSE_BYTES for the worker."
    )


def _stalled(model: str, error: Exception) -> ModelUnavailable | None:
    cause = next((cause for cause in _chain(error) if isinstance(cause, Stalled)), None)
    if cause is None:
        return None
    advice = "Raise silence, on the agent's class or in @prompt(silence=…), if it needs longer."
    return ModelUnavailable(f"{model} did not end its answer: {cause}. {AGAIN} {advice}", outage=True, stalled=True)


def _unreadable(model: str, error: Exception) -> ModelUnavailable | None:
    """Return what is to be said of an answer that is none, which litellm takes for a refusal with some providers."""
    if not any(isinstance(cause, Unreadable) for cause in _chain(error)):
        return None
    return ModelUnavailable(_not_read(model, _words(error), AGAIN), outage=False, limited=False)


def _not_read(model: str, said: str, again: str) -> str:
    return f"{model} gave no answer that can be read: {said}. {again} Check api_base and the network if it goes on."


def _refusal(litellm: Any, model: str, error: Exception) -> ModelRefused | None:
    """Return what is to be said of an error that comes again however often the model is asked.

    litellm matches phrases before it looks at the status, and a missing key is an internal server error to it; so
    the status that the provider really sent decides, where there is one.
    """
    said, status, keys = _words(error), _status(error), _key_names(litellm, model)
    if isinstance(error, litellm.ContextWindowExceededError):
        return ContextTooLong(
            f"{model}: the conversation is longer than its context window: {said}. "
            "Give it less to read, or use a model with a larger window."
        )
    if isinstance(error, litellm.ContentPolicyViolationError):
        return ModelRefused(f"{model} refused the content: {said}. Change the prompt, the input or the model.")
    if "LLM Provider NOT provided" in str(error):
        return ModelRefused(
            f"'{model}' names no provider that litellm knows. Write provider/model, such as openai/gpt-4o-mini; "
            "a server of your own that speaks OpenAI's protocol is openai/<its model> with api_base set."
        )
    if _LACKS_KEY.search(said) or isinstance(_said_by_us(error), NoKey):
        return ModelRefused(f"{model} has no API key: {said}. Set {keys} for the worker.")
    if status == 401 or isinstance(error, litellm.AuthenticationError):
        return ModelRefused(f"{model} did not take the API key: {said}. Set {keys} for the worker.")
    if _has_no_credit(error):
        return ModelRefused(f"{model}: the account has no credit left: {said}. Top it up, or use another key.")
    if advice := _ADVICE.get(status or 0):
        return ModelRefused(f"{model}: {said} (HTTP {status}). {advice}", shape_refused=status in (400, 422))
    if isinstance(error, _final_errors(litellm)):
        return ModelRefused(f"{model}: {said}. Check the model's name and the request's parameters.")
    return None


def _unavailable(litellm: Any, model: str, error: Exception) -> ModelUnavailable:
    litellm, said, status, delay = litellm, _words(error), _status(error), _retry_after(error)
    again = AGAIN if delay is None else f"The provider asks to wait {delay:.0f} seconds. {AGAIN}"
    if isinstance(error, litellm.RateLimitError):
        message = f"{model} is limiting the rate: {said}. {again} Fewer calls at a time (--concurrency) would help."
    elif isinstance(error, litellm.Timeout):
        message = f"{model} did not answer in time: {said}. {again} Set request_timeout if it needs longer."
    elif not _came_from_the_provider(error):
        message = _not_read(model, said, again)
    else:
        message = f"{model} could not answer (HTTP {status}): {said}. {again}"
    limited = isinstance(error, litellm.RateLimitError)
    outage = limited or isinstance(error, litellm.Timeout) or _came_from_the_provider(error) or _not_reached(error)
    sorted_out = ModelUnavailable(message, retry_after=delay, outage=outage, limited=limited)
    headers = getattr(error, "litellm_response_headers", None) or {}
    sorted_out.told = {name: value for name in HEADERS if (value := headers.get(name))}
    return sorted_out


AGAIN = "This may pass: a run asks again by itself."

_LACKS_KEY = re.compile(r"missing [\w ]{0,40}(credentials|api[_ ]key)", re.IGNORECASE)

_ADVICE = {
    400: "The provider takes the request for malformed: check the model's name and parameters.",
    402: "The account is not paid up: top it up, or use another key.",
    403: "The API key may not use this model: ask for access, or use another model or key.",
    404: "There is no such model at this address: check the model's name and api_base.",
    405: "The address is not that of a chat-completions endpoint: check api_base.",
    413: "The request is larger than the provider takes: send less.",
    422: "The provider can't process the request: check the model's name and parameters.",
}


def _final_errors(litellm: Any) -> tuple[type[Exception], ...]:
    names = (
        "BadRequestError",
        "NotFoundError",
        "PermissionDeniedError",
        "UnprocessableEntityError",
        "BudgetExceededError",
        "GuardrailRaisedException",
        "BlockedPiiEntityError",
        "ModelNotMappedError",
        "ModifyResponseException",
        "SensitiveDataRouteException",
        "InvalidRequestError",
    )
    return tuple(getattr(litellm.exceptions, name) for name in names if hasattr(litellm.exceptions, name))


def _status(error: Exception) -> int | None:
    found = getattr(error.__context__, "status_code", None) or getattr(error, "status_code", None)
    return found if isinstance(found, int) else None


def _came_from_the_provider(error: Exception) -> bool:
    """Tell a provider's own 500 from the one that litellm makes of a broken connection or of an unreadable answer."""
    status = _status(error)
    sent = getattr(error, "body", None) or getattr(error, "litellm_response_headers", None)
    return status not in (None, 200) and (status != 500 or bool(sent))


def _not_reached(error: Exception) -> bool:
    """Whether the request did not get through; an answer that breaks off may have been paid for."""
    return any(
        isinstance(cause, (ConnectionError, socket.gaierror)) or type(cause).__name__ in _CONNECTION_ERRORS
        for cause in _chain(error)
    )


_CONNECTION_ERRORS = ("ConnectError", "ConnectTimeout", "ClientConnectorError", "ServerDisconnectedError")


def _raised_by_us(error: Exception) -> AgentError | None:
    """Return what the scripted model raised; any other error of ours in the chain is one that the caller handles."""
    return next((cause for cause in _chain(error) if isinstance(cause, (ScriptExhausted, SettingInvalid))), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(error: Exception) -> str:
    """Return what was said, without the names that litellm and the SDKs put before it, in one short line."""
    if cause := _said_by_us(error):
        return shown(str(cause), 600).rstrip(".")
    said = _LABELS.sub("", str(getattr(error, "message", None) or error).split("Traceback (most recent call last)")[0])
    if said == "Connection error.":
        said = _why_not_connected(error) or said
    said = _message_in(said) or re.sub(r" ssl:(<[^>]*>|\S+)", "", said)
    return shown(" ".join(said.split()), 600).rstrip(".")


def _said_by_us(error: Exception) -> BaseException | None:
    """Return what the reading of the wire has raised, of which every handler of litellm's makes something else."""
    for cause in _chain(error):
        if isinstance(cause, (Unreadable, NoKey)) or type(cause).__name__ == "ReadTimeout":
            return cause
    return None


def _why_not_connected(error: Exception) -> str | None:
    """Return what the HTTP client says; if it is none of its own errors, what it stumbled over, by type and words."""
    for cause in _chain(error):
        if type(cause).__module__.startswith("httpx"):
            return str(cause) or type(cause).__name__
    *_, first = _chain(error)
    return None if str(first) == "Connection error." else f"{type(first).__name__}: {first}"


_LABELS = re.compile(
    r"^((litellm\.)?[A-Za-z ]*(Error|Exception|Timeout): )*([A-Za-z_]+(Exception|Error)( APIError)? - )?"
)


def _message_in(said: str) -> str | None:
    """Return the message of an error in OpenAI's or Anthropic's form, whatever is said before and after it."""
    try:
        found, _ = json.JSONDecoder().raw_decode(said, said.index("{"))
        return str(found["error"]["message"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _has_no_credit(error: Exception) -> bool:
    body = getattr(error, "body", None)
    return (isinstance(body, dict) and body.get("code") == "insufficient_quota") or "insufficient_quota" in str(error)


def _key_names(litellm: Any, model: str) -> str:
    missing = litellm.validate_environment(model).get("missing_keys") or ["the right key"]
    return (" or " if all(name.endswith("KEY") for name in missing) else " and ").join(missing)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value)
    return max(0.0, seconds) if seconds < _LONGEST_WAIT_S else None


_LONGEST_WAIT_S = 7 * 24 * 3600.0
"""What is longer, or no number, is no sensible wait."""


def _seconds_until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return math.nan
