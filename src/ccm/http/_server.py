"""`serve`, a server to be started in a nursery, and `run`, a whole process around it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from .._checks import refuse
from .._manager import ConversationManager
from ._app import create_app
from ._guard import Guard
from ._origins import loopback_address
from ._reload import follow_keys
from ._settings import Settings
from ._signals import Signals
from ._wire import Connections

_GRACE = 0.3  # seconds for responses that are nearly done, after the farewell


async def serve(
    manager: ConversationManager, settings: Settings | None = None, *, app: Guard | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:  # fmt: skip
    """Serve `manager` over HTTP until cancelled: `url = await nursery.start(serve, manager, settings)`.

    Open the manager around the nursery, so that it outlives the server. When cancelled, streams get
    their farewell, responses have 0.3 s, and whatever is left then is cut: also a client that
    never reads does not hold it up. Keys of `Keys.load(path)` are read again within two seconds when the file
    has changed. For a shutdown that lets running turns finish, call
    `app.front.begin_draining()` and `await manager.drain(within=seconds)` before you cancel it; `run` does.

    Args:
        manager: an open manager.
        settings: None is `Settings()`.
        app: what `create_app(manager, settings)` returned; None makes one.

    Raises:
        ConfigError: without keys, and `host` is not an address of this machine alone.
        OSError: the port cannot be listened on.
    """
    settings = Settings() if settings is None else settings
    app = create_app(manager, settings) if app is None else app
    listeners = await _listen(settings)
    connections = Connections(
        app, limit=settings.max_connections, max_header_bytes=settings.max_header_bytes,
        max_message=settings.max_body, header_timeout=settings.header_timeout,
        write_timeout=settings.write_timeout,
    )  # fmt: skip
    # Not cancelled from outside, but ended in order; the deadline comes with the cancellation.
    shield = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        listening = trio.CancelScope()
        nursery.start_soon(_accept, connections, listeners, shield, listening, name="ccm http server")
        nursery.start_soon(follow_keys, app.front, name="ccm http keys")
        task_status.started(_url(settings, listeners))
        try:
            await trio.sleep_forever()
        finally:
            shield.deadline = trio.current_time() + settings.farewell + 2 * _GRACE
            with trio.CancelScope(shield=True, deadline=shield.deadline):
                await _say_farewell(app, settings, connections, listening)
            shield.cancel()


async def _accept(
    connections: Connections, listeners: list[trio.SocketListener], shield: trio.CancelScope,
    listening: trio.CancelScope,
) -> None:  # fmt: skip
    """Connections live in a nursery of their own: they outlive the listeners."""
    with shield:
        async with trio.open_nursery() as nursery:
            with listening:
                await trio.serve_listeners(connections.serve, listeners, handler_nursery=nursery)


async def _say_farewell(
    app: Guard, settings: Settings, connections: Connections, listening: trio.CancelScope
) -> None:
    app.front.begin_farewell()
    with trio.move_on_after(settings.farewell):
        await app.streams_ended()
    listening.cancel()
    await connections.finish()
    with trio.move_on_after(_GRACE):
        await connections.ended()
    connections.abort()


async def _listen(settings: Settings) -> list[trio.SocketListener]:
    """Sockets on all addresses of the host; without keys, only if they are this machine's alone."""
    listeners = await trio.open_tcp_listeners(settings.port, host=settings.host, backlog=1024)
    if settings.port == 0:  # each address has got another port; a URL has one
        for listener in listeners[1:]:
            await listener.aclose()
        del listeners[1:]
    for listener in listeners:
        address = listener.socket.getsockname()[0]
        if settings.keys is None and not loopback_address(address):
            for other in listeners:
                await other.aclose()
            raise refuse(
                "host", settings.host, "a loopback address, like 127.0.0.1, as long as there are no keys; "
                "make one with 'ccm keys new' and give Settings(keys=Keys.load(path))",
            )  # fmt: skip
    return listeners


def _url(settings: Settings, listeners: list[trio.SocketListener]) -> str:
    port = listeners[0].socket.getsockname()[1]
    return f"http://[{settings.host}]:{port}" if ":" in settings.host else f"http://{settings.host}:{port}"


async def run(
    opening: AbstractAsyncContextManager[ConversationManager], settings: Settings | None = None, *,
    prepare: Callable[[Guard], Any] | None = None, started: Callable[[str], Any] | None = None,
    ends_process: bool = True,
) -> None:  # fmt: skip
    """Open a manager, serve it, and shut down in order at SIGTERM or SIGINT. The last thing a program does.

        trio.run(ccm.http.run, ccm.open_manager(handler, storage="bot.db"), settings)

    At the first signal `/readyz` says 503 and new messages are refused; what was accepted has
    `config.drain` seconds; streams say farewell; the server stops; the storage is closed; `run` returns.
    A second signal ends the process at once with code 128 + signal. If the process still lives one second
    after the deadline, because a handler or a thread hangs, a watchdog ends it with code 70, and writes to
    standard error where each thread was. Needs the main thread.

    Args:
        opening: what `ccm.open_manager(...)` returns, not entered yet.
        settings: None is `Settings()`.
        prepare: called with the application before it serves; `app.inner` is FastAPI's, for routes of yours.
        started: called with the URL when the server listens.
        ends_process: whether the watchdog goes on after `run` has returned, for threads that keep the
            process alive, and what is there at the start is kept from the garbage collector (`gc.freeze`).
            Say False if the process does something else afterwards.

    Raises:
        OSError, StorageError, ConfigError: it could not start.
    """
    settings = Settings() if settings is None else settings
    with Signals(stays=ends_process) as signals, signals.starting:
        async with opening as manager:
            signals.drain = manager.config.drain
            app = create_app(manager, settings)
            if prepare is not None:
                prepare(app)
            async with trio.open_nursery() as nursery:
                url = await nursery.start(partial(serve, manager, settings, app=app))
                if ends_process:
                    # What was imported and built stays: it need not be looked at with every collection.
                    gc.collect()
                    gc.freeze()
                if started is not None:
                    started(url)
                await signals.wait()
                app.front.begin_draining()
                await manager.drain(within=manager.config.drain)
                nursery.cancel_scope.cancel()
