"""What `ChatModel` reads from the wire: events, error bodies, Retry-After; and checks of arguments."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit

import trio

if TYPE_CHECKING:
    import httpx2

MAX_RETRY_AFTER: Final = 3600.0


@final
class Secret:
    """Keeps a key out of reprs, also those of tracebacks that show variables."""

    __slots__ = ("value",)

    def __init__(self, value: str | None) -> None:
        if value is not None and (not value or not value.isascii() or not value.isprintable()):
            raise ValueError("key must be printable ASCII without line breaks, or None")
        self.value = value

    def __repr__(self) -> str:
        return "<secret>"


@final
class Events:
    """Takes server-sent events apart: the data of each. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """The events that are complete with this chunk. O(bytes)."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        events = []
        for line in lines:
            name, _, value = line.removesuffix(b"\r").decode("utf-8", "replace").partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif not name and not value and self._data:
                events.append("\n".join(self._data))
                self._data = []
        return events


@asynccontextmanager
async def reading(response: httpx2.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a body as they were sent; may be left before the end."""
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        # The client's generators are nested and close each other only from the inside out: one that is left
        # in the middle stays behind until the garbage collector finds it, and so does its connection. So
        # what is left is read under a cancelled scope: the innermost wait ends, and all of them with it.
        with trio.CancelScope() as unwinding:
            unwinding.cancel()
            await _exhaust(chunks)  # noqa: ASYNC102 - cancelled already, so it cannot last


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        pass


async def beginning(response: httpx2.Response, most: int = 4096) -> bytes:
    """The first bytes of a body."""
    found = b""
    async with reading(response) as chunks:
        async for chunk in chunks:
            found += chunk
            if len(found) >= most:
                break
    return found[:most]


def error_of(body: bytes) -> tuple[str, str]:
    """Code and text of an error in the usual form; nothing of any other body."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return "", ""
    if not isinstance(error, dict):
        return "", str(error)[:200]
    return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")[:200]


def retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3), 1 without one, at most an hour."""
    if value is None:
        return 1.0
    try:
        delay = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return 1.0
        delay = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(delay, 0.0), MAX_RETRY_AFTER) if math.isfinite(delay) else 1.0


def endpoint(url: str) -> str:
    try:
        parts = urlsplit(text_of("url", url))
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.username or parts.password:
        raise ValueError("url must not contain a user or password; pass a key with key=")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must be like 'http://127.0.0.1:8080/v1', got {url!r}")
    path = parts.path.rstrip("/") or "/v1"
    return parts._replace(
        path=path if path.endswith("/chat/completions") else path + "/chat/completions", fragment=""
    ).geturl()


def text_of(field: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field} must be a non-empty string, got {value!r}")
    return value


def whole(field: str, value: int, low: int, high: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high or value) < value:
        raise ValueError(f"{field} must be a whole number >= {low}"
                         f"{'' if high is None else f' and <= {high}'}, got {value!r}")  # fmt: skip
    return value


def seconds(field: str, value: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{field} must be seconds > 0, got {value!r}")
    return value
