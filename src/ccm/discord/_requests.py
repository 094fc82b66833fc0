"""Sends requests to Discord: in order within each limit, with a deadline, again where that is safe."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, final
from urllib.parse import quote

import httpx2
import trio

from ._breaker import Breaker
from ._buckets import Again, Go, RestLimits, Route, Stopped
from ._errors import RestError, RestStopped
from ._settings import DiscordSettings

__all__ = ["Requests"]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
MAX_REASON = 512


@final
class _Line:
    """Who waits for one limit, first come, first served."""

    __slots__ = ("lock", "people")

    def __init__(self) -> None:
        self.lock = trio.StrictFIFOLock()
        self.people = 0


@final
class Requests:
    """The way to Discord's REST API; shared by all tasks.

    Args:
        settings: the address, the token and the times.
        client: an HTTP client without a limit on its pool: what bounds it is `settings.concurrency`, of each
            kind. A limit of its own would be waited for with a permission to send in hand.

    Attributes:
        limits, breaker: their state.
        sent, retried: requests sent, and those of them that were not the first attempt.
    """

    def __init__(self, settings: DiscordSettings, client: httpx2.AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._rooms = [trio.CapacityLimiter(settings.concurrency) for _ in range(3)]
        self._lines: dict[tuple[object, str], _Line] = {}
        self._landed = trio.lowlevel.ParkingLot()
        self.limits = RestLimits(settings.max_invalid)
        self.breaker = Breaker()
        self.sent = self.retried = 0
        self._refused = trio.Event()
        self._refused_by = ""

    async def refused(self) -> str:
        """Wait until Discord does not accept the token (401); returns which request said so, the first one.

        Nothing is sent from then on, whatever becomes of the token: `RestStopped`.
        """
        await self._refused.wait()
        return self._refused_by

    async def ask(
        self,
        route: Route,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        reason: str | None = None,
        repeatable: bool = True,
    ) -> Any:
        """Send a request and return its answer, decoded; None when it has no body.

        It is sent again after a 429, which is never carried out, and, if `repeatable`, after an answer of
        500 or more, after one that is cut off, and after none. When cancelled it may have been carried out.

        Args:
            route: whose limits it falls under.
            path: with ids in place.
            body: JSON.
            query: after the `?`.
            reason: for the guild's audit log.
            repeatable: doing it twice is like doing it once.

        Raises:
            RestStopped: it was not sent.
            RestError: Discord refused, failed, or did not answer in time.
        """
        name = f"{route.method} {route.path}"
        headers = {} if reason is None else {"X-Audit-Log-Reason": quote(reason[:MAX_REASON])}
        if route.bot:
            headers["Authorization"] = f"Bot {self._settings.token}"
        deadline = trio.current_time() + self._settings.deadline
        failures = 0
        error = RestError(name, 0, 0, f"not within {self._settings.deadline:g} s")
        with trio.CancelScope(deadline=deadline):
            while True:
                try:
                    answer = await self._once(name, route, path, deadline, headers, body, query)
                except RestStopped:
                    raise
                except RestError as failed:
                    error = failed
                    failed.repeated = failures > 0
                    if failed.status and failed.status < 500:
                        raise
                else:
                    if not isinstance(answer, Again):
                        return answer
                    self.retried += 1
                    continue
                failures += 1
                if not repeatable or failures >= self._settings.attempts:
                    raise error
                self.retried += 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
                await trio.sleep(random.random() * pause)
        raise error

    async def _once(
        self,
        name: str,
        route: Route,
        path: str,
        deadline: float,
        headers: dict[str, str],
        body: Any,
        query: Mapping[str, Any] | None,
    ) -> Any:
        """One attempt, as soon as the limits allow it."""
        go = await self._permission(name, route, deadline)
        over = False
        try:
            self.sent += 1
            response = await self._client.request(
                route.method, self._settings.api_url + path, json=body, params=query, headers=headers
            )
            found = _decoded(response)
            over = True
            told = {key.lower(): value for key, value in response.headers.items()}
            verdict = self.limits.answered(go, response.status_code, told, found, trio.current_time())
        except httpx2.HTTPError as error:
            self.breaker.failed(trio.current_time())
            raise RestError(name, 0, 0, f"{type(error).__name__}: {error}") from error
        finally:
            if not over:
                self.limits.lost(go, trio.current_time())
            self._room_for(route).release()
            self._landed.unpark_all()
        if response.status_code == 401 and route.bot and not self._refused.is_set():
            self._refused_by = name
            self._refused.set()
        return self._judged(name, response, found, verdict)

    def _judged(self, name: str, response: httpx2.Response, found: Any, verdict: object) -> Any:
        status = response.status_code
        if status >= 500:
            self.breaker.failed(trio.current_time())
        else:
            self.breaker.succeeded()
        if isinstance(verdict, Again):
            return verdict
        if status in (200, 201) and found is None and response.content != b"null":
            # Without an announced length, an answer that was cut off looks like a whole one.
            raise RestError(name, 0, 0, "the answer is no JSON, or only a part of it")
        if 200 <= status < 300:
            return found
        told = found if isinstance(found, Mapping) else {}
        code, text = told.get("code"), told.get("message")
        raise RestError(
            name, status, code if isinstance(code, int) else 0, str(text) if text else response.reason_phrase
        )

    async def _permission(self, name: str, route: Route, deadline: float) -> Go:
        """Wait, in order of arrival, until a request may go. Its holder has a place in `_room_for(route)`."""
        key, room = self.limits.key(route), self._room_for(route)
        async with self._in_line(key):
            while True:
                await room.acquire()
                now = trio.current_time()
                # Who asks for an urgent answer has just heard from Discord: that is worth an attempt.
                probe = None if route.urgent else self.breaker.ask(now)
                step = self.limits.ask(route, now) if probe is None else None
                if isinstance(step, Go):
                    return step
                room.release()
                if isinstance(step, Stopped):
                    raise RestStopped(name, step.why, step.until - now)
                until = probe if step is None else step.until
                assert until is not None
                if until == float("inf"):
                    await self._landed.park()
                elif until > deadline:
                    why = "Discord fails" if step is None else "the limit is used up"
                    raise RestStopped(name, why, until - now)
                else:
                    await trio.sleep_until(until)

    def _room_for(self, route: Route) -> trio.CapacityLimiter:
        """Requests that hang must not hold up commands, nor the rest of a command the first answer to one."""
        return self._rooms[2 if route.urgent else route.exempt]

    @asynccontextmanager
    async def _in_line(self, key: tuple[object, str]) -> AsyncIterator[None]:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        line.people += 1
        try:
            async with line.lock:
                yield
        finally:
            line.people -= 1
            if not line.people:
                del self._lines[key]


def _decoded(response: httpx2.Response) -> Any:
    """The body, None when it is empty or no JSON."""
    try:
        return response.json() if response.content else None
    except (ValueError, RecursionError):
        return None
