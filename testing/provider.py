"""The scripted model over HTTP: what a team's own tests ask instead of a provider, with every request on record.

with ScriptedProvider([{"when": "Summarise", "turns": [{"answer": "It rained."}]}]) as provider:
    os.environ.update(provider.environment)
    assert await Reader().summarise("…") == "It rained."
    assert "Summarise" in provider.requests[0].last_user
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from activities.errors import ScriptExhausted
from activities.models.scripted import Reply as Said
from activities.models.scripted import Script, prompt_tokens
from testing.loopback import Fault, Loopback, Reply, Request, Slow, Text, ToolCall, Tools
from testing.prompt_cache import PromptCache


class ScriptedProvider(Loopback):
    """Answer as a script says, at `url`, for as long as a `with` block lasts.

    The whole way is that to a provider: litellm, HTTP, tools, the schema of the answer. A script keeps no state, the
    messages alone decide: any process may ask, in any order, and again after a crash. A request for which nothing is
    written is refused, with what to add.

    `environment` is what to set where models are asked: in the test (`monkeypatch.setenv`), or in a worker's process.
    Agents that name an `openai/…` or `anthropic/…` model of their own ask here as well.
    """

    def __init__(self, script: str | Path | Sequence[Mapping[str, Any]], *, cache: PromptCache | None = None) -> None:
        """Take a script.

        Args:
            script: The path of its file, or its entries, with the keys of a file's `[[entry]]`: `when`, `unless`, and
                `turns` of `answer`, `call` or `choose`. Here an answer may be a model or dataclass too. What is neither
                text nor an object is asked for as an object: `{"answer": {"answer": 5}}`.
            cache: Where usage is to be that of a provider that caches prompts, what it has of them.

        Raises:
            SettingInvalid: It can't be used; names the place and the mend.
        """
        self.script = (
            Script.load(script)
            if isinstance(script, str | Path)
            else Script.read({"entry": to_jsonable_python(script)}, "given in code")
        )
        super().__init__(cache=cache)

    def reply(self, request: Request) -> Reply:
        """Return what the script says next."""
        try:
            said = self.script.reply(request.messages)
        except ScriptExhausted as error:
            return Fault(400, str(error), "script_exhausted")
        reply = _as_completion(said, prompt_tokens(request.messages))
        return Slow(said.delay, reply) if said.delay else reply


def _as_completion(said: Said, prompt: int) -> Text | Tools:
    calls = tuple(ToolCall(call.name, call.arguments) for call in said.tool_calls)
    if calls:
        return Tools(calls, said.content, prompt_tokens=prompt, completion_tokens=said.tokens)
    return Text(said.content, prompt_tokens=prompt, completion_tokens=said.tokens)
