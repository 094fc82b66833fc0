"""The REST API without I/O: a request goes in, what to answer comes out.

It refuses what Discord refuses: an unknown token, a request over its limit, a body that is not as it must
be. A 429 of Discord has a `Via` header and JSON; Cloudflare's, which comes after `invalid_limit` answers
401, 403 and 429, has neither.

What a client should make of a JSON 429 without `Via` is not settled: discord.py stops, as it sees in the
header's absence alone that Cloudflare has banned it. `ccm.discord` waits as long as the body says and asks
again: a body that Discord's rate limiter wrote says more than a header that a proxy may strip, and the
project's notes call only a 429 without JSON a ban. `turn_away("proxied")` makes one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, final
from urllib.parse import parse_qsl, unquote, urlsplit

from . import checks
from .checks import ApiError
from .limits import VIA, Limits
from .routes import Call, Routes
from .rules import Rules
from .sessions import Hub
from .world import World

PREFIX: Final = "/api/v10"
NOT_FOUND: Final = {"message": "404: Not Found", "code": 0}
WRONG_METHOD: Final = {"message": "405: Method Not Allowed", "code": 0}
UNAUTHORIZED: Final = {"message": "401: Unauthorized", "code": 0}
WITHOUT_TOKEN: Final = ("/interactions/", "/webhooks/")


@final
@dataclass(frozen=True)
class Request:
    """Header names are in lower case; `target` is path and query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@final
