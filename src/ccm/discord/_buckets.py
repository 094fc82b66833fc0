"""Discord's limits on requests, without I/O: may this one go, and what does its answer mean.

Each request goes through `ask`, which says go, wait or never, and ends with `answered` or `lost`, exactly
once for each `Go`. A bucket is what Discord says it is (`X-RateLimit-Bucket`) for one channel, guild or
webhook; until it has said so, one request of the route goes at a time. A pause only ever grows: an answer
to what was in flight when it began cannot end it.

Source: Discord's developer documentation, "Rate limits".
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final, final

import attrs

__all__ = ["Again", "Answer", "Go", "RestLimits", "Route", "Stopped", "Wait"]

GLOBAL: Final = 50
"""Requests a second; commands' answers do not count."""
INVALID_WINDOW: Final = 600.0
CLOUDFLARE_PAUSE: Final = 600.0
MAX_PAUSE: Final = 86_400.0
ODD_PAUSE: Final = 5.0
"""How long a 429 pauses when it does not say how long."""
IDLE_BUCKETS: Final = 2_000


@final
@attrs.frozen
class Route:
    """Where a request goes.

    Attributes:
        method, path: such as `"POST"`, `"/channels/{channel}/messages"`, ids left as names.
        major: the channel, guild or webhook whose limit it is; empty: the bot's.
        exempt: not part of the global limit.
        bot: asked with the bot's token, so that a 401 says that it is no good.
        urgent: of no use in a few seconds, so that nothing else must hold it up.
    """

    method: str
    path: str
    major: str = ""
    exempt: bool = False
    bot: bool = True
    urgent: bool = False


@final
class _Bucket:
    """One limit.

    Attributes:
        known: Discord has told how many may go; before, one at a time.
        limit, remaining: of the window that ends at `reset`, infinity until the first answer of a window.
        flying: requests on their way; `paused`: until when none may go.
    """

    __slots__ = ("flying", "known", "limit", "paused", "remaining", "reset")

    # flying == 0 and reset == inf imply remaining >= 1: nobody waits for an answer that cannot come

    def __init__(self) -> None:
        self.known = False
        self.limit = 1
        self.remaining = 1
        self.reset = math.inf
        self.flying = 0
        self.paused = -math.inf


@final
@attrs.define(eq=False)
class Go:
    """Send it, then say `answered` or `lost` with this."""

    route: Route
    bucket: _Bucket = attrs.field(repr=False)
    over: bool = attrs.field(default=False, repr=False)


@final
@attrs.frozen
class Wait:
    """Ask again at this time; infinity: when one that is on its way is over."""

    until: float


@final
@attrs.frozen
class Stopped:
    """Nothing is sent until this time, infinity: never again; `why` is for people."""

    until: float
    why: str


@final
@attrs.frozen
class Answer:
    """The request has its answer, good or bad."""


@final
@attrs.frozen
class Again:
    """It was turned away and not carried out: ask again. `ask` knows when."""


