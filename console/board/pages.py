"""The pages, from templates. Everything that comes from a run is text to them, whatever it looks like."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from console.board.access import Visitor
from console.board.forms import Form
from console.board.reading import RunShown, facts
from console.view import duration
from workflows.shown.progress import money


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
        self._templates.filters.update(since=_since, at=_at, money=money, form=Form.of)
        self._templates.globals.update(facts=facts)

    def text(self, template: str, **shown: Any) -> str:
        """Return a page, or a part of one."""
        return self._templates.get_template(template).render(**shown)

    def response(self, template: str, status_code: int = 200, **shown: Any) -> HTMLResponse:
        """Return a page as a response."""
        return HTMLResponse(self.text(template, **shown), status_code)

    def parts(self, run: RunShown, visitor: Visitor) -> dict[str, str]:
        """Return the parts of a run's page that change."""
        shown = {"run": run, "visitor": visitor}
        return {
            "now": self.text("_now.html", **shown),
            "questions": self.text("_questions.html", **shown),
            "trouble": self.text("_trouble.html", troubles=run.troubles),
        }


def _since(moment: datetime, until: datetime | None = None) -> str:
    return duration(max(0.0, ((until or datetime.now(UTC)) - moment).total_seconds()))


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
