"""`open_manager`: puts a manager together, owns its tasks, and takes it down again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from ._alerts import OnAlert, Watch
from ._books import Books
from ._bus import Bus
from ._config import Config
from ._core.alerts import AlertRules
from ._core.routes import Handler, Route, Router, check_handler
from ._core.scheduler import Scheduler
from ._core.sessions import SessionTable
from ._core.tenants import Tenants
from ._dispatcher import Dispatcher
from ._errors import HandlerFailed
from ._intake import Intake
from ._manager import ConversationManager
from ._message import Priority
from ._services import Services
from ._tools import Tools
from ._worker import Deliver

if TYPE_CHECKING:
    from ._conversations import Stages
    from .storage import Storage

_UNBOUNDED = 10_000_000


def _scheduler(config: Config) -> Scheduler:
    if not config.enabled:
        return Scheduler(limit=_UNBOUNDED, queue_limit=_UNBOUNDED, conversation_limit=_UNBOUNDED)
    tenants = Tenants(config)
    return Scheduler(
        limit=config.limit, headroom=[config.headroom_of(p) for p in Priority],
        queue_limit=config.queue_limit, conversation_limit=config.conversation_limit,
        ageing=config.ageing, by_seconds=config.charge == "seconds",
        weight_of=tenants.weight, limit_of=tenants.slots if tenants.slot_limits else None,
        count_tenants=tenants.queue_shares,
    )  # fmt: skip


def _routes(handler: Handler | Router, config: Config, fallback: Handler | None) -> tuple[Route, ...]:
    if isinstance(handler, Router):
        router = handler
        if fallback is not None:
            raise TypeError(f"fallback belongs to a route when there is a Router, got {fallback!r}")
    else:
        check_handler("handler", handler)
        router = Router()
        router.route("chat", fallback=fallback)(handler)
    routes = router.routes(config)
    if not routes:
        raise ValueError(f"the router has no route, got {router!r}; add one with @router.route(name)")
    if not config.enabled:
        once = attrs.evolve(config.retry, attempts=1)
        routes = tuple(attrs.evolve(r, ordered=False, retry=once, max_wait=None) for r in routes)
    return routes


def _assemble(
    routes: tuple[Route, ...], config: Config, deliver: Deliver | None, nursery: trio.Nursery,
    exits: AsyncExitStack, storage: Storage | None, stages: Stages | None,
) -> ConversationManager:  # fmt: skip
    sessions = SessionTable(
        max_sessions=config.max_sessions if config.enabled else _UNBOUNDED, timeout=config.session_timeout
    )
    books = Books(routes)
    books.tools = tools = Tools(config, nursery)
    exits.push_async_callback(tools.aclose)
    for book in books.routes.values():
        book.tools = tools
    tools.services = Services(books, nursery, debug=config.debug)
    tools.bus = bus = Bus()
    exits.callback(bus.close)  # when the last turn has ended, however late: its end is an event too
    direct = deliver if storage is None else None  # with a storage, the outbox delivers
    dispatcher = Dispatcher(config, _scheduler(config), sessions, books, bus, nursery, direct)
    tools.interrupt, tools.remind = dispatcher.interrupt_now, dispatcher.expect
    tools.load = dispatcher.load
    intake = Intake(routes, config, dispatcher)
    if storage is not None:
        from ._durable import Durable  # with all that belongs to it, which takes a while to import

        tools.durable = durable = Durable(storage, intake, deliver, nursery, stages)
        intake.use(tuple(durable.handling(route) for route in routes))
    return ConversationManager._create(config, dispatcher, intake)


def _storage(storage: object) -> Storage | None:
    """What `open_manager` was given, as a storage that is not open yet."""
    if storage is None:
        return None
    from .storage import SqliteStorage, Storage  # as above

    if isinstance(storage, Storage):
        return storage
    if isinstance(storage, (str, os.PathLike)):
        return SqliteStorage(storage)
    raise TypeError(f"storage must be a path, a ccm.storage.Storage or None (memory), got {storage!r}")


async def _open_storage(storage: Storage, exits: AsyncExitStack) -> None:
    if storage.blocking:
        await trio.to_thread.run_sync(storage.open)
    else:
        storage.open()
        await trio.lowlevel.checkpoint()
    exits.callback(storage.close)


def _check_alerts(alerts: object, on_alert: object) -> None:
    if alerts is not None and not isinstance(alerts, AlertRules):
        raise TypeError(f"alerts must be ccm.AlertRules or None, got {alerts!r}")
    if on_alert is not None:
        check_handler("on_alert", on_alert)
        if alerts is None:
            raise ValueError(f"on_alert needs rules, got {on_alert!r} alone; pass alerts=AlertRules() too")


@asynccontextmanager
async def open_manager(
    handler_or_router: Handler | Router, *, config: Config | None = None,
    storage: Storage | str | os.PathLike[str] | None = None,
    deliver: Deliver | None = None, fallback: Handler | None = None, alerts: AlertRules | None = None,
    on_alert: OnAlert | None = None, stages: Stages | None = None,
) -> AsyncIterator[ConversationManager]:  # fmt: skip
    """Open a manager: `async with ccm.open_manager(handler) as manager: ...`.

    Leaving the block stops the intake, lets accepted messages be answered within `config.drain` seconds
    and cancels what is left; so does a surrounding cancellation.

    Args:
        handler_or_router: an async function that takes a `Turn` and returns the reply's text (or None), or a
            `Router` with several of them.
        config: settings; None is `Config()`.
        storage: None keeps everything in memory. A path is a SQLite file, made if there is none; or a
            `ccm.storage.Storage`. With one, a message is accepted when it is durable, and what is accepted is
            answered, also after the process was killed: at least once, in order. Replies nobody waits for
            go through an outbox, and conversations are kept.
        deliver: async function called as `deliver(reply, message)` for replies nobody waits for. It is
            tried again under the route's retry policy (with a storage: `Config.delivery_retry`), in the
            order of the conversation.
        fallback: async handler that answers for turns that were shed, expired or failed for good.
        alerts: when somebody should look; `AlertRules()` is a start, None looks at nothing. Alerts are
            events, and `manager.alerts` has the active ones.
        stages: with a storage, which stages of a conversation may follow which, as `{"": ["lead"], "lead":
            ["customer", "lost"]}`; "" is that of a new one. None allows every move.
        on_alert: async function called as `on_alert(event)` with each `events.AlertRaised` and
            `events.AlertCleared`, one after the other; needs `alerts`. What it raises is logged and counted;
            it has 5 seconds, and nothing is looked at meanwhile.

    Raises:
        TypeError, ValueError: an argument is not what it must be; the text names it.
        StorageError: the storage cannot be used.

    A handler that raises a `BaseException` other than `trio.Cancelled` ends the manager: the block is
    cancelled and the error comes out of it.
    """
    config = Config() if config is None else config
    if not isinstance(config, Config):
        raise TypeError(f"config must be a ccm.Config, got {config!r}")
    kept = _storage(storage)
    if deliver is not None:
        check_handler("deliver", deliver)
    _check_alerts(alerts, on_alert)
    routes = _routes(handler_or_router, config, fallback)
    only: BaseException
    try:
        async with AsyncExitStack() as exits, trio.open_nursery() as nursery:
            if kept is not None:
                await _open_storage(kept, exits)
            manager = _assemble(routes, config, deliver, nursery, exits, kept, stages)
            if alerts is not None:
                tools = manager._dispatcher.books.tools
                tools.watch = Watch(alerts, manager._dispatcher, on_alert)
                nursery.start_soon(tools.watch.run, name="ccm alerts")
            try:
                if (durable := manager._dispatcher.books.tools.durable) is not None:
                    await durable.open()
                yield manager
            finally:
                await manager._shut_down(at_once=nursery.cancel_scope.cancel_called)  # noqa: ASYNC102
    except BaseExceptionGroup as group:
        # The nursery wraps even a single error; whoever uses the block should see their own. Who asked in
        # the block and was told of the error that ended the manager has nothing to add to it.
        all_ = group.exceptions
        errors = [e for e in all_ if not isinstance(e, HandlerFailed) or e.__cause__ not in all_]
        if len(errors) > 1:
            raise
        only = errors[0]
    else:
        return
    raise only
