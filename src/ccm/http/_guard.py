"""The outermost layer: what it refuses costs no more than this, and never reaches a message.

Everything here is about one request: its form, where it comes from, who sends it, how often, how much. The
body is read here too, with a limit and a time-out, and checked before anything parses it. Then the
application runs; when its client has gone, it is cancelled, so that nobody pays for an answer
nobody reads.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, final

import trio
from fastapi import FastAPI

from ._front import Front
from ._json import json_error
from ._keys import LOCAL, Caller
from ._origins import METHODS, PREFLIGHT, SECURITY, cors, foreign, loopback_address, loopback_name
from ._presence import KEY as PRESENCE
from ._presence import Presence
from ._problems import BROKEN, MEDIA_TYPE, Problem
from ._request import Asked, Scope, too_large

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Pairs = Iterable[tuple[bytes, bytes]]

LOG = logging.getLogger("ccm.http")
NOBODY = Caller("anonymous", None, frozenset())
_LINGER = 1.0  # seconds, and messages, of a refused body that are read so that the client reads the answer
_LINGER_MESSAGES = 64
_BUSY = 1.0  # seconds to wait when there is no room


class _Refusal(Exception):
    """The request ends here."""

    def __init__(self, problem: Problem, headers: Pairs = (), *, close: bool = False) -> None:
        self.problem = problem
        self.headers = tuple(headers)
        self.close = close


@final
class Guard:
    """An ASGI application around another.

    Attributes:
        front: what the endpoints share.
        inner: the FastAPI application behind it.
        requests: requests, and WebSockets, that are inside.
        streams: those of them that do not end by themselves.
    """

    def __init__(self, inner: FastAPI, front: Front) -> None:
        self.inner = inner
        self.front = front
        self.requests = 0
        self.streams = 0
        self._gone: trio.Event | None = None
        self._origins = tuple(origin.encode() for origin in front.settings.origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one WebSocket."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        self.requests += 1
        streams = 0
        asked = Asked(scope)
        out = _Out(scope, send)
        try:
            caller = self._admit(asked, out)
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                await out.send(_start(204, [(b"allow", METHODS), *(PREFLIGHT if out.extra else ())]))
                await out.send(_END)
                return
            scope["ccm.caller"] = caller
            # Files are sent in pieces, each within the write time-out, not by the kernel at its leisure.
            for name in ("http.response.pathsend", "http.response.zerocopysend"):
                scope.get("extensions", {}).pop(name, None)
            streams = self._take_stream(asked)
            if scope["type"] == "websocket":
                await self._guarded(scope, receive, out.send, out)
            else:
                await self._http(asked, receive, out)
        except _Refusal as refusal:
            await self._refuse(refusal, asked, receive, out)
        finally:
            self.requests -= 1
            self.streams -= streams
            if self._gone is not None and not self.streams:
                self._gone.set()
            out.log()

    async def streams_ended(self) -> None:
        """Wait until no stream is left."""
        while self.streams:
            self._gone = trio.Event()
            await self._gone.wait()

    # -- before anything is read -----------------------------------------------------------------

    def _admit(self, asked: Asked, out: _Out) -> Caller:
        """Who asks; or the request ends."""
        settings, scope = self.front.settings, asked.scope
        if (problem := asked.malformed(settings.max_header_bytes)) is not None:
            raise _Refusal(problem, close=True)
        if self.requests > settings.max_connections:
            raise _Refusal(_full("requests"), close=True)
        if self.front.keys is None:
            self._check_local(asked)
        site, mode = asked.headers.get(b"sec-fetch-site"), asked.headers.get(b"sec-fetch-mode")
        if foreign(asked.origin, site, mode, asked.host, self._origins):
            raise _Refusal(
                Problem(status=403, detail="pages of this origin may not use this service.", reason="origin")
            )
        if asked.origin is not None and asked.origin.lower() in self._origins:
            out.extra = cors(asked.origin)
        if (problem := asked.refused_method()) is not None:
            raise _Refusal(problem, [(b"allow", METHODS)])
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return NOBODY  # a browser asks without a key what it may ask
        return self._caller(asked)

    def _check_local(self, asked: Asked) -> None:
        """Without keys only this machine is let in, and only under a name that is its own."""
        client = asked.scope.get("client")
        if not loopback_name(asked.host):
            raise _Refusal(
                Problem(status=421, detail="without keys, only localhost is served.", reason="host")
            )
        if client is not None and not loopback_address(client[0]):
            raise _Refusal(
                Problem(status=403, detail="without keys, only this machine is served.", reason="host")
            )

    def _caller(self, asked: Asked) -> Caller:
        """Whose key it carries, within the rate limit."""
        keys, client = self.front.keys, asked.scope.get("client")
        address = client[0] if client else ""
        if keys is None:
            caller, limited = LOCAL, f"address {address}"
        else:
            secret = asked.secret
            found = None if secret is None else keys.caller(secret)
            if found is None and not asked.open:
                # Counted apart from those who have a key: no stranger at the same proxy locks them out.
                self._limit(f"stranger {address}")
                words = "a key is needed: 'Authorization: Bearer KEY'." if secret is None else "wrong key."
                raise _Refusal(
                    Problem(status=401, detail=words, reason="unauthorised"),
                    [(b"www-authenticate", b'Bearer realm="ccm"')],
                )
            caller = found or NOBODY
            limited = f"key {caller.name}"
        if not asked.open:
            asked.scope["ccm.limited"] = limited
            self._limit(limited)
        return caller

    def _limit(self, who: str) -> None:
        wait = self.front.take(who)
        if wait > 0.0:
            raise _Refusal(
                Problem(
                    status=429, detail="too many requests; please wait a moment.", reason="rate_limited",
                    retry_after=wait,
                )
            )  # fmt: skip

    def _take_stream(self, asked: Asked) -> int:
        if not asked.is_stream:
            return 0
        if self.streams >= self.front.settings.max_streams:
            raise _Refusal(_full("streams"))
        self.streams += 1
        return 1

    # -- the body, and the application -----------------------------------------------------------

    async def _http(self, asked: Asked, receive: Receive, out: _Out) -> None:
        body = await self._body(asked, receive) if asked.has_body else b""
        scope = dict(asked.scope, method="GET") if out.head else asked.scope
        out.scope = scope
        presence: Presence | None = scope.get("state", {}).get(PRESENCE)
        if presence is not None:
            with trio.CancelScope() as out.enough:
                presence.request, out.presence = out.enough, presence
                try:
                    if presence.gone.is_set():
                        out.enough.cancel()
                    await self._guarded(scope, _giver(body, presence.gone), out.send, out)
                finally:
                    presence.request = None
            return
        presence = Presence()  # of another server, which tells it only to those who ask

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not out.ended:
                presence.leave()

        async with trio.open_nursery() as nursery:
            presence.request = out.enough = nursery.cancel_scope
            nursery.start_soon(watch, name="ccm http watch")
            await self._guarded(scope, _giver(body, presence.gone), out.send, out)
            nursery.cancel_scope.cancel()

    async def _body(self, asked: Asked, receive: Receive) -> bytes:
        settings = self.front.settings
        if (problem := asked.refused_body(settings.max_body)) is not None:
            raise _Refusal(problem)
        parts, size = [], 0
        with trio.move_on_after(settings.body_timeout) as scope:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Refusal(
                        Problem(status=400, detail="the body was not sent to its end."), close=True
                    )
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > settings.max_body:
                    raise _Refusal(too_large(settings.max_body))
                if not message.get("more_body", False):
                    asked.has_body = False  # read to its end
                    break
        if scope.cancelled_caught:
            words = f"the body must be sent within {settings.body_timeout:g} s."
            raise _Refusal(Problem(status=408, detail=words), close=True)
        body = b"".join(parts)
        if (error := json_error(body, settings.max_depth)) is not None:
            raise _Refusal(Problem(status=400, detail=f"{error}.", reason="bad_json"))
        return body

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, out: _Out) -> None:
        """Run the application. Whatever it raises ends here, so that texts do not reach the log."""
        try:
            await self.inner(scope, receive, send)
        except Exception as error:
            self._log_error(error, scope)
            if not out.started:
                await _send_problem(out, BROKEN)
            # A response that has begun is left without its end, and the server cuts the connection.

    def _log_error(self, error: Exception, scope: Scope) -> None:
        if self.front.settings.log_text:
            LOG.error("request failed: %s", _route(scope), exc_info=error)
        else:  # where it happened, not what it says: that may hold what people wrote
            frames = "".join(traceback.format_tb(error.__traceback__))
            LOG.error("request failed: %s: %s\n%s", _route(scope), type(error).__name__, frames)

    async def _refuse(self, refusal: _Refusal, asked: Asked, receive: Receive, out: _Out) -> None:
        headers = list(refusal.headers)
        if refusal.close or asked.has_body:
            headers.append((b"connection", b"close"))
        if asked.has_body and not refusal.close:
            # What is unread when a connection closes makes the kernel reset it, and the answer may be lost.
            with trio.move_on_after(_LINGER):  # noqa: ASYNC912
                for _ in range(_LINGER_MESSAGES):
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        await _send_problem(out, refusal.problem, headers)


@final
class _Out:
    """The way out of one response: adds the headers every response has, and knows how far it is.

    Attributes:
        started: whether the status was sent.
        ended: whether the last byte was.
        extra: headers for an allowed origin.
        presence: of the client, which is no longer looked at when the answer is out.
        enough: cancelled when the rest of a response is not wanted, as for a HEAD.
    """

    __slots__ = (
        "_began",
        "_send",
        "_status",
        "ended",
        "enough",
        "extra",
        "head",
        "presence",
        "scope",
        "started",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self.head = scope["type"] == "http" and scope["method"] == "HEAD"
        self.started = self.ended = False
        self.extra: Pairs = ()
        self.enough: trio.CancelScope | None = None
        self.presence: Presence | None = None
        self._status = 0
        self._began = time.perf_counter()

    async def send(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.started = True
            self._status = message["status"]
            headers = [*message.get("headers", ()), *SECURITY, *self.extra]
            if self.scope["path"].startswith("/api/") and all(n != b"cache-control" for n, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            await self._send({**message, "headers": headers})
            if self.head:
                self.ended = True
                await self._send(_END)
                if self.enough is not None:
                    self.enough.cancel()
        elif kind.startswith("websocket."):
            if kind == "websocket.accept":
                self.started, self._status = True, 101
            await self._send_piece(message)
        elif not (self.head and self.ended):
            if kind == "http.response.body":
                if message.get("more_body", False):
                    await self._send_piece(message)
                    return
                self.ended = True
                if self.presence is not None:  # what comes after the answer is not for the client
                    self.presence.request = None
            await self._send(message)

    async def _send_piece(self, message: Any) -> None:
        """Send something that more comes after."""
        await self._send(message)
        # Once the client has gone, the server's `send` returns at once and does nothing; an endpoint that
        # only sends would keep everybody else from running.
        await trio.lowlevel.checkpoint()

    async def deny(self, status: int, headers: Pairs, body: bytes) -> None:
        """Answer a WebSocket's handshake with a response."""
        self._status = status
        if "websocket.http.response" in self.scope.get("extensions", {}):
            await self._send(
                {"type": "websocket.http.response.start", "status": status, "headers": [*headers, *SECURITY]}
            )
            await self._send({"type": "websocket.http.response.body", "body": body})
        else:
            await self._send({"type": "websocket.close", "code": 1008})

    def log(self) -> None:
        if LOG.isEnabledFor(logging.INFO):
            caller = self.scope.get("ccm.caller", NOBODY).name
            milliseconds = 1000 * (time.perf_counter() - self._began)
            status = self._status or "-"
            LOG.info("%s %s by %r in %.1f ms", _route(self.scope), status, caller, milliseconds)


_END = {"type": "http.response.body", "body": b"", "more_body": False}


def _start(status: int, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _route(scope: Scope) -> str:
    """Method and route, without the ids in the path, and without the query."""
    return f"{scope.get('method', 'WS')} {getattr(scope.get('route'), 'path', '-')}"


def _full(what: str) -> Problem:
    detail = f"too many {what} are open at the moment."
    return Problem(status=503, detail=detail, reason="overloaded", retry_after=_BUSY)


async def _send_problem(out: _Out, problem: Problem, headers: Pairs = ()) -> None:
    path = out.scope["path"]
    body = json.dumps(problem.body(path if path.startswith("/") else None)).encode()
    all_headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers().items()),
        *headers,
    ]
    if out.scope["type"] == "websocket":
        await out.deny(problem.status, all_headers, body)
    else:
        await out.send(_start(problem.status, all_headers))
        await out.send({"type": "http.response.body", "body": body})


def _giver(body: bytes, gone: trio.Event) -> Receive:
    """What the application calls `receive`: the body, which was read already, and then the client's end."""
    told = False

    async def give() -> Any:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    return give


async def _lifespan(receive: Receive, send: Send) -> None:
    """The manager lives around the server, so there is nothing to start and to stop here."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
