"""The server."""

from __future__ import annotations

import socket
from typing import Any

import anycorn
import trio

from .._manager import ConversationManager
from ._app import create_app
from ._guard import Guard
from ._settings import Settings


async def serve(
    manager: ConversationManager, settings: Settings | None = None, *, app: Guard | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    """Serve until cancelled; reports the URL by `task_status`."""
    settings = Settings() if settings is None else settings
    app = create_app(manager, settings) if app is None else app
    sock = socket.create_server((settings.host, settings.port))
    url = f"http://{settings.host}:{sock.getsockname()[1]}"
    config = anycorn.Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        await nursery.start(anycorn.serve, app, config)
        task_status.started(url)


async def run(opening: Any, settings: Settings | None = None) -> None:
    """`serve` with signals and a deadline."""
    async with opening as manager:
        await serve(manager, settings)
