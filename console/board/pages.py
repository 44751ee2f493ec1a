"""The pages, from templates. Everything that comes from a run is text to them, whatever it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from console.board.access import Refused, Visitor
from console.board.forms import Form, NotFilledIn
from console.board.reading import RunShown, facts, notes, waits
from console.said import plain
from console.view import duration
from workflows.shown.progress import money


@dataclass(frozen=True)
class Wrong:
    """An answer that was filled in and not taken: it is shown again as it was, with what is wrong.

    Attributes:
        question: The question's id.
        filled: What was filled in, by the fields' names.
        places: What is wrong, by the fields' names.
        why: What is wrong with all of it.
    """

    question: str
    filled: Mapping[str, Any]
    places: Mapping[str, str]
    why: str

    @classmethod
    def of(cls, error: NotFilledIn | Refused, form: Form, filled: Mapping[str, Any]) -> Wrong:
        """Return what an error says of which field; of the whole what it says of none."""
        names = [one.name for one in (*form.inputs, *form.changes)]
        rest = not error.places
        places: dict[str, str] = {}
        for place, why in error.places.items():
            full = place if isinstance(error, NotFilledIn) else f"answer.{place}".rstrip(".")
            name = next((name for name in names if f"{full}.".startswith(f"{name}.")), "")
            rest |= not name
            if name:
                places[name] = f"{places[name]}; {why}" if name in places else why
        return cls(str(filled.get("question", "")), filled, places, str(error) if rest else "")


class Pages:
    """Makes pages."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(since=_since, at=_at, money=money, plain=plain, diff=_diff)
        self._templates.filters.update(limit=_limit)
        self._templates.globals.update(facts=facts, waits=waits, notes=notes)

    def text(self, template: str, **shown: Any) -> str:
        """Return a page, or a part of one."""
        return self._templates.get_template(template).render(**shown)

    def response(self, template: str, status_code: int = 200, **shown: Any) -> HTMLResponse:
        """Return a page as a response."""
        return HTMLResponse(self.text(template, **shown), status_code)

    def parts(self, run: RunShown, visitor: Visitor) -> dict[str, str]:
        """Return the parts of a run's page that change."""
        shown = {"run": run, "visitor": visitor, "wrong": None}
        return {
            "now": self.text("_now.html", **shown),
            "questions": self.text("_questions.html", **shown),
            "steer": self.text("_steer.html", **shown),
            "trouble": self.text("_trouble.html", troubles=run.troubles),
        }


def _diff(text: str) -> Markup:
    """Write a difference with its lines told apart."""
    return Markup("\n").join(map(_line, text.split("\n")))


def _line(line: str) -> Markup:
    for mark, kind in (("@@", "place"), ("+", "added"), ("-", "removed")):
        if line.startswith(mark):
            return Markup('<span class="{}">{}</span>').format(kind, line)
    return escape(line)


def _limit(name: str) -> str:
    return {"usd": "USD"}.get(name, name.capitalize())


def _since(moment: datetime, until: datetime | None = None) -> str:
    return duration(max(0.0, ((until or datetime.now(UTC)) - moment).total_seconds()))


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
