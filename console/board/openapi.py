"""The board's interface for programs, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from console.board.acting import Answer, Budget, Done, NewFork, NewRun, Tell
from console.board.files import CommitShown, FilesShown
from console.board.reading import CallShown, RunListed, RunShown
from console.said import Said
from console.words import News

_ACTS: Mapping[str, tuple[str, type[BaseModel] | None]] = {
    "answers": ("Answer an open question.", Answer),
    "pause": ("Make no new calls; those that run may end.", None),
    "resume": ("Go on after a pause.", None),
    "cancel": ("Cancel the run.", None),
    "terminate": ("End the run at once, and let nothing of it end well: for one that nobody serves.", None),
    "budget": ("Set limits anew; those that are not given stay.", Budget),
    "tells": ("Tell an agent something before its next turn.", Tell),
    "forks": ("Begin a run that takes over what this one did before a step.", NewFork),
}


def described() -> dict[str, Any]:
    """Return the document."""
    given: list[type[BaseModel]] = [NewRun, Answer, Budget, NewFork, Tell]
    told: list[type[BaseModel]] = [Done, RunListed, RunShown, CallShown, Said, News, FilesShown, CommitShown]
    _, schemas = models_json_schema(
        [*((model, "validation") for model in given), *((model, "serialization") for model in told)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Any] = {
        "/runs": {
            "get": _operation("list_runs", "The newest runs.", _list_of(RunListed), query=["status"]),
            "post": _operation("start_run", "Start a run.", _of(Done), body=NewRun),
        },
        "/runs/{id}": {"get": _operation("get_run", "A run as it is now.", _of(RunShown), path=["id"])},
        "/runs/{id}/calls": {"get": _operation("list_calls", "All calls of a run.", _list_of(CallShown), path=["id"])},
        "/runs/{id}/transcripts/{instance}": {
            "get": _operation(
                "get_transcript",
                "What was said in a conversation, the newest part of it.",
                {
                    "type": "object",
                    "properties": {"left_out": {"type": "integer"}, "said": _list_of(Said)},
                    "required": ["left_out", "said"],
                },
                path=["id", "instance"],
            )
        },
        "/runs/{id}/words": {
            "get": _operation(
                "hear_words", _WORDS, _of(News), path=["id"], query=["instance"], kind="text/event-stream"
            )
        },
        "/runs/{id}/live": {
            "get": _operation("watch_run", _LIVE, {"type": "string"}, path=["id"], kind="text/event-stream")
        },
    }
    paths["/runs/{id}/files"] = {
        "get": _operation(
            "get_files",
            "What was committed in a run's repository, the newest first, where it can be read from here.",
            _of(FilesShown),
            path=["id"],
            query=["skip"],
        )
    }
    paths["/runs/{id}/files/{commit}"] = {
        "get": _operation("get_commit", "One commit, with its differences.", _of(CommitShown), path=["id", "commit"])
    }
    for name, (summary, body) in _ACTS.items():
        paths[f"/runs/{{id}}/{name}"] = {"post": _operation(f"post_{name}", summary, _of(Done), path=["id"], body=body)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "The board of choreographies", "version": "1", "description": __doc__},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


_WORDS = """What agents say, as they say it, as server-sent events, of all or of one instance.

The data of each is a `News`; what it is, is the name of the event. `over` comes at the run's end. A reader that
reconnects with the id that it read last (`Last-Event-ID`, as browsers do by themselves) goes on there, and gets nothing
twice; what was said more than ten seconds before is in the transcript. A slow reader gets more at once, and holds
nobody up."""

_LIVE = """The parts of a run's page that change, as server-sent events, to its end.

`now`, `questions` and `trouble` are HTML in a JSON string each, `saying` is a JSON object with the end of what is being
said, by the steps of the calls. A reader gets all parts first, and then each that has changed, as it is by then: so it
may reconnect as it likes. `over` comes at the run's end."""

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "What happened, and what to do."}},
    "required": ["error"],
}


def _of(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _list_of(model: type[BaseModel]) -> dict[str, Any]:
    return {"type": "array", "items": _of(model)}


def _operation(
    name: str,
    summary: str,
    answer: Mapping[str, Any],
    *,
    path: list[str] | None = None,
    query: list[str] | None = None,
    body: type[BaseModel] | None = None,
    kind: str = "application/json",
) -> dict[str, Any]:
    text = {"type": "string"}
    parameters = [
        *({"name": one, "in": "path", "required": True, "schema": text} for one in path or ()),
        *({"name": one, "in": "query", "required": False, "schema": text} for one in query or ()),
    ]
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary.partition("\n")[0],
        "description": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {kind: {"schema": answer}}},
            "default": {"description": "It was not done.", **error},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": _of(body)}}}
    return made
