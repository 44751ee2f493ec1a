"""The scripted model: a TOML file that lists what a model says, for demos and tests without key or network.

    delay = 0.2                                # seconds before every reply; optional, as is the table [price]

    [[entry]]                                  # tried from top to bottom
    when = ["Review the module", "pad.py"]     # all of it occurs in a user message; nothing of `unless` does

    [[entry.turns]]                            # the first turn calls tools
        [[entry.turns.call]]
        tool = "run_tests"
        arguments.paths = ["tests/test_pad.py"]

    [[entry.turns]]                            # the second depends on what they returned
        [[entry.turns.choose]]
        if = "FAILED"
        answer = { verdict = "NEEDS_FIXES", feedback = "pad() loses the last character." }
        [[entry.turns.choose]]                 # without `if`: otherwise
        answer = { verdict = "PASS", feedback = "" }

A turn has one of `answer` (a string, or a value that is sent as JSON), `call` (with optional `text` beside
it) and `choose`, and may have its own `delay`. `when`, `unless` and `if` take a string or a list of strings.

A script keeps no state: the messages alone decide. A call starts at the last user message that fits an entry,
and the assistant messages since then are the turns it has had. So any worker may serve any turn, and a turn
that is asked again after a crash gets the same reply.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from activities.errors import ScriptExhausted, SettingInvalid

Message = Mapping[str, Any]  # an OpenAI chat message: its keys differ by role
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[
    tuple[Text, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1),
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _knows_every_key(cls, value: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if isinstance(value, dict) and (unknown := [key for key in value if key not in known]):
            raise ValueError(f"unknown key {', '.join(unknown)}; known here are {', '.join(known)}")
        return value


class Price(_Table):
    """What the scripted model pretends to cost, in US dollars."""

    input_per_million: Amount = 0.0
    output_per_million: Amount = 0.0


class Script(_Table):
    """A scripted model, as its file describes it."""

    delay: Amount = 0.0
    price: Price = Price()
    entries: tuple[Entry, ...] = Field(alias="entry", min_length=1)
    _path: str = ""

    @classmethod
    def load(cls, path: Path | str) -> Script:
        """Read a script; raise SettingInvalid, naming file, place and mend, if it can't be used."""
        try:
            written = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingInvalid(
                f"Script {path} can't be read: {error.strerror}. Name the model scripted/<path of its file>."
            ) from error
        except ValueError as error:  # not UTF-8 or not TOML; the message has line and column
            raise SettingInvalid(f"Script {path} is not valid TOML: {error}.") from error
        return cls.read(written, str(path))

    @classmethod
    def read(cls, written: Mapping[str, Any], name: str) -> Script:
        """Take what a file has; raise SettingInvalid, naming place and mend, if it can't be used.

        Args:
            written: The file's tables.
            name: What to call it in errors.
        """
        try:
            script = cls.model_validate(written)
        except ValidationError as error:
            problems = "; ".join(_place(*e["loc"]) + e["msg"].removeprefix("Value error, ") for e in error.errors())
            raise SettingInvalid(f"Script {name} can't be used: {problems}.") from error
        script._path = name
        return script

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Return what the model says next in a conversation; raise ScriptExhausted if that is not written."""
        start, entry = self._call_in_progress(messages)
        since = messages[start + 1 :]
        had = sum(message["role"] == "assistant" for message in since)
        place = f"Script {self._path}: turn {had + 1} of the request {_quote(_text(messages[start]))}"
        if had >= len(entry.turns):
            raise ScriptExhausted(
                f"{place} has no answer: its entry, when = {list(entry.when)}, ends after {had} turns. "
                f"The last message was {_quote(_text(messages[-1]))}. Add an [[entry.turns]] for it."
            )
        turn = entry.turns[had]
        results = _last_results(since)
        said = turn.after(results)
        if said is None:
            raise ScriptExhausted(
                f"{place} has no answer to the tool results {_quote(results)}. "
                "Add an [[entry.turns.choose]] for them, or a last one without 'if'."
            )
        delay = next(delay for delay in (said.delay, turn.delay, self.delay) if delay is not None)
        return Reply(said.content, tuple(call.model_copy(deep=True) for call in said.calls), delay)

    def _call_in_progress(self, messages: Sequence[Message]) -> tuple[int, Entry]:
        requests = [(index, _text(message)) for index, message in enumerate(messages) if message["role"] == "user"]
        for index, request in reversed(requests):
            for entry in self.entries:
                if entry.fits(request):
                    return index, entry
        last = _quote(requests[-1][1]) if requests else "without a user message"
        raise ScriptExhausted(
            f"Script {self._path}: turn 1 of the request {last} has no answer: no entry fits. "
            "Add an [[entry]] whose 'when' occurs in the request."
        )


@dataclass(frozen=True)
class Reply:
    """What the scripted model says in one turn, and the seconds it takes for that."""

    content: str | None
    tool_calls: tuple[ScriptedCall, ...] = ()
    delay: float = 0.0

    @property
    def tokens(self) -> int:
        """The estimated tokens of the completion, counted as `prompt_tokens` does."""
        return _tokens(self.content or "", *(call.name + _json(call.arguments) for call in self.tool_calls))


def prompt_tokens(messages: Sequence[Message]) -> int:
    """Estimate the tokens of a prompt, always the same for the same messages: a quarter of its characters."""
    calls = (_json(message["tool_calls"]) for message in messages if message.get("tool_calls"))
    return _tokens(*map(_text, messages), *calls)


class Entry(_Table):
    """The turns of one kind of request."""

    when: Texts
    unless: Texts | None = None
    turns: tuple[Turn, ...] = Field(min_length=1)

    def fits(self, request: str) -> bool:
        """Tell whether this entry is for a request."""
        return all(text in request for text in self.when) and not any(text in request for text in self.unless or ())


class Turn(_Table):
    """What the model says in one turn: an answer, or tool calls, or what the last tool results choose."""

    condition: Texts | None = Field(None, alias="if")
    answer: JsonValue = None
    calls: tuple[ScriptedCall, ...] = Field((), alias="call", min_length=1)
    choose: tuple[Turn, ...] = Field((), min_length=1)
    text: str | None = None
    delay: Amount | None = None

    @property
    def content(self) -> str | None:
        """The text of the message: what is said beside calls, or else the answer."""
        if self.calls:
            return self.text
        return self.answer if isinstance(self.answer, str) else _json(self.answer)

    def after(self, results: str) -> Turn | None:
        """Return this turn or the first alternative that fits the tool results; None if nothing does."""
        if not all(text in results for text in self.condition or ()):
            return None
        if not self.choose:
            return self
        return next(filter(None, (alternative.after(results) for alternative in self.choose)), None)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if len(self.model_fields_set & {"answer", "calls", "choose"}) != 1:
            raise ValueError("write exactly one of 'answer', 'call' and 'choose'")
        if self.text is not None and not self.calls:
            raise ValueError("'text' stands beside 'call' only; write it as the 'answer'")
        if any(alternative.condition is None for alternative in self.choose[:-1]):
            raise ValueError("only the last 'choose' may be without 'if', as those after it are never reached")
        return self


class ScriptedCall(_Table):
    """A tool that the model calls."""

    name: Text = Field(alias="tool")
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


def _place(*location: str | int) -> str:
    """Say where in the file something is, counting from 1.

    >>> _place("entry", 1, "turns", 0, "answer")
    'entry 2, turns 1, answer: '
    """
    words = "".join(f" {part + 1}" if isinstance(part, int) else f", {part}" for part in location)
    return f"{words.removeprefix(', ')}: " if words else ""


def _last_results(messages: Sequence[Message]) -> str:
    """Return the results of the last turn that called tools, in their order."""
    runs = [list(run) for role, run in groupby(messages, lambda message: message["role"]) if role == "tool"]
    return "\n".join(_text(message) for message in runs[-1]) if runs else ""


def _text(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _tokens(*texts: str) -> int:
    return -(-sum(map(len, texts)) // 4)


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= 200 else f'"{line[:200]}…"'
