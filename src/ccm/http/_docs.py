"""GET /docs: the endpoints for people to read, made from the OpenAPI description. No script, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from ._front import Front

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { overflow: auto; padding: .75rem; border: 1px solid; border-radius: .4rem; }
section { border-top: 1px solid; padding: .5rem 0; }
h2 { font-size: 1.1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
"""


def router(front: Front) -> APIRouter:
    """The page and its style."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse("\n".join(_page(request.app.openapi())))

    @routes.get("/docs/style.css")
    async def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    return routes


def _page(api: dict[str, Any]) -> Iterator[str]:
    title = escape(api["info"]["title"])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: endpoints</title>'
    yield '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css">'
    yield f"</head><body><main><h1>{title}: endpoints</h1>"
    yield '<p>The same for programs: <a href="/openapi.json">openapi.json</a>. A key, where there are keys, '
    yield "goes into the header <code>Authorization: Bearer KEY</code>. Errors are problem details "
    yield "(RFC 9457).</p>"
    for path, item in api["paths"].items():
        for method, operation in item.items():
            yield from _operation(api, method.upper(), path, operation)
    yield "</main></body></html>"


def _operation(api: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<section><h2><code>{method} {escape(path)}</code></h2>"
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>parameter</th><th>in</th><th></th></tr>"
        for parameter in parameters:
            name, place = escape(parameter["name"]), escape(parameter["in"])
            words = escape(parameter.get("description", ""))
            yield f"<tr><td><code>{name}</code></td><td>{place}</td><td>{words}</td></tr>"
        yield "</table>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and (example := _example(api, body)) is not None:
        yield f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
    yield "<table>"
    for code, response in operation.get("responses", {}).items():
        words = escape(response.get("description", ""))
        yield f"<tr><td><code>{escape(code)}</code></td><td>{words}</td></tr>"
    yield "</table></section>"


def _example(api: dict[str, Any], content: dict[str, Any]) -> Any:
    """The first example of a body, where there is one."""
    schema = content.get("schema", {})
    if (name := schema.get("$ref", "").rpartition("/")[2]) != "":
        schema = api["components"]["schemas"].get(name, {})
    return content.get("example", next(iter(schema.get("examples", ())), None))
