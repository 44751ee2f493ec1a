r"""Secrets: what this process knows of them, and texts without them.

A text that leaves the process holds `[secret OPENAI_API_KEY]` where it held the key. Replaced are exactly the values of
the environment's secrets, and what has the sure shape of some provider's key. Nothing is guessed from how random a word
looks, as what an honest text says has to stay.

>>> import os
>>> os.environ["WEATHER_TOKEN"] = "rain-or-shine-7"
>>> without_secrets("403: 'rain-or-shine-7' is no token of ours")
"403: '[secret WEATHER_TOKEN]' is no token of ours"
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from activities.border.environment import as_it_is
from activities.errors import SettingInvalid

SHORTEST = 8
"""Characters of a value from which on it is replaced: a shorter one is found in honest texts as well."""

NOT_SECRET = "NOT_SECRET"
"""The variable that names variables which are no secrets though they are called like some: `NOT_SECRET=SORT_KEY`."""

_NAMED_LIKE_ONE = re.compile(r"((^|_)((API)?KEY|TOKEN|SECRET|CREDENTIAL)S?|PASSWD|PASSPHRASE)$|PASSWORD", re.I)
_NAMED_LIKE_AN_ADDRESS = re.compile(r"(URL|URI|DSN)$", re.I)
_PASSWORD_IN_ADDRESS = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")
_COMMON = frozenset({"password", "changeme", "postgres", "localhost", "disabled", "required", "optional", "undefined"})


def secret(name: str) -> str:
    """Return a secret of this process: from the variable of that name, or from the file that `<name>_FILE` names.

    It is known as a secret from then on, whatever it is called: no text that leaves the process has it.

    Raises:
        SettingInvalid: It is not there; says how to give it.
    """
    value = os.environ.get(name, "").strip()
    if not value and (file := os.environ.get(f"{name}_FILE")):
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingInvalid(
                f"The secret {name} can't be read from {file}, which {name}_FILE names: {reason}."
            ) from None
    if not value:
        raise SettingInvalid(
            f"The secret {name} is not in this worker's environment. Set {name} for the workers that serve this "
            f"method, or {name}_FILE to the path of a file that holds it."
        )
    _known.learn(name, value)
    return value


def without_secrets(text: str) -> str:
    """Return a text without the secrets that are in it: nothing else of it is changed."""
    if len(text) < SHORTEST:  # as most keys of a tree are
        return text
    for form, mark in _known.forms():
        if form in text:
            text = text.replace(form, mark)
    for beginning, shape in _SHAPES:
        if beginning in text:
            text = shape.pattern.sub(shape.hide, text)
    return text


def unfinished_secret(text: str) -> int:
    """Return how many characters at the end of a text that goes on may be the beginning of a secret.

    >>> unfinished_secret("it is sk-abc"), unfinished_secret("it is sk-abc, I think ")
    (6, 0)
    """
    begins = len(text)
    for form in (*(form for form, _ in _known.forms()), *(beginning for beginning, _ in _SHAPES), _KEY_BEGINS):
        at = text.find(form[0], max(len(text) - len(form) + 1, 0), begins)
        while at >= 0 and not form.startswith(text[at:]):
            at = text.find(form[0], at + 1, begins)
        begins = at if at >= 0 else begins
    for beginning, _ in _SHAPES:
        at = text.rfind(beginning, max(len(text) - _LONGEST_SHAPE, 0))
        if at >= 0 and not _ENDS_A_WORD.search(text, at + len(beginning)):
            begins = min(begins, at)
    key = text.rfind(_KEY_BEGINS, max(len(text) - _LONGEST_KEY, 0))
    if key >= 0 and "-----END " not in text[key:]:
        begins = min(begins, key)
    return len(text) - begins


_KEY_BEGINS = "-----BEGIN "
_LONGEST_SHAPE, _LONGEST_KEY = 2_000, 20_000
_ENDS_A_WORD = re.compile(r"[^\w.~+/=\-]")


def json_without_secrets(text: str) -> str:
    """Return a JSON text without the secrets that are in its strings; it stays JSON."""
    if without_secrets(text) == text:
        return text
    return _STRING.sub(_string_without_secrets, text)


_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')  # which gives back nothing, and so needs no memory for that


def _string_without_secrets(found: re.Match[str]) -> str:
    try:
        value = json.loads(found[0])
    except ValueError:  # it is no JSON after all
        return without_secrets(found[0])
    without = without_secrets(value)
    return found[0] if without == value else json.dumps(without)


def _always(key: str) -> bool:
    return True


def _mixed(key: str) -> bool:
    """Whether a word is none that people write: it has digits, or capitals among small letters."""
    begins = key[:200]
    return not begins.isascii() or bool(_DIGIT.search(begins)) or not (begins.islower() or begins.isupper())


_DIGIT = re.compile(r"[0-9]")
_MARK = "[secret]"


@dataclass(frozen=True)
class _Shape:
    """What keys of a kind look like.

    Attributes:
        pattern: The key, as its last group or else all of it. The time that it takes grows with the text and no faster.
        is_one: Whether something that looks so is one.
    """

    pattern: re.Pattern[str]
    is_one: Callable[[str], bool] = _always

    def hide(self, found: re.Match[str]) -> str:
        """Return what takes the place of something that looks so."""
        group = self.pattern.groups
        inside_a_word = found.start() > 0 and found.string[found.start() - 1].isalnum()  # as in 'task-…'
        if inside_a_word or found[group].endswith("EXAMPLE") or not self.is_one(found[group]):
            return found[0]
        before, after = found.start(group) - found.start(), found.end(group) - found.start()
        return f"{found[0][:before]}{_MARK}{found[0][after:]}"


def _sk(key: str) -> bool:
    return key.startswith(("sk-ant-", "sk-proj-", "sk-or-", "sk-svcacct-")) or _mixed(key)


def _shapes() -> Iterator[tuple[str, _Shape]]:
    """Return shapes, each with a text that is in all keys of the kind: to look for that takes hardly any time."""
    for beginning, rest, is_one in (
        ("sk-", r"[A-Za-z0-9_\-]{16,}", _sk),
        ("sk_live_", r"[A-Za-z0-9]{16,}", _always),
        ("sk_test_", r"[A-Za-z0-9]{16,}", _mixed),
        ("rk_live_", r"[A-Za-z0-9]{16,}", _always),
        ("AKIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", _always),
        ("ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])", _always),
        ("ghp_", r"[A-Za-z0-9]{20,}", _mixed),
        ("gho_", r"[A-Za-z0-9]{20,}", _mixed),
        ("ghs_", r"[A-Za-z0-9]{20,}", _mixed),
        ("ghu_", r"[A-Za-z0-9]{20,}", _mixed),
        ("github_pat_", r"[A-Za-z0-9_]{20,}", _mixed),
        ("glpat-", r"[A-Za-z0-9_\-]{20,}", _mixed),
        ("xox", r"[a-z](?:\.xox[a-z])?-[A-Za-z0-9\-]{10,}", _mixed),
        ("AIza", r"[A-Za-z0-9_\-]{35}", _always),
        ("ya29.", r"[A-Za-z0-9_\-]{20,}", _mixed),
        ("gsk_", r"[A-Za-z0-9]{30,}", _mixed),
        ("hf_", r"[A-Za-z0-9]{30,}", _mixed),
        ("npm_", r"[A-Za-z0-9]{30,}", _mixed),
        ("xai-", r"[A-Za-z0-9]{30,}", _mixed),
    ):
        yield beginning, _Shape(re.compile(re.escape(beginning) + rest), is_one)
    # What may fail after a long way begins at the beginning of a word only.
    yield "eyJ", _Shape(re.compile(r"(?<![\w\-])eyJ[\w\-]{8,}+\.eyJ[\w\-]{8,}+\.[\w\-]{8,}", re.ASCII))
    for beginning in ("Bearer ", "bearer "):
        yield beginning, _Shape(re.compile(beginning + r"([A-Za-z0-9._~+/\-]{16,}=*)"), _mixed)
    yield "PRIVATE KEY-----", _Shape(_PRIVATE_KEY)


# Written in one line, its breaks are escapes.
_BREAK = r"(?:\s|\\+[nr])"
_KIND = r"(?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----"
_PRIVATE_KEY = re.compile(
    rf"-----BEGIN {_KIND}{_BREAK}*+(?:[A-Za-z\-]{{1,40}}+: [^\n\\]{{1,100}}+{_BREAK}++){{0,3}}+"
    rf"[A-Za-z0-9+/=]{{32,}}(?:[A-Za-z0-9+/=\s]|{_BREAK}){{0,20000}}+(?:-----END {_KIND})?"
)


class _Known:
    """The secrets whose values this process knows."""

    def __init__(self) -> None:
        self._environment: object = None
        self._learnt: dict[str, str] = {}
        self._forms: tuple[tuple[str, str], ...] = ()
        self._lock = threading.Lock()

    def learn(self, name: str, value: str) -> None:
        """Know another one."""
        if self._learnt.get(name) != value:
            with self._lock:
                self._learnt[name] = value
                self._environment = None

    def forms(self) -> tuple[tuple[str, str], ...]:
        """Return each form of each value, and what takes its place; anew where the environment has changed."""
        now = as_it_is()
        if now is not self._environment:
            with self._lock:
                self._environment = now
                self._forms = tuple(_forms_of({**_secrets_in(os.environ), **self._learnt}))
        return self._forms


def _secrets_in(environment: Mapping[str, str]) -> dict[str, str]:
    none = set(re.split(r"[,\s]+", environment.get(NOT_SECRET, "")))
    secrets = {}
    for name, value in sorted(environment.items()):
        if name in none or _is_path(value):
            continue
        if _NAMED_LIKE_ONE.search(name):
            secrets[name] = value
        elif _NAMED_LIKE_AN_ADDRESS.search(name) and (found := _PASSWORD_IN_ADDRESS.search(value)):
            secrets[name] = unquote(found[1])
    return secrets


def _is_path(value: str) -> bool:
    try:
        return value.startswith(("/", "./", "~/")) and Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for one, or nobody's home: base 64 may begin so
        return False


def _forms_of(secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return how values may be written, the longest first, as one may be a part of another."""
    forms: dict[str, str] = {}
    for name, value in secrets.items():
        mark = f"[secret {name}]" if re.fullmatch(r"\w{1,60}", name) else _MARK
        for part in _parts_of(value):
            for form in _written(part):
                forms.setdefault(form, mark)
    return sorted(forms.items(), key=lambda form: -len(form[0]))


def _parts_of(value: str) -> Iterable[str]:
    """Return a value and, of several keys in one with names before them, each."""
    whole = value.strip()
    parts = [part.rpartition(":")[2] for part in whole.split(",")] if "," in whole or ":" in whole else []
    return [part for part in (whole, *parts) if len(part) >= SHORTEST and part.lower() not in _COMMON]


def _written(value: str) -> Iterator[str]:
    """Return a value as it is, in an address, and as Python and JSON write it, also inside of another JSON text."""
    yield quote(value, safe="", errors="surrogateescape")
    yield quote_plus(value, errors="surrogateescape")
    for written in (value, repr(value)[1:-1]):
        yield written
        for ascii_only in (False, True):
            once = json.dumps(written, ensure_ascii=ascii_only)[1:-1]
            yield once
            yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


_known = _Known()
_SHAPES = tuple(_shapes())
