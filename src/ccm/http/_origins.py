"""Which hosts and origins are ours, and which headers say so to browsers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

_LOOPBACK = re.compile(
    rb"(?:localhost|(?:[a-z0-9-]{1,63}\.){1,4}localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?",
    re.IGNORECASE,
)
METHODS = b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"

# A page of ours runs nothing but our own files and talks to nobody else; nobody frames or sniffs it.
SECURITY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        b"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_EXPOSED = b"Location, Retry-After, Idempotent-Replayed"
_ACCEPTED = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-Api-Key"


def loopback_name(host: bytes | None) -> bool:
    """Whether a Host header names this machine as seen from itself.

    A page of a stranger can let its own name point to 127.0.0.1 (DNS rebinding), and then its requests
    count as its own; but they carry its name here.
    """
    return host is not None and _LOOPBACK.fullmatch(host) is not None


def loopback_address(address: str) -> bool:
    """Whether an address is of this machine; what is no address at all (a Unix socket) is, too."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    mapped = getattr(ip, "ipv4_mapped", None)
    return (ip if mapped is None else mapped).is_loopback


def same_origin(origin: bytes, host: bytes | None) -> bool:
    """Whether a page of `origin` was served by us, as far as a browser can tell us."""
    if host is None:
        return False
    scheme, _, name = origin.lower().partition(b"://")
    return scheme in (b"http", b"https") and name == host.lower()


def foreign(
    origin: bytes | None, site: bytes | None, mode: bytes | None, host: bytes | None, allowed: Sequence[bytes]
) -> bool:
    """Whether a page that is neither ours nor on the list sent this.

    Args:
        origin: header Origin.
        site: header Sec-Fetch-Site; tells also of requests without an Origin, like those for images.
        mode: header Sec-Fetch-Mode; a link that somebody follows is a "navigate".
        host: header Host.
        allowed: origins on the list.
    """
    if origin is not None:
        return not (same_origin(origin, host) or origin.lower() in allowed)
    return site == b"cross-site" and mode != b"navigate"


def cors(origin: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Headers that let a page of an allowed origin read a response."""
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    )


PREFLIGHT = (
    (b"access-control-allow-methods", METHODS),
    (b"access-control-allow-headers", _ACCEPTED),
    (b"access-control-max-age", b"600"),
)
