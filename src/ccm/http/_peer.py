"""What is known of one client of the WebSocket, across the sockets it comes with."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import trio

from ._backlog import Backlog, Numbered
from ._keys import Caller

KNOWN = 1000
"""Conversations, and messages, of one client that are remembered: the last ones."""


@final
class Peer:
    """The frames for one client, numbered, and the socket that has them sent at the moment.

    Invariant: `gone` is since when there has been no socket; `open` is how many blocks of `talking` are open;
    `spoken` and `ids` hold at most `KNOWN` entries.

    Attributes:
        token: whoever has it may go on as this client.
        caller: who it is.
        spoken: conversations in which it has said something lately.
        ids: the tenants of its last messages, by their ids.
        open: its messages that are not answered yet.
        turns: where its turns live: with the socket that it came with first.
        over: set when it may not be resumed any more.
    """

    def __init__(self, caller: Caller) -> None:
        self.token = secrets.token_urlsafe(24)
        self.caller = caller
        self.spoken: dict[str, None] = {}
        self.ids: dict[str, str] = {}
        self.open = 0
        self.gone: float | None = None
        self.over = trio.Event()
        self.turns: trio.Nursery | None = None
        self._backlog = Backlog()
        self._socket: object = None
        self._news = trio.Event()
        self._room = trio.Event()

    @property
    def seq(self) -> int:
        """Number of the last frame."""
        return self._backlog.seq

    def remember(self, conversation: str, id: str, tenant: str) -> None:
        """It has said something. O(1)."""
        _keep(self.spoken, conversation, None)
        _keep(self.ids, id, tenant)

    def put(self, **frame: Any) -> None:
        """Have a frame sent. O(length)."""
        self._backlog.put(frame)
        self._news.set()

    def hint(self, **frame: Any) -> None:
        """The same for what may be left out: a client that is behind is not told. O(length)."""
        if not self._backlog.full:
            self.put(**frame)

    async def put_slowly(self, **frame: Any) -> None:
        """The same for what may be long: wait for a client that reads slowly, or is away."""
        await trio.lowlevel.checkpoint()
        while self._backlog.full and not self.over.is_set():
            await self._change()
        self.put(**frame)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """A block in which something is being answered."""
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
            self._room.set()

    async def settled(self) -> None:
        """Wait until everything is answered, and the answers are with the client's system."""
        await trio.lowlevel.checkpoint()
        while (self.open or self._backlog.sent < self.seq) and not self.over.is_set():
            await self._change()

    async def _change(self) -> None:
        # One event for all who wait: with one each, only the last of them would be woken.
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def attach(self, socket: object, last_seen: int) -> bool:
        """Have the frames after `last_seen` sent by this socket from now on; False: they are not there."""
        if not self._backlog.rewind(last_seen):
            return False
        self._socket, self.gone = socket, None
        self._news.set()
        return True

    def detach(self, socket: object, now: float) -> bool:
        """The socket is gone; False: another one had taken over."""
        if self._socket is not socket:
            return False
        self._socket, self.gone = None, now
        self._news.set()
        return True

    def end(self) -> None:
        """It may not be resumed any more."""
        self.over.set()
        self._news.set()
        self._room.set()

    async def following(self, socket: object) -> list[Numbered] | None:
        """The frames to be sent next; None: this socket has nothing to send any more."""
        while True:
            if self._socket is not socket or self.over.is_set():
                await trio.lowlevel.checkpoint()
                return None
            if self._backlog.lost:
                return None  # it fell too far behind
            if frames := self._backlog.unsent():
                await trio.lowlevel.checkpoint()
                return frames
            self._news = trio.Event()
            await self._news.wait()

    def sent(self, socket: object, frame: Numbered) -> None:
        """Frames up to this one are with the client's system. O(1)."""
        if self._socket is socket:
            self._backlog.note_sent(frame)
            self._room.set()


def _keep(known: dict[str, Any], key: str, value: Any) -> None:
    """Note it as the newest entry; the oldest goes where they are too many. O(1)."""
    known.pop(key, None)
    known[key] = value
    if len(known) > KNOWN:
        del known[next(iter(known))]