@dataclass(frozen=True)
class Reply:
    """What to answer.

    Attributes:
        lost: the connection is dropped in place of an answer.
        delay: seconds before it is sent.
        cut: it ends in the middle: "told", before the length that was announced; "untold": none was.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    lost: bool = False
    delay: float = 0.0
    cut: str = ""


@final
@dataclass(frozen=True)
class Seen:
    """A request as it was answered; `route` has names in place of ids."""

    at: float
    route: str
    path: str
    body: Any
    headers: Mapping[str, str]
    status: int


@final
@dataclass
class Trouble:
    """The next `times` requests whose route contains `route` are answered otherwise."""

    route: str
    times: int
    status: int = 0
    scope: str = ""
    after: float = 0.0
    lost: bool = False
    carried_out: bool = False
    delay: float = 0.0
    cut: str = ""


@final
@dataclass
class Api:
    """The API of one world.

    Attributes:
        seen: every request, in order.
        limits: buckets; tests may change `limits.routes`.
        calls: the handlers' table.
        watch: called with each request as it was answered, before the answer is sent.
    """

    rules: Rules
    world: World
    hub: Hub
    gateway_url: str = ""
    seen: list[Seen] = field(default_factory=list)
    watch: Callable[[Seen], object] = bool
    _troubles: list[Trouble] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limits = Limits(self.rules)
        self.calls = Routes(self.world, self.rules).table
        self.calls["GET /gateway"] = lambda call: (200, {"url": self.gateway_url})
        self._patterns = [(name, _pattern(name)) for name in (*self.calls, "GET /gateway/bot")]
        # `/users/@me` before `/users/{user}`
        self._patterns.sort(key=lambda entry: entry[0].count("{"))

    # -- what a test may ask for -----------------------------------------------------------------

    def fail(self, status: int, *, times: int = 1, route: str = "", carried_out: bool = False) -> None:
        """Answer with an empty 5xx; `carried_out`: after having done what was asked."""
        self._troubles.append(Trouble(route, times, status=status, carried_out=carried_out))

    def lose(self, *, times: int = 1, route: str = "", carried_out: bool = True) -> None:
        """Drop the connection in place of an answer."""
        self._troubles.append(Trouble(route, times, lost=True, carried_out=carried_out))

    def delay(self, seconds: float, *, times: int = 1, route: str = "", carried_out: bool = True) -> None:
        """Answer later, or never (`math.inf`); without `carried_out`, with an empty 504."""
        self._troubles.append(
            Trouble(route, times, status=0 if carried_out else 504, delay=seconds, carried_out=carried_out)
        )

    def cut(self, how: str, *, times: int = 1, route: str = "") -> None:
        """Do what is asked and send half of the answer; `how` is "told" or "untold", see `Reply.cut`."""
        self._troubles.append(Trouble(route, times, carried_out=True, cut=how))

    def turn_away(self, scope: str, after: float, *, times: int = 1, route: str = "") -> None:
        """Answer with a 429.

        Args:
            scope: `"user"`, `"global"`, `"shared"`; `"proxied"`: JSON, but no `Via`; `"cloudflare"`: neither.
            after: seconds to wait.
            times, route: as often, for routes that contain this.
        """
        self._troubles.append(Trouble(route, times, scope=scope, after=after))

    def calm(self) -> None:
        """Forget all that was asked for and has not happened yet."""
        self._troubles.clear()

    # -- answering -------------------------------------------------------------------------------

    def answer(self, request: Request, now: float) -> Reply:
        """What to answer."""
        parts = urlsplit(request.target)
        path = parts.path.removeprefix(PREFIX)
        route, ids = self._route(request.method, path)
        trouble = self._trouble(route)
        if trouble is not None and not trouble.carried_out:
            reply = self._troubled(trouble, now)
        else:
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            reply = self._answer(request, path, route, ids, query, now)
            if trouble is not None and (trouble.status or trouble.lost):
                reply = self._troubled(trouble, now)
        if trouble is not None:
            reply = replace(reply, delay=trouble.delay, cut=trouble.cut)
        self.seen.append(Seen(now, route, path, _decoded(request.body), request.headers, reply.status))
        self.watch(self.seen[-1])
        return reply

    def _route(self, method: str, path: str) -> tuple[str, Mapping[str, str]]:
        for name, pattern in self._patterns:
            found = pattern.fullmatch(f"{method} {path}")
            if found is not None:
                return name, {key: unquote(value) for key, value in found.groupdict().items()}
        return f"{method} {path}", {}

    def _trouble(self, route: str) -> Trouble | None:
        for trouble in self._troubles:
            if trouble.route in route:
                trouble.times -= 1
                if not trouble.times:
                    self._troubles.remove(trouble)
                return trouble
        return None

    def _troubled(self, trouble: Trouble, now: float) -> Reply:
        if trouble.lost:
            return Reply(0, {}, b"", lost=True)
        if trouble.status:
            return Reply(trouble.status, {"Via": VIA}, b"")
        if trouble.scope == "cloudflare":
            return _text(429, b"error code: 1015", {"Retry-After": str(int(trouble.after))})
        headers, body = self.limits.refusal(trouble.scope.replace("proxied", "user"), trouble.after, {})
        self.limits.note(429, trouble.scope, now)
        return _json(429, body, headers, via=trouble.scope != "proxied")

    def _answer(
        self,
        request: Request,
        path: str,
        route: str,
        ids: Mapping[str, str],
        query: Mapping[str, str],
        now: float,
    ) -> Reply:
        ban = self.limits.banned(now)
        if ban is not None:
            return _text(429, ban, {"Retry-After": str(int(self.limits.ban - now))})
        headers: dict[str, str] = {}
        scope = ""
        if not request.headers.get("user-agent", "").startswith("DiscordBot ("):
            status, body = _refused(ApiError(40333))
        elif not path.startswith(WITHOUT_TOKEN) and not self._authorized(request):
            status, body = 401, UNAUTHORIZED
        elif route not in self.calls and route != "GET /gateway/bot":
            known = any(pattern.fullmatch(f"{name.split()[0]} {path}") for name, pattern in self._patterns)
            status, body = (405, WRONG_METHOD) if known else (404, NOT_FOUND)
        else:
            major = "/".join(
                ids[key] for key in ("channel", "guild", "application", "interaction") if key in ids
            )
            if path.startswith(WITHOUT_TOKEN):
                major += "/" + ids["token"]
            exempt = path.startswith(WITHOUT_TOKEN)
            headers, refusal = self.limits.take(route, major, now, self.world.wall(), exempt=exempt)
            if refusal is None:
                status, body = self._carry_out(request, route, ids, query, now)
            else:
                status, (headers, body) = 429, refusal
                scope = headers["X-RateLimit-Scope"]
        self.limits.note(status, scope, now)
        return _json(status, body, headers)

    def _authorized(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bot {self.rules.token}"

    def _carry_out(
        self, request: Request, route: str, ids: Mapping[str, str], query: Mapping[str, str], now: float
    ) -> tuple[int, Any]:
        if route == "GET /gateway/bot":
            limit = self.hub.starts.told(now)
            return 200, {"url": self.gateway_url, "shards": self.rules.shards, "session_start_limit": limit}
        reason = unquote(request.headers.get("x-audit-log-reason", ""))
        try:
            body = _body(request)
            answer = self.calls[route](Call(ids, query, body, reason))
        except ApiError as error:
            return _refused(error)
        if reason:
            self.world.audit.append((request.method, request.target.removeprefix(PREFIX), reason))
        return answer


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(name)))


def _body(request: Request) -> Any:
    if not request.body:
        return None
    kind = request.headers.get("content-type", "")
    if not kind.startswith("application/json"):
        raise checks.invalid("_body", "CONTENT_TYPE_INVALID", f"Expected application/json, got {kind}")
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise ApiError(50109) from None


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return body


def _refused(error: ApiError) -> tuple[int, Any]:
    return error.status, error.body


def _json(status: int, body: Any, headers: Mapping[str, str], *, via: bool = True) -> Reply:
    told = {**headers, **({"Via": VIA} if via else {})}
    if body is None:
        return Reply(status, told, b"")
    return Reply(status, {**told, "Content-Type": "application/json"}, json.dumps(body).encode())


def _text(status: int, body: bytes, headers: Mapping[str, str]) -> Reply:
    return Reply(status, {**headers, "Content-Type": "text/plain; charset=UTF-8"}, body)
