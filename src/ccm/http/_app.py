"""`create_app`: the guard, and behind it a FastAPI application with one router per module."""

from __future__ import annotations

from fastapi import FastAPI

from .._manager import ConversationManager
from . import (
    _chat,
    _docs,
    _figures,
    _history,
    _live,
    _metrics,
    _openapi,
    _page,
    _probes,
    _problems,
    _socket,
    _turns,
)
from ._exchange import Exchanges
from ._front import Front
from ._guard import Guard
from ._settings import Settings

_PARTS = (_chat, _turns, _history, _socket, _live, _figures, _probes, _metrics, _docs, _page)


def create_app(manager: ConversationManager, settings: Settings | None = None) -> Guard:
    """An ASGI application that lets people talk to `manager`, for a server that runs on Trio.

    The application does not own the manager: open it around the server. Everything a server hands in
    goes through the guard first: limits, keys, origins. `app.front` is what the endpoints share;
    `app.inner` is the FastAPI application.

    Args:
        manager: an open manager.
        settings: None is `Settings()`. `host` and `port` are only for `serve`.
    """
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise TypeError(f"settings must be ccm.http.Settings, got {settings!r}")
    front = Front(manager, settings)
    front.exchanges = Exchanges(front)
    inner = FastAPI(
        title=settings.title, version="1", openapi_url="/openapi.json", docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    _problems.install(inner)
    for part in _PARTS:
        inner.include_router(part.router(front))
    _openapi.install(inner)
    return Guard(inner, front)
