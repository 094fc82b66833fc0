"""The OpenAPI description: FastAPI's, with keys, examples, and what each error means."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from ._examples import ABOUT, PARAMETERS, PROBLEMS, About
from ._problems import MEDIA_TYPE, Problem

_JSON = "application/json"
_INFO = (
    "A key, where there are keys, goes into the header `Authorization: Bearer KEY` or `X-Api-Key: KEY`; each "
    "operation names the scope it must have (`admin` is good for all). Errors are problem details "
    "(RFC 9457). The WebSocket is at `/api/v1/ws`; its frames are in the documentation of ccm."
)
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key of `ccm keys new`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "the same"},
}
_UNKEYED = About("", {})  # routes that somebody added: any key


def install(app: FastAPI) -> None:
    """Let `app.openapi()` have all of it."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(generate())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _described(api: dict[str, Any]) -> dict[str, Any]:
    api["info"]["description"] = _INFO
    components = api.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    for path, item in api["paths"].items():
        for method, operation in item.items():
            about = ABOUT.get(f"{method.upper()} {path}", _UNKEYED)
            _one(operation, about, components.setdefault("schemas", {}))
    return api


def _one(operation: dict[str, Any], about: About, schemas: dict[str, Any]) -> None:
    scopes = [about.scope] if about.scope else []
    operation["security"] = [] if about.scope is None else [{name: scopes} for name in _SCHEMES]
    if about.scope:
        operation["description"] = f"{operation['description']}\n\nScope: `{about.scope}`."
    for parameter in operation.get("parameters", ()):
        parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
    if about.body is not None:
        operation["requestBody"]["content"][_JSON]["example"] = about.body
    responses = operation["responses"]
    if about.scope is None:  # nobody is asked for a key, and nobody is counted
        responses.pop("401", None)
        responses.pop("429", None)
    for status, response in sorted(responses.items()):
        _problem(int(status), response, about, schemas)
        _answer(int(status), response, about)
    operation["responses"] = dict(sorted(responses.items()))


def _problem(status: int, response: dict[str, Any], about: About, schemas: dict[str, Any]) -> None:
    if status not in PROBLEMS:
        return
    reason, words = PROBLEMS[status]
    words = about.problems.get(status, words)
    response["description"] = f"{HTTPStatus(status).phrase}: {words}"
    content = response.setdefault("content", {}).setdefault(MEDIA_TYPE, {})
    if "schema" in content and "$ref" not in content["schema"]:
        schemas.setdefault("Problem", content["schema"])
    content["schema"] = {"$ref": "#/components/schemas/Problem"}
    wait = 1.0 if status in (429, 503) else None
    content["example"] = Problem(
        status=status, detail=f"{words.replace('`', '')}.", reason=reason, retry_after=wait
    ).body()


def _answer(status: int, response: dict[str, Any], about: About) -> None:
    examples = about.examples.get(status, {})
    content = response.get("content", {})
    if examples and status < 300:
        for kind in set(content) - set(examples):  # FastAPI takes every answer for JSON
            del content[kind]
        if response.get("description") == "Successful Response":
            response["description"] = "as asked"
    for kind, example in examples.items():
        entry = response.setdefault("content", {}).setdefault(kind, {})
        entry["example"] = example
        entry.setdefault("schema", {"type": "string"})
        if kind == _JSON and status in about.schemas:
            entry["schema"] = about.schemas[status]
