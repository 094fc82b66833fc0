"""Discord's limits on requests, from its side, without I/O: buckets, the global limit, and the ban."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, final

from .rules import Rules

GENEROUS: Final = (50, 1.0)
DEFAULTS: Final[dict[str, tuple[int, float]]] = {
    "POST /channels/{channel}/messages": (5, 5.0),
    "PATCH /channels/{channel}/messages/{message}": (5, 5.0),
    "DELETE /channels/{channel}/messages/{message}": (5, 1.0),
    "POST /channels/{channel}/messages/bulk-delete": (1, 1.0),
    "GET /channels/{channel}/messages": (10, 10.0),
    "POST /channels/{channel}/typing": (5, 5.0),
    "PUT /channels/{channel}/messages/{message}/reactions/{emoji}/@me": (1, 0.25),
    "GET /gateway/bot": (2, 5.0),
}
VIA: Final = "1.1 google"
BAN_WINDOW: Final = 600.0
BODY: Final = "You are being rate limited."

Refusal = tuple[dict[str, str], Any]
"""Headers and body of a 429; a body of bytes is no JSON."""


@final
@dataclass
class Bucket:
    """A window begins with its first request."""

    limit: int
    window: float
    used: int = 0
    reset: float = -math.inf


@final
@dataclass
class Limits:
    """All limits of one bot.

    Attributes:
        routes: `"POST /channels/{channel}/messages"` -> (requests, seconds); tests may change it.
        merged: route -> another one whose bucket it shares.
        refused: 429s by scope.
        invalid: when answers 401, 403 and 429 were given, those of scope `shared` left out.
        ban: Cloudflare answers until then.
    """

    rules: Rules
    routes: dict[str, tuple[int, float]] = field(default_factory=lambda: dict(DEFAULTS))
    merged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    invalid: deque[float] = field(default_factory=deque)
    ban: float = -math.inf
    _buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    _second: deque[float] = field(default_factory=deque)

    def banned(self, now: float) -> bytes | None:
        """What Cloudflare says in place of Discord."""
        while self.invalid and self.invalid[0] <= now - BAN_WINDOW:
            self.invalid.popleft()
        if len(self.invalid) >= self.rules.invalid_limit:
            self.ban = now + BAN_WINDOW
            self.invalid.clear()
        return b"error code: 1015" if now < self.ban else None

    def note(self, status: int, scope: str, now: float) -> None:
        """An answer was given."""
        if status in (401, 403) or (status == 429 and scope != "shared"):
            self.invalid.append(now)

    def take(
        self, route: str, major: str, now: float, wall: float, *, exempt: bool
    ) -> tuple[dict[str, str], Refusal | None]:
        """Count a request: the headers of its answer, and the 429 if it is turned away."""
        bucket = self.bucket(route, major)
        if now >= bucket.reset:
            bucket.used, bucket.reset = 0, now + bucket.window
        if bucket.used >= bucket.limit:
            headers = self.headers(route, bucket, now, wall)
            return headers, self.refusal("user", bucket.reset - now, headers)
        if not exempt:
            while self._second and self._second[0] <= now - 1.0:
                self._second.popleft()
            if len(self._second) >= self.rules.global_rate:
                after = self._second[0] + 1.0 - now
                return {}, self.refusal("global", after, {})
            self._second.append(now)
        bucket.used += 1
        return self.headers(route, bucket, now, wall), None

    def bucket(self, route: str, major: str) -> Bucket:
        route = self.merged.get(route, route)
        bucket = self._buckets.get((route, major))
        limit, window = self.routes.get(route, GENEROUS)
        if bucket is None:
            bucket = self._buckets[route, major] = Bucket(limit, window)
        bucket.limit, bucket.window = limit, window
        return bucket

    def headers(self, route: str, bucket: Bucket, now: float, wall: float) -> dict[str, str]:
        # Rounded up: whoever comes back after exactly this time must not be too early.
        after = math.ceil(max(bucket.reset - now, 0.0) * 1000) / 1000
        name = hashlib.md5(self.merged.get(route, route).encode()).hexdigest()
        return {
            "X-RateLimit-Bucket": name,
            "X-RateLimit-Limit": str(bucket.limit),
            "X-RateLimit-Remaining": str(max(bucket.limit - bucket.used, 0)),
            "X-RateLimit-Reset": f"{math.ceil((wall + after) * 1000) / 1000:.3f}",
            "X-RateLimit-Reset-After": f"{after:.3f}",
        }

    def refusal(self, scope: str, after: float, headers: dict[str, str]) -> Refusal:
        """A 429."""
        self.refused[scope] = self.refused.get(scope, 0) + 1
        after = math.ceil(after * 1000) / 1000  # for the same reason
        told = {"Retry-After": str(math.ceil(after)), "X-RateLimit-Scope": scope}
        if scope == "global":
            told["X-RateLimit-Global"] = "true"
        body = {"message": BODY, "retry_after": after, "global": scope == "global"}
        return {**headers, **told}, body
