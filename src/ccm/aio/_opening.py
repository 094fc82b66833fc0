"""`open_manager` for asyncio programs: a Trio run as the guest of the running loop."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import outcome
import trio

from .._config import Config
from .._core.routes import Handler, Router
from .._manager import ConversationManager
from .._message import Message, Reply
from .._opening import open_manager as open_trio_manager
from .._turn import Turn as TrioTurn
from ..storage import Storage
from ._bridge import Bridge
from ._manager import Manager
from ._turn import Turn

AsyncioHandler: TypeAlias = Callable[[Turn], Coroutine[Any, Any, str | Reply | None]]
Deliver: TypeAlias = Callable[[Reply, Message], Coroutine[Any, Any, None]]


def handler(function: AsyncioHandler) -> Handler:
    """Make a handler for a `ccm.Router` of an asyncio function that takes a `ccm.aio.Turn`.

    Use it as a decorator below `@router.route(...)`. It works in a manager that `ccm.aio.open_manager` has
    opened.

    Raises:
        TypeError: it is no async function.
    """
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - whether it is async, not whether it is there
    ):
        raise TypeError(f"a handler must be an async function, got {function!r}; write 'async def'")

    async def handle(turn: TrioTurn) -> Any:
        bridge = _running.get(trio.lowlevel.current_trio_token())
        if bridge is None:
            raise RuntimeError(
                f"{function!r} is an asyncio handler; open the manager with ccm.aio.open_manager"
            )
        return await bridge.to_asyncio(function, Turn(turn, bridge))

    return handle


# The bridges of guest runs that are under way, by their tokens; a loop has one guest at a time.
_running: dict[trio.lowlevel.TrioToken, Bridge] = {}


@asynccontextmanager
async def open_manager(
    handler_or_router: AsyncioHandler | Router, *, config: Config | None = None,
    storage: Storage | str | os.PathLike[str] | None = None, deliver: Deliver | None = None,
    fallback: AsyncioHandler | None = None, **more: Any,
) -> AsyncIterator[Manager]:  # fmt: skip
    """Open a manager in an asyncio program: `async with ccm.aio.open_manager(handler) as manager: ...`.

    The manager runs in Trio, as a guest of the running loop (asyncio's own or uvloop), in the same thread: no
    locks, no second loop to be started. Handlers, `deliver` and `fallback` are asyncio functions. Leaving the
    block drains as `ccm.open_manager` does, also when the task is cancelled meanwhile; the task then goes on
    being cancelled. All laws of the manager hold.

    Args:
        handler_or_router: an asyncio function that takes a `ccm.aio.Turn`; or a `ccm.Router`, whose asyncio
            handlers are wrapped by `ccm.aio.handler`, and whose others are Trio's.
        config, storage, deliver, fallback, more: as for `ccm.open_manager`.

    Raises:
        RuntimeError: the loop has another such manager already; share it.
        TypeError, ValueError, StorageError: as `ccm.open_manager` does.

    An error that ends the manager while the block is in use cancels the task in it, and is raised at its end.
    """
    bridge = Bridge(asyncio.get_running_loop())
    theirs: Any = handler_or_router if isinstance(handler_or_router, Router) else handler(handler_or_router)
    if deliver is not None:
        more["deliver"] = _delivering(bridge, deliver)
    if fallback is not None:
        more["fallback"] = handler(fallback)
    guest = _Guest(bridge, lambda: open_trio_manager(theirs, config=config, storage=storage, **more))
    manager = await guest.start()
    task = asyncio.current_task()
    assert task is not None
    guest.interrupt = task.cancel
    try:
        yield Manager(manager, bridge)
    finally:
        guest.interrupt = None
        await guest.end(task)


def _delivering(bridge: Bridge, deliver: Deliver) -> Callable[[Reply, Message], Awaitable[None]]:
    async def delivering(reply: Reply, message: Message) -> None:
        await bridge.to_asyncio(deliver, reply, message)

    return delivering


class _Guest:
    """The Trio run.

    Attributes:
        interrupt: called once if the run ends by itself, which it does only by an error.
    """

    def __init__(self, bridge: Bridge, opening: Callable[[], Any]) -> None:
        self._bridge = bridge
        self._opening = opening
        self._stop = trio.Event()
        self._ready: asyncio.Future[ConversationManager] = bridge.loop.create_future()
        self._done: asyncio.Future[outcome.Outcome[None]] = bridge.loop.create_future()
        self._interrupted = False
        self.interrupt: Callable[[], object] | None = None

    async def start(self) -> ConversationManager:
        """Start the run and open the manager; when cancelled meanwhile, end it again."""
        loop = self._bridge.loop
        trio.lowlevel.start_guest_run(
            self._program, run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon, done_callback=self._finished,
            host_uses_signal_set_wakeup_fd=True, restrict_keyboard_interrupt_to_checkpoints=True,
        )  # fmt: skip
        try:
            return await asyncio.shield(self._ready)
        except BaseException:
            await self.end(None)
            raise

    async def _program(self) -> None:
        token = trio.lowlevel.current_trio_token()
        _running[token] = self._bridge
        try:
            async with self._opening() as manager, trio.open_nursery() as nursery:
                self._bridge.nursery = nursery
                self._ready.set_result(manager)
                await self._stop.wait()
                self._bridge.nursery = None
        finally:
            self._bridge.nursery = None
            del _running[token]

    def _finished(self, result: outcome.Outcome[None]) -> None:
        if not self._done.done():
            self._done.set_result(result)
        if not self._ready.done():
            self._ready.cancel()
        if self.interrupt is not None:
            self._interrupted = True
            self.interrupt()

    async def end(self, task: asyncio.Task[Any] | None) -> None:
        """End the run, and wait until it has ended, however often the task is cancelled meanwhile.

        Raises what ended the manager, if anything did.
        """
        self._stop.set()
        cancelled: asyncio.CancelledError | None = None
        while not self._done.done():
            try:
                await asyncio.shield(self._done)
            except asyncio.CancelledError as error:
                cancelled = error
        result = self._done.result()
        if isinstance(result, outcome.Error):
            if self._interrupted and task is not None:
                task.uncancel()
            result.unwrap()
        if cancelled is not None:
            raise cancelled