@final
class RestLimits:
    """The limits of one bot.

    Args:
        max_invalid: answers 401, 403 and 429 within ten minutes after which nothing is sent.

    Attributes:
        turned_away: 429s so far.
    """

    __slots__ = (
        "_buckets", "_departures", "_invalid", "_learned", "_max_invalid", "_paused", "_pauses", "_stopped",
        "turned_away",
    )  # fmt: skip

    # _learned     (method, path) -> Discord's name of its bucket
    # _buckets     (name or (method, path), major) -> bucket, the one asked for last at the end
    # _departures  of the last 50 requests that count globally, ascending
    # _invalid     of the last max_invalid bad answers, ascending
    # _pauses      route -> until when it is paused: also when its bucket gets another name meanwhile
    # _paused      nothing that counts globally goes before
    # _stopped     nothing at all goes before its end

    def __init__(self, max_invalid: int = 500) -> None:
        self._learned: dict[tuple[str, str], str] = {}
        self._buckets: OrderedDict[tuple[object, str], _Bucket] = OrderedDict()
        self._departures: deque[float] = deque(maxlen=GLOBAL)
        self._invalid: deque[float] = deque(maxlen=max_invalid)
        self._max_invalid = max_invalid
        self._paused = -math.inf
        self._pauses: dict[Route, float] = {}
        self._stopped: Stopped | None = None
        self.turned_away = 0

    # -- before ----------------------------------------------------------------------------------

    def ask(self, route: Route, now: float) -> Go | Wait | Stopped:
        """May a request go? O(1)."""
        stopped = self._held_back(now)
        if stopped is not None:
            return stopped
        bucket = self._bucket(route, now)
        paused = max(bucket.paused, self._pauses.get(route, -math.inf))
        if now < paused:
            return Wait(paused)
        if bucket.known and now >= bucket.reset:
            # What is on its way may be counted in the new window.
            bucket.remaining, bucket.reset = bucket.limit - bucket.flying, math.inf
        if not bucket.known and bucket.flying:
            return Wait(math.inf)
        if bucket.remaining <= 0:
            return Wait(bucket.reset)
        if not route.exempt:
            if now < self._paused:
                return Wait(self._paused)
            if len(self._departures) == GLOBAL and (free := self._departures[0] + 1.0) > now:
                return Wait(free)
            self._departures.append(now)
        bucket.remaining -= 1
        bucket.flying += 1
        return Go(route, bucket)

    def key(self, route: Route) -> tuple[object, str]:
        """What requests wait for each other by. O(1)."""
        name = (route.method, route.path)
        return self._learned.get(name, name), route.major

    def _held_back(self, now: float) -> Stopped | None:
        if self._stopped is not None:
            if now < self._stopped.until:
                return self._stopped
            self._stopped = None
        if len(self._invalid) == self._max_invalid and (free := self._invalid[0] + INVALID_WINDOW) > now:
            return Stopped(free, f"{self._max_invalid} requests within ten minutes were not valid")
        return None

    def _bucket(self, route: Route, now: float) -> _Bucket:
        key = self.key(route)
        bucket = self._buckets.get(key)
        if bucket is None:
            # What was found out under the route's own name holds under the one that Discord gave it.
            bucket = self._buckets.pop(((route.method, route.path), route.major), None) or _Bucket()
            self._buckets[key] = bucket
            self._tidy(now)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def _tidy(self, now: float) -> None:
        """Let go of the one that was idle longest; a pause or a request on its way keeps it."""
        for _ in range(min(len(self._buckets) - IDLE_BUCKETS, 2)):
            key, oldest = next(iter(self._buckets.items()))
            if oldest.flying or oldest.paused > now:
                self._buckets.move_to_end(key)
            else:
                del self._buckets[key]

    # -- after -----------------------------------------------------------------------------------

    def lost(self, go: Go, now: float) -> None:
        """There was no answer; it may have been carried out. O(1).

        Raises:
            RuntimeError: this request is over already.
        """
        self._land(go)

    def answered(
        self, go: Go, status: int, headers: Mapping[str, str], body: Any, now: float
    ) -> Answer | Again:
        """What an answer means. O(1).

        Args:
            go: of the request.
            status: HTTP's.
            headers: with names in lower case.
            body: decoded JSON; None when it is none.
            now: the time.

        Raises:
            RuntimeError: this request is over already.
        """
        self._land(go)
        bucket = self._learn(go, headers, now)
        self._count(bucket, headers, now)
        if status == 429:
            self._turned_away(go, bucket, headers, body, now)
            return Again()
        if status in (401, 403):
            self._invalid.append(now)
            if status == 401 and go.route.bot:
                self._stopped = Stopped(math.inf, "Discord does not accept the token (401)")
        return Answer()

    def _land(self, go: Go) -> None:
        if go.over:
            raise RuntimeError(f"{go.route!r} is over already; say answered or lost once")
        go.over = True
        bucket = go.bucket
        bucket.flying -= 1
        if not bucket.flying and bucket.reset == math.inf:
            bucket.remaining = max(bucket.remaining, 1)

    def _learn(self, go: Go, headers: Mapping[str, str], now: float) -> _Bucket:
        """The bucket that Discord says it was."""
        name = headers.get("x-ratelimit-bucket")
        if name:
            self._learned[go.route.method, go.route.path] = name
        return self._bucket(go.route, now)

    @staticmethod
    def _count(bucket: _Bucket, headers: Mapping[str, str], now: float) -> None:
        remaining = _number(headers.get("x-ratelimit-remaining"))
        after = _number(headers.get("x-ratelimit-reset-after"))
        limit = _number(headers.get("x-ratelimit-limit"))
        if remaining is None or after is None:
            return
        left = int(min(remaining, 1e6))
        if not bucket.known or bucket.reset == math.inf or now >= bucket.reset:
            # The first answer of a window. What else is on its way is not in its count.
            fresh = left - bucket.flying
            bucket.remaining = min(bucket.remaining, fresh) if bucket.known else fresh
            bucket.reset = now + min(after, MAX_PAUSE)
        else:
            bucket.remaining = min(bucket.remaining, left)
        bucket.known = True
        bucket.limit = int(max(min(limit if limit is not None else bucket.limit, 1e6), 1))

    def _turned_away(
        self, go: Go, bucket: _Bucket, headers: Mapping[str, str], body: Any, now: float
    ) -> None:
        self.turned_away += 1
        told = body if isinstance(body, Mapping) else {}
        after = _number(told.get("retry_after"))
        if after is None:
            after = _number(headers.get("retry-after"))
        pause = min(ODD_PAUSE if after is None else after, MAX_PAUSE)
        if not isinstance(body, Mapping) and "via" not in headers:
            # Not Discord but what stands in front of it: asking again makes the ban longer.
            until = now + max(pause, CLOUDFLARE_PAUSE)
            self._stopped = Stopped(until, "Cloudflare has banned this address (429)")
            return
        scope = headers.get("x-ratelimit-scope", "")
        if scope != "shared":
            self._invalid.append(now)
        until = now + pause
        everywhere = told.get("global") is True or headers.get("x-ratelimit-global") or scope == "global"
        if everywhere:
            self._paused = max(self._paused, until)
        if not everywhere or go.route.exempt:
            bucket.paused = max(bucket.paused, until)
            self._pause(go.route, until, now)

    def _pause(self, route: Route, until: float, now: float) -> None:
        if len(self._pauses) >= IDLE_BUCKETS:
            self._pauses = {known: end for known, end in self._pauses.items() if end > now}
        self._pauses[route] = max(self._pauses.get(route, until), until)

    # -- looking at it ---------------------------------------------------------------------------

    def stopped(self, now: float) -> Stopped | None:
        """Why nothing is sent, None when requests go. O(1)."""
        return self._held_back(now)

    def _check(self) -> None:
        """Assert every invariant. O(buckets)."""
        assert len(self._departures) <= GLOBAL
        assert list(self._departures) == sorted(self._departures)
        assert len(self._invalid) <= self._max_invalid
        for bucket in self._buckets.values():
            assert bucket.flying >= 0
            assert bucket.limit >= 1
            assert bucket.known or bucket.flying <= 1
            assert bucket.flying or bucket.reset < math.inf or bucket.remaining >= 1


def _number(value: Any) -> float | None:
    """A finite number >= 0, from text, too; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0.0 <= number < math.inf else None
