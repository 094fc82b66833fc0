"""What the guard looks at in a request, and the rules that need nothing else. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, MutableMapping
from typing import Any, final

from ._problems import Problem

Scope = MutableMapping[str, Any]

MAX_HEADERS = 100
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_OPEN = frozenset(["/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"])
_OPEN_BELOW = ("/static/", "/docs")
# Two of one of these, and two readers may believe two different ones.
_ONCE = frozenset(
    [b"authorization", b"x-api-key", b"origin", b"host", b"content-type", b"content-length",
     b"transfer-encoding", b"idempotency-key"]
)  # fmt: skip


@final
class Asked:
    """One request as the guard sees it.

    Attributes:
        headers: value of each, the last one where there are several.
        open: whether it needs no key.
        has_body: whether a body is announced.
        is_stream: whether the response will not end by itself.
        origin: header Origin.
        host: header Host.
        odd: what is wrong with the headers, or None.
    """

    __slots__ = ("has_body", "headers", "host", "is_stream", "odd", "open", "origin", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = {}
        self.odd: Problem | None = None
        headers = self.headers
        for name, value in scope["headers"]:
            name = name.lower()
            if name in headers and name in _ONCE:
                self.odd = Problem(status=400, detail=f"the header {name.decode()!r} stands there twice.")
            headers[name] = value
        path: str = scope["path"]
        self.open = path in _OPEN or path.startswith(_OPEN_BELOW)
        self.has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self.origin, self.host = headers.get(b"origin"), headers.get(b"host")
        self.is_stream = (
            scope["type"] == "websocket"
            or b"text/event-stream" in headers.get(b"accept", b"")
            or path == "/api/v1/events"
        )

    @property
    def secret(self) -> str | None:
        """The key it carries, or None: `Authorization: Bearer`, `X-Api-Key`, or a WebSocket's subprotocol."""
        kind, _, value = self.headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and value:
            return value.strip().decode("latin-1")
        if (value := self.headers.get(b"x-api-key", b"")) != b"":
            return value.decode("latin-1")
        return _from_subprotocols(self.scope.get("subprotocols", ()))

    def malformed(self, max_header_bytes: int) -> Problem | None:
        """What is wrong with its form, or None. After such a request the connection is closed."""
        scope, headers = self.scope, self.headers
        if not scope["http_version"].startswith("1."):
            return Problem(status=505, detail="only HTTP/1.1 is spoken here.")
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        if (
            len(pairs) > MAX_HEADERS
            or sum(len(n) + len(v) + 4 for n, v in pairs) + len(scope.get("query_string", b""))
            + len(scope.get("raw_path") or b"") > max_header_bytes
        ):  # fmt: skip
            return Problem(
                status=431, detail=f"headers must be at most {MAX_HEADERS} and {max_header_bytes} bytes."
            )
        if b"content-length" in headers and b"transfer-encoding" in headers:
            # Two programs that read it, a proxy and we, could see two different ends of this request.
            return Problem(status=400, detail="Content-Length and Transfer-Encoding exclude each other.")
        if self.odd is not None:
            return self.odd
        if not scope["path"].startswith("/") or "\0" in scope["path"]:
            return Problem(status=400, detail="the target must be a path.")
        return None

    def refused_method(self) -> Problem | None:
        """405 when nothing here knows the method."""
        if self.scope["type"] == "http" and self.scope["method"] not in _METHODS:
            return Problem(status=405, detail="this method is not known.")
        return None

    def refused_body(self, max_body: int) -> Problem | None:
        """What is wrong with the announced body, before a byte of it is read."""
        length = self.headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 18:
            return Problem(status=400, detail="Content-Length must be a number.")
        if int(length) > max_body:
            return too_large(max_body)
        kind = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            # Also keeps out the forms that any page of the web could send.
            return Problem(status=415, detail="a body must be of type application/json.")
        if self.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            return Problem(status=415, detail="a body must not be compressed.")
        return None


def too_large(max_body: int) -> Problem:
    """413."""
    return Problem(status=413, detail=f"a body must be at most {max_body} bytes.", reason="too_large")


def _from_subprotocols(offered: Iterable[str]) -> str | None:
    """A browser cannot give a WebSocket headers, but it can name subprotocols."""
    for name in offered:
        if name.startswith("key."):
            code = name[4:]
            try:
                return base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).decode("latin-1")
            except (ValueError, binascii.Error):
                return ""
    return None
