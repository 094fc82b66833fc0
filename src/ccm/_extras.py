"""`Extras`: what only some turns need; made when first needed, so that the others pay nothing for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, final

import trio

from ._message import Message

if TYPE_CHECKING:
    from ._record import TurnRecord
    from ._streaming import ReplyStream


@final
class Extras:
    """The rarer side of a `TurnRecord`.

    Attributes:
        pieces: what `turn.send` has sent in the present attempt.
        stream: who reads along.
        speaking: held by the task whose piece the readers are being given.
        expires: when its own message expires; with members, the turn's `expires` is the earliest of all.
        answered_in: the turn that has answered this message together with others.
        answered: how many messages this turn has answered that have not been taken back since.
        members: messages that joined this turn; they wait for its outcome.
        host: the turn this message has joined or was handed to.
        steered: messages handed to this running turn.
        shields: open `uninterruptible` blocks; `pending` is the interruption they hold back.
        superseded_by: the newer message that takes its place.
        rollback: unless it is answered, this turn leaves no trace in the history.
        withdrawn: who does not want this turn's own message answered any more, while others still do.
        redelivered: the storage had it from before; a handler may have seen it already.
        counted: the storage knows that this process handles it again.
        digest: of what its message said before it was edited; "" has not been.
        judged: the attempt whose time-out a provider's own limit has taken note of.
    """

    __slots__ = (
        "_speaking", "answered", "answered_in", "counted", "digest", "expires", "host", "judged", "members",
        "pending", "pieces", "redelivered", "rollback", "shields", "steered", "stream", "superseded_by",
        "withdrawn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.stream: ReplyStream | None = None
        self.members: list[TurnRecord] = []
        self.host: TurnRecord | None = None
        self.steered: Steered | None = None
        self.shields = 0
        self.pending: str | None = None
        self.superseded_by = ""
        self.rollback = False
        self.withdrawn: str | None = None
        self.expires = 0.0
        self.answered = 0
        self.answered_in: TurnRecord | None = None
        self.judged = 0
        self.redelivered = False
        self.counted = False
        self.digest = ""
        self._speaking: trio.StrictFIFOLock | None = None

    @property
    def speaking(self) -> trio.StrictFIFOLock:
        """The lock of whoever speaks, made if need be."""
        if self._speaking is None:
            self._speaking = trio.StrictFIFOLock()
        return self._speaking

    def readers(self) -> list[ReplyStream]:
        """Who reads along: for its own message and for those that joined it. O(members)."""
        own = [] if self.stream is None else [self.stream]
        joined = [member.extras.stream for member in self.members if member.extras is not None]
        return own + [stream for stream in joined if stream is not None]

    def void(self) -> None:
        """The attempt is over and not the last one: what was said in it does not count. O(members)."""
        self.pieces.clear()
        self.shields = 0
        self.pending = None
        for reader in self.readers():
            reader.void()


@final
class Steered:
    """The messages that arrive for a turn while it runs: a receive channel; see `Turn.steered`."""

    __slots__ = ("_host", "_receive", "_send", "_unread")

    def __init__(self, host: TurnRecord) -> None:
        self._host = host
        # Unbounded here: the bound on messages of a conversation is kept at the door. The channel only says
        # that there is one more; which one is in `_unread`, so that it can be given up meanwhile.
        self._send, self._receive = trio.open_memory_channel[None](float("inf"))
        self._unread: list[TurnRecord] = []

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()

    async def receive(self) -> Message:
        """The next message; waits for one. When cancelled, none is lost."""
        while True:
            await self._receive.receive()
            if self._unread:
                return self._read()

    def receive_nowait(self) -> Message:
        """The next message.

        Raises:
            trio.WouldBlock: there is none.
        """
        while True:
            self._receive.receive_nowait()
            if self._unread:
                return self._read()

    def put(self, record: TurnRecord) -> None:
        """Hand over a message. O(1)."""
        self._unread.append(record)
        self._send.send_nowait(None)

    def give_up(self, record: TurnRecord) -> None:
        """The message is not wanted any more. O(unread)."""
        self._unread.remove(record)

    def unread_now(self) -> tuple[TurnRecord, ...]:
        """What nobody has read, in order. O(unread)."""
        return tuple(self._unread)

    def unread(self) -> list[TurnRecord]:
        """Take out what nobody has read, in order. O(1)."""
        left, self._unread = self._unread, []
        return left

    def _read(self) -> Message:
        record = self._unread.pop(0)
        self._host.more.members.append(record)
        return record.message
