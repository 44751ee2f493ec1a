"""The board's interface for programs, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from console.board.acting import Answer, Budget, Done, NewFork, NewRun, Tell
from console.board.files import CommitShown, FilesShown
from console.board.reading import CallShown, RunListed, RunShown, Said

_ACTS: Mapping[str, tuple[str, type[BaseModel] | None]] = {
    "answers": ("Answer an open question.", Answer),
    "pause": ("Make no new calls; those that run may end.", None),
    "resume": ("Go on after a pause.", None),
    "cancel": ("Cancel the run.", None),
    "budget": ("Set limits anew; those that are not given stay.", Budget),
    "tells": ("Tell an agent something before its next turn.", Tell),
    "forks": ("Begin a run that takes over what this one did before a step.", NewFork),
}


def described() -> dict[str, Any]:
    """Return the document."""
    given: list[type[BaseModel]] = [NewRun, Answer, Budget, NewFork, Tell]
    told: list[type[BaseModel]] = [Done, RunListed, RunShown, CallShown, Said, FilesShown, CommitShown]
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
) -> dict[str, Any]:
    text = {"type": "string"}
    parameters = [
        *({"name": one, "in": "path", "required": True, "schema": text} for one in path or ()),
        *({"name": one, "in": "query", "required": False, "schema": text} for one in query or ()),
    ]
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": answer}}},
            "default": {"description": "It was not done.", **error},
        },
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": _of(body)}}}
    return made
