"""`create_app`: the guard, and behind it a FastAPI application with one router per module."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI

from .._manager import ConversationManager
from . import _problems
from ._exchange import Exchanges
from ._front import Front
from ._guard import Guard
from ._settings import Settings

_ROUTERS = (
    "_chat", "_turns", "_history", "_socket", "_live", "_figures", "_probes", "_metrics", "_docs", "_page",
)  # fmt: skip


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
    for name in _ROUTERS:
        if find_spec(f"{__package__}.{name}") is not None:
            inner.include_router(import_module(f".{name}", __package__).router(front))
    return Guard(inner, front)
