"""`Manager`: a `ccm.ConversationManager` to be used from asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, final

import trio

from .._changes import Change, Stopped
from .._errors import Outcome
from .._manager import ConversationManager
from .._message import Message, Reply
from .._receipt import Receipt as TrioReceipt
from .._sessions import Session
from .._statistics import Statistics
from .._streaming import Restarted
from ._bridge import Bridge

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class Receipt:
    """`ccm.Receipt` to be used from asyncio.

    Attributes:
        turn_id: the turn that decides the message's outcome.
    """

    def __init__(self, receipt: TrioReceipt, bridge: Bridge) -> None:
        self._receipt = receipt
        self._bridge = bridge
        self.turn_id = receipt.turn_id

    @property
    def position(self) -> int:
        """Turns that are ahead of it (see `ccm.Receipt.position`)."""
        return self._receipt.position

    @property
    def estimated_wait(self) -> float:
        """Seconds until it starts, estimated from recent turns."""
        return self._receipt.estimated_wait

    async def outcome(self) -> Outcome:
        """Wait for the message's outcome; errors are returned. When cancelled, the turn goes on."""
        return await self._bridge.to_trio(self._receipt.outcome)

    def __repr__(self) -> str:
        return f"<asyncio {self._receipt!r}>"


@final
class Manager:
    """A `ccm.ConversationManager` whose methods are awaited in asyncio. Made by `ccm.aio.open_manager`.

    Each method does what its namesake does, raises the same errors, and when its task is cancelled does what
    that does when cancelled, before `asyncio.CancelledError` goes on.

    Attributes:
        trio: the manager itself. Its plain methods (`statistics`, `sessions`, `submit_nowait`, ...) may be
            called directly; for its async ones there is `run`.
    """

    def __init__(self, manager: ConversationManager, bridge: Bridge) -> None:
        self.trio = manager
        self._bridge = bridge

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run any Trio function: `await manager.run(manager.trio.conversations.get, "channel-1")`."""
        return await self._bridge.to_trio(function, *args)

    async def ask(self, message: Message) -> Reply:
        """Hand in a message and wait for the answer. When cancelled, the turn is cancelled too."""
        self._bridge.check()
        # Taken in here and now: the tasks that wait for answers begin in an order of Trio's own.
        found = self.trio._begin(message, asked=True)
        return await self._bridge.to_trio(self.trio._answer, found)

    async def submit(self, message: Message) -> Receipt:
        """Hand in a message; returns as soon as it is accepted.

        When cancelled while it is being written, it may have been accepted: send it again with the same id.
        """
        self._bridge.check()
        found = self.trio._begin(message, asked=False)
        return Receipt(await self._bridge.to_trio(self.trio._taken, found), self._bridge)

    def submit_nowait(self, message: Message) -> Receipt:
        """`submit`, but never waits; raises `trio.WouldBlock` where it would have to."""
        return Receipt(self.trio.submit_nowait(message), self._bridge)

    @asynccontextmanager
    async def stream(self, message: Message) -> AsyncIterator[AsyncIterator[str | Restarted]]:
        """Hand in a message and read the reply as it is written; leaving early cancels the turn."""
        self._bridge.check()
        block = self.trio._chunks(self.trio._begin(message, asked=True))
        chunks = await self._bridge.to_trio(block.__aenter__)
        try:
            yield self._each(chunks.__anext__)
        finally:
            await self._bridge.to_trio(block.__aexit__, None, None, None)

    async def _each(self, following: Callable[[], Awaitable[T]], *ends: type[Exception]) -> AsyncIterator[T]:
        """What a Trio iterator gives, until it ends or raises one of `ends`."""
        over: tuple[type[Exception], ...] = (StopAsyncIteration, *ends)
        while True:
            try:
                yield await self._bridge.to_trio(following)
            except over:
                return

    async def edit(
        self, message_id: str, text: str, *, tenant: str = "", whole: Message | None = None
    ) -> Change:
        """Give a message a new text (see `ccm.ConversationManager.edit`)."""

        async def edit() -> Change:
            return await self.trio.edit(message_id, text, tenant=tenant, whole=whole)

        return await self._bridge.to_trio(edit)

    async def retract(self, message_id: str, *, tenant: str = "", conversation: str = "") -> Change:
        """Take a message back (see `ccm.ConversationManager.retract`)."""

        async def retract() -> Change:
            return await self.trio.retract(message_id, tenant=tenant, conversation=conversation)

        return await self._bridge.to_trio(retract)

    async def stop(self, conversation: str) -> Stopped:
        """End all turns of a conversation (see `ccm.ConversationManager.stop`)."""
        return await self._bridge.to_trio(self.trio.stop, conversation)

    @asynccontextmanager
    async def events(self, buffer: int = 1000) -> AsyncIterator[AsyncIterator[Any]]:
        """What happens from now on: `async with manager.events() as stream: async for event in stream`."""
        block = self.trio.events(buffer)
        stream = await self._bridge.to_trio(block.__aenter__)
        try:
            yield self._each(stream.__anext__, trio.ClosedResourceError)
        finally:
            await self._bridge.to_trio(block.__aexit__, None, None, None)

    def session(self, conversation: str) -> Session | None:
        """The live side of a conversation, or None when it is not live."""
        return self.trio.session(conversation)

    def sessions(self) -> list[Session]:
        """All live conversations, oldest first."""
        return self.trio.sessions()

    def statistics(self) -> Statistics:
        """One consistent picture (see `ccm.ConversationManager.statistics`)."""
        return self.trio.statistics()

    async def drain(self) -> None:
        """Take no more messages and wait until those accepted have their outcomes."""
        await self._bridge.to_trio(self.trio.drain)

    async def wait_idle(self) -> None:
        """Wait until nothing waits or runs; for tests and scripts."""
        await self._bridge.to_trio(self.trio.wait_idle)
