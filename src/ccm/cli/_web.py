"""What commands share that talk to a running server: the client, its key, and errors in plain words."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from ._console import UsageError

if TYPE_CHECKING:
    import httpx2

DEFAULT_URL = "http://127.0.0.1:8000"


@attrs.frozen
class Target:
    """Which server, and the key for it."""

    url: str
    key: str | None = attrs.field(default=None, repr=False)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the server's URL and the key."""
    parser.add_argument(
        "url", metavar="URL", nargs="?", default=DEFAULT_URL, help=f"of the server (default {DEFAULT_URL})"
    )
    parser.add_argument("--key", metavar="KEY", help="API key; other users of this machine may see it in ps")
    parser.add_argument("--key-file", metavar="FILE", help="file whose first line is the API key")


def target_of(arguments: argparse.Namespace) -> Target:
    """The server that the arguments name.

    Raises:
        UsageError: they name none, or the key cannot be read.
    """
    url = arguments.url if "://" in arguments.url else f"http://{arguments.url}"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"URL must be like {DEFAULT_URL}, got {arguments.url!r}")
    key: str | None = arguments.key
    if arguments.key_file is not None:
        if key is not None:
            raise UsageError("give --key or --key-file, not both")
        try:
            key = Path(arguments.key_file).read_text(encoding="utf-8").split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read --key-file {arguments.key_file!r}: {error}") from None
    return Target(url.rstrip("/"), key)


@asynccontextmanager
async def open_client(target: Target, connections: int = 10) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of that server.

    Raises:
        UsageError: the package for it is missing.
    """
    try:
        import httpx2
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this command needs the package {error.name!r}, which is not installed; "
            "run: pip install 'ccm[cli,model]'"
        ) from None
    headers = {} if target.key is None else {"Authorization": f"Bearer {target.key}"}
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    local = urlsplit(target.url).hostname in ("localhost", "127.0.0.1", "::1")
    async with httpx2.AsyncClient(
        base_url=target.url, headers=headers, limits=limits, timeout=httpx2.Timeout(10), trust_env=not local
    ) as client:
        yield client


async def fetch(client: httpx2.AsyncClient, path: str, **query: Any) -> Any:
    """The JSON at `path`.

    Raises:
        UsageError: the server cannot be reached, refuses, or is none of ours.
    """
    import httpx2

    try:
        response = await client.get(path, params=query)
    except httpx2.HTTPError as error:
        raise UsageError(
            f"cannot reach {client.base_url}: {type(error).__name__}; is 'ccm serve' running there?"
        ) from None
    if response.status_code in (401, 403):
        raise UsageError(
            f"{client.base_url} answered {response.status_code}: it wants a key with the scope 'read'; "
            "pass it with --key-file (ccm keys new makes one)"
        )
    try:
        if response.status_code == 200:
            return response.json()
    except json.JSONDecodeError:
        pass
    raise UsageError(f"{client.base_url} answered {response.status_code} to {path}; is that a ccm server?")
