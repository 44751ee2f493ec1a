"""What is known of litellm's insides, and relied on: all of it stands here, and a test fails when litellm changes it.

The way of a question through litellm is made short. Its handler of OpenAI's protocol goes through the OpenAI SDK, which
takes more time for a request than all else together, the more the longer the conversation; its own HTTP handler, by
which it asks most other providers, asks these as well.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from activities.contract.text import clip
from activities.models.bounds import SHORT_ERROR
from activities.models.wire import guarded

NEEDED_AT_FIRST_USE = (
    "litellm.litellm_core_utils.default_encoding",
    "litellm.llms.litellm_proxy.chat.transformation",
    "litellm.proxy._types",
    "litellm.proxy.openai_files_endpoints.common_utils",
)
"""What it imports at its first question."""

NEEDED_BY_CLIENTS = ("jiter", "openai.resources.chat", "litellm._service_logger")
"""What it imports at its first request to a provider."""

MOST_CONNECTIONS = 10_000
"""Connections of a process, and of it to one host: how many calls there are at a time is said elsewhere."""

_NAMES_KEPT = 1_000

_CALLBACKS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


def set_up() -> None:
    """Set what litellm reads from the environment; what the user has set stays."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # or it reads any .env file near the installed packages
    if "OPENAI_IDENTITY_PROVIDER_ID" not in os.environ:  # only the SDK exchanges such an identity for a token
        os.environ.setdefault("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "True")


def guard_litellm() -> None:
    """Have the HTTP clients that litellm makes, for whatever provider, read by way of `wire`.

    Nor may it look for secrets in megabytes: its regular expressions take half a minute, and stop all threads.
    """
    import httpx
    from litellm.litellm_core_utils import secret_redaction
    from litellm.llms.custom_httpx import http_handler
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    class Guarded(httpx.AsyncHTTPTransport):
        handle_async_request = guarded(httpx.AsyncHTTPTransport.handle_async_request)

    def create_httpx_transport() -> httpx.AsyncHTTPTransport:
        verify, http2 = http_handler.get_ssl_configuration(), http_handler.http2_enabled()
        return make() or Guarded(verify=verify, http2=http2)

    over_aiohttp: Any = LiteLLMAiohttpTransport
    handler: Any = http_handler
    make = handler.AsyncHTTPHandler._create_httpx_transport
    over_aiohttp.handle_async_request = guarded(over_aiohttp.handle_async_request)
    handler.AsyncHTTPTransport = Guarded
    handler.AsyncHTTPHandler._create_httpx_transport = staticmethod(create_httpx_transport)
    for limit in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST"):
        if limit not in os.environ:
            setattr(handler, limit, MOST_CONNECTIONS)
    redaction: Any = secret_redaction
    redact = redaction.python_redact_string
    redaction.python_redact_string = lambda text: redact(clip(text, SHORT_ERROR))
    _price_only_what_has_a_price()
    _list_providers_once()
    _look_up_models_of_openai_once()
    _look_for_cookies_only_where_there_are_any()


def _list_providers_once() -> None:
    """Spare litellm to make a list of its 165 providers twice for each question: a tenth of what it does."""
    from litellm.types import utils

    providers: Any = utils.LlmProviders
    members = tuple(providers)

    class Listed(type(providers)):  # type: ignore[misc]
        def __iter__(cls) -> Iterator[Any]:
            return iter(members)

    providers.__class__ = Listed
    type.__setattr__(providers, "value", property(operator.attrgetter("_value_")))


def _look_up_models_of_openai_once() -> None:
    """Spare litellm to look twice for each question whether it goes by another of OpenAI's protocols.

    It keeps what it finds for its prices, and forgets it when somebody tells it others; what it does not find is kept
    here.
    """
    import litellm
    from litellm.utils import cached_get_model_info_helper

    main: Any = litellm.main
    look_up = main.get_model_info_helper

    @functools.lru_cache(maxsize=_NAMES_KEPT)
    def is_known(name: str, entries: int) -> bool:
        try:
            look_up(model=name, custom_llm_provider="openai")
        except Exception:  # it raises several things for a model that it does not know
            return False
        return True

    def get_model_info_helper(model: str, custom_llm_provider: str | None = None) -> Any:
        if custom_llm_provider != "openai":
            return look_up(model=model, custom_llm_provider=custom_llm_provider)
        if not is_known(model, len(litellm.model_cost)):
            raise LookupError(model)
        return dict(cached_get_model_info_helper(model=model, custom_llm_provider=custom_llm_provider))

    main.get_model_info_helper = get_model_info_helper


def _look_for_cookies_only_where_there_are_any() -> None:
    """Spare its HTTP client to look for cookies in each response, which it does by way of a request of urllib's."""
    import httpx

    cookies: Any = httpx.Cookies
    extract = cookies.extract_cookies

    def extract_cookies(self: httpx.Cookies, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            extract(self, response)

    cookies.extract_cookies = extract_cookies


_prepares_at_once: ContextVar[bool] = ContextVar("prepares a request at once", default=False)


@contextmanager
def prepared_at_once() -> Iterator[None]:
    """Say that litellm does nothing that waits before it sends what is asked inside."""
    token = _prepares_at_once.set(True)
    try:
        yield
    finally:
        _prepares_at_once.reset(token)


def only_prepares(work: Any) -> bool:
    """Whether what litellm gives to a thread is its making of a request, of which is known that it does not wait.

    It makes each in a thread, as it can't know what some providers wait for. To go there and back takes longer than
    much of what is done there.
    """
    import litellm

    inner = work.args[0] if isinstance(work, functools.partial) and len(work.args) == 1 else None
    if not _prepares_at_once.get() or not isinstance(inner, functools.partial):
        return False
    is_it: bool = inner.func is litellm.main.completion
    return is_it and not any(name.startswith("mock_") for name in inner.keywords)  # which may sleep


def _price_only_what_has_a_price() -> None:
    """Spare litellm to look for the price of a model that it does not know, a server's own: a third of what it does.

    It looks under a dozen names, by rules for each, and again for each answer.
    """
    import litellm
    from litellm.litellm_core_utils.litellm_logging import Logging
    from litellm.utils import get_base_model_from_metadata

    logging: Any = Logging
    calculate = logging.response_cost_calculator

    def response_cost_calculator(self: Any, result: Any, *args: Any, **options: Any) -> float | None:
        names = {self.model, getattr(result, "model", None)} - {None, ""}
        provider = self.model_call_details.get("custom_llm_provider")
        is_told = getattr(getattr(result, "usage", None), "cost", None) is not None
        stands_for_another = get_base_model_from_metadata(self.model_call_details) is not None
        entries = len(litellm.model_cost)  # it learns prices while it runs, from its user
        if is_told or stands_for_another or any(_is_known(str(name), provider, entries) for name in names):
            cost: float | None = calculate(self, result, *args, **options)
            return cost
        return None

    logging.response_cost_calculator = logging._response_cost_calculator = response_cost_calculator


@functools.lru_cache(maxsize=_NAMES_KEPT)
def _is_known(name: str, provider: str | None, entries: int) -> bool:
    """Whether litellm has a price for a name.

    Args:
        name: Of a model.
        provider: Who has it.
        entries: How many prices it knows.
    """
    import litellm

    for of_whom in (provider, None):
        with suppress(Exception):  # it raises several things for a model that it does not know
            litellm.get_model_info(name, of_whom)
            return True
    return False


@contextmanager
def told_to_nobody(litellm: Any) -> Iterator[None]:
    """Spare litellm what it makes of each answer for its callbacks, unless there are any: a third of what it does."""
    if any(getattr(litellm, name, None) for name in _CALLBACKS):
        yield
        return
    from litellm._internal_context import is_internal_call

    token = is_internal_call.set(True)
    try:
        yield
    finally:
        is_internal_call.reset(token)


_SETTINGS = (
    "api_key",
    "openai_key",
    "api_base",
    "organization",
    "drop_params",
    "modify_params",
    "openai_system_messages_first",
    "enable_preview_features",
    "request_timeout",
    "ssl_verify",
)
"""What its user may set for all requests: what they hold depends on these."""

_SET_BY_FEW = (
    *_CALLBACKS,
    "cache",
    "headers",
    "proxy_auth",
    "model_alias_map",
    "model_fallbacks",
    "pre_call_rules",
    "post_call_rules",
    "max_budget",
    "credential_list",
    "cost_discount_config",
    "cost_margin_config",
)
"""What it does more than ask, where one of these is set."""


def settings_of_requests(litellm: Any) -> tuple[object, ...] | None:
    """Return what litellm's requests depend on beside the question; None where it does more than ask."""
    if any(getattr(litellm, name, None) for name in _SET_BY_FEW):
        return None
    return (*(getattr(litellm, name, None) for name in _SETTINGS), len(litellm.model_cost))


def response_of(litellm: Any, model: str, completion: dict[str, Any]) -> Any:
    """Return litellm's answer for a completion in OpenAI's form, with its price, as it is at the end of its own way."""
    from litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response import (
        convert_to_model_response_object,
    )

    made = convert_to_model_response_object(
        response_object=completion, model_response_object=litellm.ModelResponse(), hidden_params={}
    )
    names = {model.removeprefix("openai/"), made.model}
    is_told = getattr(made.usage, "cost", None) is not None
    if is_told or any(_is_known(str(name), "openai", len(litellm.model_cost)) for name in names if name):
        made._hidden_params["response_cost"] = litellm.response_cost_calculator(
            response_object=made,
            model=model.removeprefix("openai/"),
            custom_llm_provider="openai",
            call_type="acompletion",
            optional_params={},
        )
    return made


def headers_of(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers for OpenAI that its SDK makes of the environment, and litellm's own handler does not.

    Args:
        parameters: Those of the request.
    """
    organization = parameters.get("organization") or _set("OPENAI_ORGANIZATION") or _set("OPENAI_ORG_ID")
    found = {"OpenAI-Organization": organization, "OpenAI-Project": _set("OPENAI_PROJECT_ID")}
    return {name: value for name, value in found.items() if value}


def _set(name: str) -> str | None:
    return os.environ.get(name)
