"""The short way of a question: what litellm has made of one is made again of the next of its kind.

Of the model, the parameters and the forms of the messages litellm makes the same address, headers and body each time,
in twenty times what it takes to write other messages into what it made before. So the first question of a kind goes its
way, and is remembered if its messages were sent as they were given. What comes back of the next is read by litellm as
well; whatever is no plain answer goes its whole way, just as if it had asked for it itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activities.border.environment import as_it_is
from activities.models import inside
from activities.models.question import Message
from activities.models.wire import Bounds, Send, asked, completion_in

if TYPE_CHECKING:
    import httpx

_MOST = 500
"""Kinds that are remembered; where there are more, parameters are other ones each time."""

_PARAMETERS = frozenset(
    {
        *("api_base", "api_key", "organization", "timeout", "extra_headers", "extra_body"),
        *("temperature", "top_p", "top_k", "seed", "stop", "frequency_penalty", "presence_penalty", "logit_bias"),
        *("max_tokens", "max_completion_tokens", "reasoning_effort", "verbosity", "user", "prompt_cache_key"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
    }
)
"""Those that only tell what a request has. Others of litellm's tell what it does besides."""


@dataclass(frozen=True)
class Kind:
    """A kind of questions of which litellm makes requests that differ in the messages alone.

    Attributes:
        litellm: The library.
        model: Who is asked, by litellm's name.
        key: What all of them have in common.
    """

    litellm: Any
    model: str
    key: tuple[object, ...]


@dataclass(frozen=True)
class _Form:
    """What litellm makes of a kind.

    Attributes:
        request: One of them.
        send: What sends such.
        before: What the body has before the messages.
        after: What it has behind them.
    """

    request: httpx.Request
    send: Send
    before: str
    after: str

    def body(self, messages: Sequence[Message]) -> bytes:
        """Return the body with these messages."""
        return f"{self.before}{_written(messages)}{self.after}".encode()

    def of(self, messages: Sequence[Message]) -> httpx.Request:
        """Return the request with these messages."""
        import httpx

        one, body = self.request, self.body(messages)
        headers = one.headers.copy()
        headers["Content-Length"] = str(len(body))
        made = httpx.Request(
            one.method, one.url, headers=headers, stream=httpx.ByteStream(body), extensions=one.extensions
        )
        made.read()
        return made


class _Forms:
    """The forms that are known; they hold for as long as the environment, which keys come from, stays as it is."""

    def __init__(self) -> None:
        self._environment: object = None
        self._known: dict[tuple[object, ...], _Form] = {}

    def get(self, kind: Kind) -> _Form | None:
        if self._environment is not as_it_is():
            self._known, self._environment = {}, as_it_is()
        return self._known.get(kind.key)

    def keep(self, kind: Kind, form: _Form) -> None:
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[kind.key] = form


_forms = _Forms()


def kind_of(litellm: Any, model: str, messages: Sequence[Message], parameters: Mapping[str, Any]) -> Kind | None:
    """Return of which kind a question in OpenAI's protocol is; None if it may differ from others in more.

    Args:
        litellm: The library.
        model: Who is asked, by litellm's name.
        messages: The conversation.
        parameters: All others of litellm's `acompletion`.
    """
    settings = inside.settings_of_requests(litellm)
    if settings is None or not parameters.keys() <= _PARAMETERS:
        return None
    shapes = frozenset(map(_shape, messages))
    if None in shapes:
        return None
    try:
        return Kind(litellm, model, (model, shapes, json.dumps(parameters), settings))
    except (TypeError, ValueError):  # a parameter that is an object
        return None


def _shape(message: Message) -> tuple[object, ...] | None:
    """Return what litellm may look at in a message of text; None of any other."""
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        return None
    return (message["role"], bool(content), *message)


async def ask(kind: Kind | None, messages: Sequence[Message], bounds: Bounds) -> Any:
    """Ask a question of a kind that is known, and return litellm's answer.

    Returns:
        None where litellm is to be asked: the kind is not known, or something else has come than a plain answer; then
        it is in the bounds, and litellm is handed that.
    """
    form = _forms.get(kind) if kind is not None else None
    if kind is None or form is None:
        return None
    try:
        bounds.come = await asked(form.of(messages), form.send, bounds)
        completion = completion_in(bounds.come)
        response = inside.response_of(kind.litellm, kind.model, completion) if completion is not None else None
    except Exception as error:  # whatever it is, litellm has a name for it
        bounds.come = bounds.come or error
        return None
    return response


def learn(kind: Kind | None, messages: Sequence[Message], bounds: Bounds) -> None:
    """Remember what litellm has made of a question that was answered, if other messages can be written into it."""
    if kind is None or bounds.sent is None or not (form := _form_in(*bounds.sent, messages)):
        return
    if form.body(messages) == form.request.content:
        _forms.keep(kind, form)


def _form_in(request: httpx.Request, send: Send, messages: Sequence[Message]) -> _Form | None:
    if request.method != "POST" or not request.url.path.endswith("/chat/completions"):
        return None
    before, given, after = request.content.decode().partition(_written(messages))
    return _Form(request, send, before, after) if given else None


def _written(messages: Sequence[Message]) -> str:
    """Write messages as litellm does, which leaves out what is empty in them."""
    return json.dumps([{key: value for key, value in message.items() if value is not None} for message in messages])
