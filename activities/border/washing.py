r"""What models, tools, providers, files and exceptions say, made fit to be kept, sent and shown.

Whatever comes from outside goes through here before it goes anywhere else. Nothing in here raises, whatever it gets.

>>> washed("caf\u00e9 \ud800 \ud83d\ude00 \0")
'café � 😀 �'
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable
from typing import Any

from activities.border.sdk import in_a_workflow
from activities.border.secrets import json_without_secrets, without_secrets
from activities.contract.limits import MESSAGE_LIMIT
from activities.contract.text import clip
from activities.errors import place_of

DEEPEST = 100
"""Levels of a tree that are kept: writing it as JSON would fail at a few more."""

_NAME_LENGTH = 200
_LEAVES_TOLD = 5
_REPLACEMENT = "\ufffd"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def washed(text: str) -> str:
    """Return a text that is UTF-8, that a database takes, and that holds no secrets of this process.

    Each half of a character, and each NUL, becomes one `�`; two halves that belong together become their character. In
    a workflow secrets stay: it would be another one where another environment is. They are replaced as it is left.
    """
    return _storable(text) if in_a_workflow() else fit_to_leave(text)


def fit_to_leave(text: str) -> str:
    """Return a text washed, and without secrets also in a workflow: for where it leaves the process at once."""
    return without_secrets(_storable(text))


def washed_within(
    text: str, limit: int, *, cut: Callable[[str, int], str] = clip, wash: Callable[[str], str] = washed
) -> str:
    """Return a text washed and then cut, so that no secret is cut before it is known as one; of much, the ends only.

    Args:
        text: The text.
        limit: The most characters.
        cut: Leaves head and tail of a text, and says what is missing.
        wash: Washes.
    """
    half = _WASHED_AT_ONCE // 2
    if len(text) > _WASHED_AT_ONCE:
        head, tail = wash(text[:half]), wash(text[-half:])
        if min(len(head), len(tail)) > limit:
            return cut(f"{head}{text[half:-half]}{tail}", limit)
    return cut(wash(text), limit)


_WASHED_AT_ONCE = 400_000
"""Characters of a text of which much is left out that are looked at."""


def _storable(text: str) -> str:
    text = _whole(text)
    return text.replace("\0", _REPLACEMENT) if "\0" in text else text


def _whole(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def washed_tree(value: Any) -> Any:
    """Return a value made of dicts, lists and scalars with all of its texts washed, and no deeper than can be sent."""
    return _each_text(washed, value, DEEPEST)


def washed_json(text: str) -> str:
    """Return a JSON text washed, without halves of characters also where they are written as escapes; else as it is."""
    text = _storable(text)
    text = text if in_a_workflow() else json_without_secrets(text)
    if not _ESCAPED_HALF.search(text):
        return text
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):  # it is no JSON, and whoever reads it will say so
        return text
    whole = _each_text(_whole, given, DEEPEST)
    return text if whole == given else json.dumps(whole)


_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _each_text(wash: Callable[[str], str], value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return wash(value)
    if isinstance(value, (dict, list, tuple)) and not levels:
        return "[nested too deeply]"
    if isinstance(value, dict):
        return {
            wash(key) if isinstance(key, str) else key: _each_text(wash, item, levels - 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_each_text(wash, item, levels - 1) for item in value]
    return value


def name_of(error: BaseException) -> str:
    """Return the name of an error's class."""
    try:
        return washed(clip(type(error).__name__, _NAME_LENGTH))
    except BaseException:  # a class may do anything, and this is where a failure is told
        return "Exception"


def words_of(error: BaseException, limit: int = MESSAGE_LIMIT) -> str:
    """Return what an error says, cut and without what would move a terminal's cursor; of a group, what is in it."""
    if isinstance(error, BaseExceptionGroup):
        return _words_of_group(error, limit)
    return said(error, limit)


def said(value: Any, limit: int = MESSAGE_LIMIT) -> str:
    """Return anything as a text to be shown, cut and without what would move a terminal's cursor."""
    try:
        text = str.__str__(str(value))
    except BaseException as odd:  # it is the value's own code
        text = f"[no words: its __str__ raises {name_of(odd)}]"
    return _CONTROLS.sub(_REPLACEMENT, washed_within(text, limit))


def _words_of_group(group: BaseExceptionGroup[BaseException], limit: int) -> str:
    return clip(
        in_a_list(group, lambda leaf: f"{name_of(leaf)}: {words_of(leaf, limit // _LEAVES_TOLD)} ({place_of(leaf)})"),
        limit,
    )


def in_a_list(group: BaseExceptionGroup[BaseException], tell: Callable[[BaseException], str]) -> str:
    """Tell the first of the errors that are in a group, or in groups in it, and how many more there are."""
    leaves = _leaves(group)
    more = [f"and {len(leaves) - _LEAVES_TOLD} more"] if len(leaves) > _LEAVES_TOLD else []
    return "; ".join([*map(tell, leaves[:_LEAVES_TOLD]), *more])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseExceptionGroup):
            todo.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return leaves


def stack_of(error: BaseException, limit: int = 5 * MESSAGE_LIMIT, *, wash: Callable[[str], str] = washed) -> str:
    """Return an error's traceback as Python prints it; without it, where even that fails, its class and words."""
    try:
        stack = "".join(traceback.format_exception(error))
    except BaseException:  # notes, causes and names are the error's own code, too
        stack = f"{name_of(error)}: {words_of(error)}"
    return washed_within(stack, limit, wash=wash)
