"""The dashboard: a page, its style, its scripts, all of them files of this package.

Nothing is built and nothing is fetched from elsewhere. The files are read once, when the application is
made, and packed once; a browser asks with the hash of what it has, and is told when that is still right.
"""

from __future__ import annotations

import gzip
import hashlib
import html
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import final

import attrs
from fastapi import APIRouter, Request, Response

from ._front import Front
from ._problems import ProblemError

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
    "": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}
_LEAST = 1024  # bytes from which on packing is worth it


@final
@attrs.frozen
class _File:
    """A file as it is sent: as it is, packed (None: not worth it), and a hash of it."""

    kind: str
    body: bytes
    packed: bytes | None
    tag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> _File:
        """The file `name` with this content."""
        small = gzip.compress(body, mtime=0) if len(body) >= _LEAST else None
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(_TYPES[name.rpartition(".")[2] if "." in name else ""], body, small, tag)

    def response(self, request: Request) -> Response:
        """The answer to `request`: 304 when the browser has it already."""
        headers = {"ETag": self.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        known = request.headers.get("if-none-match", "")
        if self.tag in (part.strip().removeprefix("W/") for part in known.split(",")):
            return Response(status_code=304, headers=headers)
        if self.packed is not None and _takes_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(self.packed, media_type=self.kind, headers=headers)
        return Response(self.body, media_type=self.kind, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    return any(part.partition(";")[0].strip() == "gzip" for part in accepted.lower().split(","))


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            yield from _walk(item, f"{prefix}{item.name}/")
        else:
            yield f"{prefix}{item.name}", item


def load(title: str) -> dict[str, _File]:
    """Every file below `static`, by its path there; the page has `title` in it."""
    loaded = {}
    for path, item in _walk(files(__package__).joinpath("static")):
        body = item.read_bytes()
        if path == "index.html":
            body = body.replace(b"{{title}}", html.escape(title).encode())
        loaded[path] = _File.of(item.name, body)
    return loaded


def router(front: Front) -> APIRouter:
    """`GET /` and `GET /static/…`. They hold nothing secret, so they need no key; what they fetch does."""
    routes = APIRouter(include_in_schema=False)
    loaded = load(front.settings.title)

    @routes.get("/")
    async def page(request: Request) -> Response:
        return loaded["index.html"].response(request)

    @routes.get("/static/{path:path}")
    async def static(path: str, request: Request) -> Response:
        # Looked up, not opened: no path leads out of the folder.
        found = loaded.get(path)
        if found is None:
            raise ProblemError(404, "there is no such file.", reason="not_found")
        return found.response(request)

    @routes.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return loaded["icon.svg"].response(request)

    return routes
