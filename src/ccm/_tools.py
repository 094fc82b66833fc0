"""`Tools`: what handlers reach through their turn beside the message; made once per manager."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, final

from ._context import Contexts
from ._limits import Limits
from ._pools import Pools

if TYPE_CHECKING:
    import trio

    from ._alerts import Watch
    from ._bus import Bus
    from ._config import Config
    from ._durable import Durable
    from ._overload import LoadWatch
    from ._services import Services


class Tracer(Protocol):
    """Who is told what a turn does, for traces; made by `ccm.telemetry`, and None without it."""

    async def attempt(self, handler: Callable[[Any], Any], turn: Any) -> Any:
        """Run one attempt: `await handler(turn)` in a span of its own."""

    def span(self, kind: str, name: str) -> AbstractContextManager[Any]:
        """A span around a part of the attempt that the current task is in."""

    def outgoing(self) -> dict[str, str]:
        """Headers for a request to another system."""


def traced(tracer: Tracer, kind: str, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """The async function `fn` with a span around each call."""

    async def spanned(*args: Any) -> Any:
        with tracer.span(kind, name):
            return await fn(*args)

    return spanned


@final
class Tools:
    """One manager's helpers for handlers; each part makes what it needs when it is first used.

    Attributes:
        config: the manager's settings.
        bus: where events are told.
        durable: what keeps messages; None: they are in memory only.
        interrupt: `Dispatcher.interrupt_now`, for a turn that has held back an interruption.
        load: who gives up messages in an overload; None when nobody does.
        remind: `Dispatcher.expect`, for a turn whose deadline has changed.
        services: the manager's services; empty until one is made.
        tracer: who traces; None when nobody does.
        watch: who raises alerts; None without rules.
        nursery: owns background tasks of the parts; it is cancelled last, after the workers have ended.
    """

    __slots__ = (
        "_contexts", "_limits", "_pools", "bus", "config", "durable", "interrupt", "load", "nursery",
        "remind",
        "services", "tracer", "watch",
    )  # fmt: skip

    def __init__(self, config: Config, nursery: trio.Nursery) -> None:
        self.config = config
        self.nursery = nursery
        self.bus: Bus
        self.interrupt: Callable[[Any, str], None]
        self.durable: Durable | None = None
        self.load: LoadWatch | None = None
        self.remind: Callable[[float], None]
        self.services: Services
        self.tracer: Tracer | None = None
        self.watch: Watch | None = None
        self._contexts: Contexts | None = None
        self._limits: Limits | None = None
        self._pools: Pools | None = None

    @property
    def contexts(self) -> Contexts:
        """The cache behind `Turn.context`."""
        if self._contexts is None:
            self._contexts = Contexts(self.config)
        return self._contexts

    @property
    def limits(self) -> Limits:
        """The permits behind `Turn.limit`."""
        if self._limits is None:
            self._limits = Limits(self.config, self.bus)
        return self._limits

    @property
    def pools(self) -> Pools:
        """The threads and processes behind `Turn.in_thread` and `Turn.in_process`."""
        if self._pools is None:
            self._pools = Pools(self.config, self.nursery)
        return self._pools

    async def aclose(self) -> None:  # noqa: ASYNC910 - only when there is something to end
        """End what outlives a turn; called when all handlers have ended."""
        if self._pools is not None:
            await self._pools.aclose()
