"""What is known of litellm's insides, and relied on: all of it stands here, and a test fails when litellm changes it.

The way of a question through litellm is made short. Its handler of OpenAI's protocol goes through the OpenAI SDK, which
takes more time for a request than all else together, the more the longer the conversation; its own HTTP handler, by
which it asks most other providers, asks these as well.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
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
    redaction: Any = secret_redaction
    redact = redaction.python_redact_string
    redaction.python_redact_string = lambda text: redact(clip(text, SHORT_ERROR))
    _price_only_what_has_a_price()


def _price_only_what_has_a_price() -> None:
    """Spare litellm to look for the price of a model that it does not know, a server's own: a third of what it does.

    It looks under a dozen names, by rules for each, and again for each answer.
    """
    import litellm
    from litellm.litellm_core_utils.litellm_logging import Logging
    from litellm.utils import get_base_model_from_metadata

    logging: Any = Logging
    calculate = logging.response_cost_calculator

    @functools.lru_cache(maxsize=_NAMES_KEPT)
    def is_known(name: str, provider: str | None, entries: int) -> bool:
        for of_whom in (provider, None):
            with suppress(Exception):  # it raises several things for a model that it does not know
                litellm.get_model_info(name, of_whom)
                return True
        return False

    def response_cost_calculator(self: Any, result: Any, *args: Any, **options: Any) -> float | None:
        names = {self.model, getattr(result, "model", None)} - {None, ""}
        provider = self.model_call_details.get("custom_llm_provider")
        is_told = getattr(getattr(result, "usage", None), "cost", None) is not None
        stands_for_another = get_base_model_from_metadata(self.model_call_details) is not None
        entries = len(litellm.model_cost)  # it learns prices while it runs, from its user
        if is_told or stands_for_another or any(is_known(str(name), provider, entries) for name in names):
            cost: float | None = calculate(self, result, *args, **options)
            return cost
        return None

    logging.response_cost_calculator = logging._response_cost_calculator = response_cost_calculator


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
