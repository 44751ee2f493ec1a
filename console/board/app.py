"""The board's addresses: each gives a page to a browser, and JSON to whatever else asks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.text import clip, explain
from activities.errors import AgentError
from console.board import acting
from console.board.access import COOKIE, Access, Refused, Right, Visitor
from console.board.files import Repositories
from console.board.forms import NotFilledIn
from console.board.openapi import described
from console.board.pages import Pages, Wrong
from console.board.reading import calls_of, list_runs, run_now, transcript_of
from console.board.streams import Streams

TOLD = "told"
"""The cookie that carries what was done from where it was done to the next page."""

_LARGEST = 1_000_000
"""Bytes of a request that are read."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Endpoint = Callable[[Request, Visitor], Awaitable[Response]]
G = TypeVar("G", bound=BaseModel)


def board_of(client: Client, access: Access) -> Starlette:
    """Return the board as an ASGI application.

    Args:
        client: Temporal's client, as workers have it.
        access: Who may come.
    """
    return Board(client, access).application()


class Board:
    """What is answered at each address."""

    def __init__(self, client: Client, access: Access) -> None:
        self._client = client
        self._access = access
        self._pages = Pages()
        self._repositories = Repositories(client)
        self._streams = Streams(client, self._pages, lambda error: _why(error)[1])

    def application(self) -> Starlette:
        """Return it as an ASGI application."""
        run = "/runs/{id:path}"
        acts: dict[str, tuple[Endpoint, Right]] = {
            "answers": (self._answer, "answer"),
            "pause": (self._steer, "steer"),
            "resume": (self._steer, "steer"),
            "cancel": (self._steer, "steer"),
            "terminate": (self._steer, "steer"),
            "budget": (self._budget, "steer"),
            "tells": (self._tell, "answer"),
            "forks": (self._fork, "steer"),
        }
        routes = [
            Route("/", lambda request: RedirectResponse("/runs" + _query(request)), methods=["GET"]),
            Route("/openapi.json", self._guarded(self._openapi)),
            Route("/runs", self._guarded(self._runs), methods=["GET"]),
            Route("/runs", self._guarded(self._start, "steer"), methods=["POST"]),
            *(
                Route(f"{run}/{name}", self._guarded(endpoint, right), methods=["POST"])
                for name, (endpoint, right) in acts.items()
            ),
            Route(f"{run}/live", self._guarded(self._live)),
            Route(f"{run}/words", self._guarded(self._words)),
            Route(f"{run}/calls", self._guarded(self._calls)),
            Route(f"{run}/transcripts/{{instance}}", self._guarded(self._transcript)),
            Route(f"{run}/files", self._guarded(self._files)),
            Route(f"{run}/files/{{commit}}", self._guarded(self._commit)),
            Route(run, self._guarded(self._run)),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ]
        return Starlette(routes=routes, middleware=[Middleware(_WithHeaders)])

    def _guarded(self, endpoint: Endpoint, right: Right = "look") -> Callable[[Request], Awaitable[Response]]:
        """Answer only who may ask, and with a page or JSON whatever comes of it."""

        async def guarded(request: Request) -> Response:
            visitor = None
            try:
                if token := request.query_params.get("token"):
                    return self._welcome(request, token)
                visitor = self._access.visitor(request)
                if not visitor.may(right):
                    raise Refused(403, f"{visitor.name} may {visitor.right}, and this wants the right to {right}.")
                return await endpoint(request, visitor)
            except (Refused, NotFilledIn, ValidationError, RPCError, WorkflowQueryFailedError, AgentError) as error:
                status, why = _why(error)
                if _wants_page(request):
                    sent = await _given(request) if visitor and _is_form(request) and status != 413 else {}
                    return self._pages.response("refused.html", status, why=why, sent=sent)
                return JSONResponse({"error": why}, status)

        return guarded

    def _welcome(self, request: Request, token: str) -> Response:
        """Keep a token in the browser, and take it out of the address."""
        self._access.known(token)
        answer = RedirectResponse(request.url.path, 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer

    async def _openapi(self, request: Request, visitor: Visitor) -> Response:
        return JSONResponse(described())

    async def _runs(self, request: Request, visitor: Visitor) -> Response:
        status = request.query_params.get("status", "")
        if not status.isalpha() and status:
            raise Refused(400, "status is one of asks, running, waits, paused, done, failed, cancelled.")
        runs = await list_runs(self._client, status)
        if _wants_page(request):
            every = "every" in request.query_params
            return self._pages.response("runs.html", runs=runs, visitor=visitor, status=status, every=every)
        return JSONResponse([run.model_dump(mode="json") for run in runs])

    async def _run(self, request: Request, visitor: Visitor) -> Response:
        run = await self._streams.run(request.path_params["id"])
        if _wants_page(request):
            asked, told = request.query_params, unquote(request.cookies.get(TOLD, ""))
            shown: dict[str, Any] = {"every": "every" in asked, "at": asked.get("at", ""), "told": told}
            page = self._pages.response("run.html", run=run, visitor=visitor, wrong=None, **shown)
            page.delete_cookie(TOLD, httponly=True, samesite="strict")
            return page
        return JSONResponse(run.model_dump(mode="json"))

    async def _calls(self, request: Request, visitor: Visitor) -> Response:
        id = request.path_params["id"]
        calls = await calls_of(self._client, id)
        if _wants_page(request):
            return self._pages.response("calls.html", id=id, calls=calls, visitor=visitor)
        return JSONResponse([call.model_dump(mode="json") for call in calls])

    async def _transcript(self, request: Request, visitor: Visitor) -> Response:
        id, instance = request.path_params["id"], request.path_params["instance"]
        said, left_out = await transcript_of(self._client, id, instance)
        if _wants_page(request):
            shown = {"id": id, "instance": instance, "said": said, "left_out": left_out, "visitor": visitor}
            return self._pages.response("transcript.html", **shown)
        return JSONResponse({"left_out": left_out, "said": [one.model_dump(mode="json") for one in said]})

    async def _files(self, request: Request, visitor: Visitor) -> Response:
        id, skip = request.path_params["id"], request.query_params.get("skip", "0")
        files = await self._repositories.files_of(id, int(skip) if skip.isdecimal() and len(skip) < 9 else 0)
        if _wants_page(request):
            return self._pages.response("files.html", id=id, files=files)
        return JSONResponse(files.model_dump(mode="json"))

    async def _commit(self, request: Request, visitor: Visitor) -> Response:
        id, oid = request.path_params["id"], request.path_params["commit"]
        commit = await self._repositories.commit_of(id, oid)
        if _wants_page(request):
            return self._pages.response("commit.html", id=id, commit=commit)
        return JSONResponse(commit.model_dump(mode="json"))

    async def _live(self, request: Request, visitor: Visitor) -> Response:
        return self._streams.page(request.path_params["id"], visitor)

    async def _words(self, request: Request, visitor: Visitor) -> Response:
        asked, last = request.query_params, request.headers.get("last-event-id", "")
        return await self._streams.words(request.path_params["id"], asked.get("instance", ""), last)

    async def _start(self, request: Request, visitor: Visitor) -> Response:
        given = await _given(request)
        if _is_form(request):
            given = {
                "choreography": given["choreography"].strip(),
                "inputs": [_input(line) for line in given["inputs"].splitlines() if line.strip()],
                "id": given["id"].strip(),
            }
        return _done(request, await acting.start(self._client, acting.NewRun.model_validate(given)))

    async def _answer(self, request: Request, visitor: Visitor) -> Response:
        id, given = request.path_params["id"], await _given(request)
        if _is_form(request):
            return await self._filled_in(request, visitor, given)
        return _done(request, await acting.answer(self._client, visitor, id, acting.Answer.model_validate(given)))

    async def _filled_in(self, request: Request, visitor: Visitor, filled: dict[str, Any]) -> Response:
        """Answer as a form says; if that will not do, show the form again as it was filled in."""
        id, question = request.path_params["id"], str(filled.get("question"))
        run = await run_now(self._client, id)
        form = next((one.form() for one in run.questions if one.id == question), None)
        if form is None:
            raise Refused(409, f"the question {question} is not open any more: somebody has answered it.")
        try:
            given = acting.Answer(question=question, answer=form.answer(filled))
            return _done(request, await acting.answer(self._client, visitor, id, given))
        except (NotFilledIn, Refused) as error:
            if not _wants_page(request):
                raise
            wrong = Wrong.of(error, form, filled)
            shown: dict[str, Any] = {"wrong": wrong, "every": False, "at": "", "told": ""}
            return self._pages.response("run.html", _why(error)[0], run=run, visitor=visitor, **shown)

    async def _steer(self, request: Request, visitor: Visitor) -> Response:
        how = request.url.path.rpartition("/")[2]
        return _done(request, await acting.steer(self._client, request.path_params["id"], how))

    async def _budget(self, request: Request, visitor: Visitor) -> Response:
        given = await _given(request)
        if _is_form(request):
            given = {name: None if value.strip() == "none" else value for name, value in given.items() if value}
        budget = acting.Budget.model_validate(given)
        return _done(request, await acting.set_budget(self._client, request.path_params["id"], budget))

    async def _tell(self, request: Request, visitor: Visitor) -> Response:
        given = acting.Tell.model_validate(await _given(request))
        return _done(request, await acting.tell(self._client, request.path_params["id"], given))

    async def _fork(self, request: Request, visitor: Visitor) -> Response:
        given = await _given(request)
        if _is_form(request):
            models = [line.partition("=") for line in given.get("models", "").splitlines() if line.strip()]
            given = {**given, "models": {who.strip(): model.strip() for who, _, model in models}}
        new = acting.NewFork.model_validate(given)
        return _done(request, await acting.fork(self._client, request.path_params["id"], new))


class _WithHeaders:
    """Sends with each answer what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)


async def _given(request: Request) -> dict[str, Any]:
    """Read what was sent: a form, or a JSON object."""
    if int(request.headers.get("content-length") or 0) > _LARGEST:
        raise Refused(413, f"a request has at most {_LARGEST:,} bytes.")
    if _is_form(request):
        async with request.form(max_files=0, max_fields=200) as form:
            return {name: str(value) for name, value in form.items()}
    body = await request.body()
    try:
        given = json.loads(body or "{}")
    except ValueError as error:
        raise Refused(400, f"this is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise Refused(400, "a JSON object is wanted.")
    return given


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


def _input(line: str) -> Any:
    """Read an input of a run: JSON, or else words."""
    try:
        return json.loads(line)
    except ValueError:
        return line.strip()


def _done(request: Request, done: acting.Done) -> Response:
    if _is_form(request):
        answer = RedirectResponse(f"/runs/{quote(done.id)}", 303)
        # The page to which it leads tells it, once.
        answer.set_cookie(TOLD, quote(clip(done.told, 1_000)), max_age=20, httponly=True, samesite="strict")
        return answer
    return JSONResponse(done.model_dump(mode="json"))


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _query(request: Request) -> str:
    return f"?{request.url.query}" if request.url.query else ""


def _why(error: Exception) -> tuple[int, str]:
    if isinstance(error, Refused):
        return error.status, str(error)
    if isinstance(error, ValidationError):
        return 400, explain(error)
    if isinstance(error, RPCError):
        if error.status == RPCStatusCode.NOT_FOUND:
            return 404, "there is no such run, or conversation, or the server does not keep it any more."
        if error.status in (
            RPCStatusCode.FAILED_PRECONDITION,
            RPCStatusCode.DEADLINE_EXCEEDED,
            RPCStatusCode.CANCELLED,
        ):
            return 503, "no worker answers for it now; start one: python worker.py"
        return 502, f"the Temporal server says: {error.message}"
    return (400 if isinstance(error, NotFilledIn) else 409), str(error)
