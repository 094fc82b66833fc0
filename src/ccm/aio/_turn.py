"""`Turn` as an asyncio handler sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, final

from .._core.history import HistoryEntry
from .._gather import Gathered
from .._message import Message
from .._sessions import Session
from .._turn import Turn as TrioTurn
from ._bridge import Bridge

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class Turn:
    """What an asyncio handler gets: `ccm.Turn`, with methods to be awaited in asyncio.

    Loaders and analyzers that it is given are asyncio functions, too. When the turn is cancelled, so is the
    handler's task.

    Attributes:
        trio: the turn itself. Its plain attributes can be used; its async methods belong to Trio.
    """

    def __init__(self, turn: TrioTurn, bridge: Bridge) -> None:
        self.trio = turn
        self._bridge = bridge

    def __repr__(self) -> str:
        return f"<asyncio {self.trio!r}>"

    @property
    def id(self) -> int:
        """See `ccm.Turn.id`."""
        return self.trio.id

    @property
    def message(self) -> Message:
        """The message that it answers."""
        return self.trio.message

    @property
    def messages(self) -> tuple[Message, ...]:
        """See `ccm.Turn.messages`."""
        return self.trio.messages

    @property
    def text(self) -> str:
        """See `ccm.Turn.text`."""
        return self.trio.text

    @property
    def session(self) -> Session:
        """The live side of the conversation."""
        return self.trio.session

    @property
    def attempt(self) -> int:
        """1 for the first attempt, 2 for the one after that, ..."""
        return self.trio.attempt

    @property
    def route(self) -> str:
        """Name of the route that handles it."""
        return self.trio.route

    @property
    def degraded(self) -> str | None:
        """See `ccm.Turn.degraded`."""
        return self.trio.degraded

    @property
    def redelivered(self) -> bool:
        """See `ccm.Turn.redelivered`."""
        return self.trio.redelivered

    async def send(self, text: str) -> None:
        """Give the reader a piece of the reply; waits for the reader (see `ccm.Turn.send`)."""
        await self._bridge.to_trio(self.trio.send, text)

    async def history(self, limit: int = 20) -> tuple[HistoryEntry, ...]:
        """What was said in the conversation before (see `ccm.Turn.history`)."""
        return await self._bridge.to_trio(self.trio.history, limit)

    async def context(
        self, name: str, loader: Callable[[Turn], Coroutine[Any, Any, T]], *, ttl: float | None = None
    ) -> T:
        """What `loader(turn)` returned for this conversation and `name` lately (see `ccm.Turn.context`)."""

        async def ask() -> T:
            return await self.trio.context(name, self._theirs(loader), ttl=ttl)

        return await self._bridge.to_trio(ask)

    async def gather(
        self, /, within: float | None = None, **analyzers: Callable[[Turn], Coroutine[Any, Any, Any]]
    ) -> Gathered:
        """Run analyzers side by side, each failure on its own (see `ccm.Turn.gather`)."""
        theirs = {name: self._theirs(analyzer) for name, analyzer in analyzers.items()}

        async def ask() -> Gathered:
            return await self.trio.gather(within=within, **theirs)

        return await self._bridge.to_trio(ask)

    async def call(self, service: str, data: Any) -> Any:
        """Have a service do something and wait for its result (see `ccm.Turn.call`)."""
        return await self._bridge.to_trio(self.trio.call, service, data)

    async def in_process(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `fn(*args)` in a worker process (see `ccm.Turn.in_process`)."""
        return await self._bridge.to_trio(self.trio.in_process, fn, *args)

    async def in_thread(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call `fn(*args)` in a worker thread (see `ccm.Turn.in_thread`)."""
        return await self._bridge.to_trio(self.trio.in_thread, fn, *args)

    def invalidate(self, name: str) -> int:
        """Forget a cached context of this conversation (see `ccm.Turn.invalidate`)."""
        return self.trio.invalidate(name)

    @asynccontextmanager
    async def limit(self, key: str) -> AsyncIterator[None]:
        """Hold a permit of a provider: `async with turn.limit("openai"): ...` (see `ccm.Turn.limit`)."""
        permit = self.trio.limit(key)
        await self._bridge.to_trio(permit.__aenter__)
        try:
            yield
        except BaseException as error:
            # `Busy` out of the block means something to the limit.
            await self._bridge.to_trio(permit.__aexit__, type(error), error, error.__traceback__)
            raise
        await self._bridge.to_trio(permit.__aexit__, None, None, None)

    def _theirs(self, function: Callable[[Turn], Coroutine[Any, Any, T]]) -> Callable[[Any], Awaitable[T]]:
        async def call(turn: Any) -> T:
            return await self._bridge.to_asyncio(function, self)

        return call
