"""What the HTTP front end lets in, and how much of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import attrs

from .._checks import instance_of, number, optional, refuse, whole
from .._policies import RateLimit, rate_of
from ._keys import Keys


def _check_origins(instance: Any, field: Any, value: Any) -> None:
    for origin in value:
        parts = urlsplit(origin) if isinstance(origin, str) else None
        if parts is None or parts.scheme not in ("http", "https") or origin != origin_of(parts):
            raise refuse(field.name, origin, "origins as a browser sends them, like 'https://chat.example'")


def origin_of(parts: Any) -> str:
    """`scheme://host:port` in lower case, without a path."""
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _strings(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of the HTTP front end; every value is checked when it is set.

    Args:
        host: address or name to listen on. Without `keys` it must be a loopback one.
        port: 0 to 65535; 0 is any free one.
        keys: who may ask. None: everybody on this machine, for everything.
        origins: web pages on other hosts that may use it (CORS and WebSockets), like "https://chat.example".
        max_body: bytes of a request's body, and of a WebSocket message, 1024 to 100,000,000.
        max_depth: how deep JSON may be nested, 2 to 500.
        max_connections: open connections, 1 to 100,000; more are refused with 503.
        max_header_bytes: bytes of all headers of a request, 1024 to 1,000,000.
        header_timeout: seconds a client may take for its headers, and be idle between requests, > 0.
        body_timeout: seconds a client may take for its body, > 0.
        write_timeout: seconds a client may leave what was sent to it unread, 1 to 3600; then it is cut off.
        rate: requests of one key, or without keys of one address; None is no limit.
        max_streams: server-sent event streams and WebSockets open at a time, 1 to 100,000.
        max_socket_turns: messages that one client of the WebSocket may have unanswered, 1 to 100,000.
        resume_window: seconds a WebSocket may be away and be taken up again, >= 0.
        farewell: seconds between the farewell to streams and their end, 0 to 10.
        log_text: whether errors are logged with their texts, which may hold what people wrote.
        title: name of the service on its page and in its documentation.

    Raises:
        ConfigError: a value is out of range; the text names it.
    """

    host: str = attrs.field(default="127.0.0.1", validator=instance_of(str, "a host name or an address"))
    port: int = attrs.field(default=8000, validator=whole(0, 65535))
    keys: Keys | None = attrs.field(
        default=None, repr=False, validator=optional(instance_of(Keys, "Keys.load(path), or None"))
    )
    origins: tuple[str, ...] = attrs.field(default=(), converter=_strings, validator=_check_origins)
    max_body: int = attrs.field(default=65536, validator=whole(1024, 100_000_000))
    max_depth: int = attrs.field(default=32, validator=whole(2, 500))
    max_connections: int = attrs.field(default=1000, validator=whole(1, 100_000))
    max_header_bytes: int = attrs.field(default=16384, validator=whole(1024, 1_000_000))
    header_timeout: float = attrs.field(default=5.0, validator=number(0, above=True))
    body_timeout: float = attrs.field(default=10.0, validator=number(0, above=True))
    write_timeout: float = attrs.field(default=20.0, validator=number(1, 3600))
    rate: RateLimit | None = attrs.field(
        default=RateLimit(60, per=10), converter=rate_of,
        validator=optional(instance_of(RateLimit, "a RateLimit or None")),
    )  # fmt: skip
    max_streams: int = attrs.field(default=500, validator=whole(1, 100_000))
    max_socket_turns: int = attrs.field(default=100, validator=whole(1, 100_000))
    resume_window: float = attrs.field(default=30.0, validator=number(0))
    farewell: float = attrs.field(default=0.1, validator=number(0, 10))
    log_text: bool = attrs.field(default=False, validator=instance_of(bool, "True or False"))
    title: str = attrs.field(default="ccm", validator=instance_of(str, "a text"))
