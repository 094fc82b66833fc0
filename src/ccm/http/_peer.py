"""What is known of one client of the WebSocket, across the sockets it comes with."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import trio

from ._keys import Caller

MOST = 1000
"""Frames that are kept for one client; who falls further behind has to begin anew."""
_AHEAD = 100


@final
class Peer:
    """The frames for one client, numbered, and the socket that has them sent at the moment.

    Invariant: `_frames` are the last ones, with rising numbers that end with `seq`; `gone` is since when
    there has been no socket; `_talking` is how many blocks of `talking` are open.

    Attributes:
        token: whoever has it may go on as this client.
        caller: who it is.
        spoken: conversations in which it has said something.
        ids: the tenants of its messages, by their ids.
        turns: where its turns live: with the socket that it came with first.
        over: set when it may not be resumed any more.
    """

    def __init__(self, caller: Caller) -> None:
        self.token = secrets.token_urlsafe(24)
        self.caller = caller
        self.spoken: dict[str, None] = {}
        self.ids: dict[str, str] = {}
        self.seq = 0
        self.gone: float | None = None
        self.over = trio.Event()
        self.turns: trio.Nursery | None = None
        self._frames: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._sent = 0
        self._socket: object = None
        self._news = trio.Event()
        self._room = trio.Event()
        self._talking = 0

    def put(self, **frame: Any) -> None:
        """Have a frame sent. O(1)."""
        self.seq += 1
        self._frames.append({**frame, "seq": self.seq})
        self._news.set()

    async def put_slowly(self, **frame: Any) -> None:
        """The same for a piece of a reply: wait for a client that reads slowly, or is away."""
        await trio.lowlevel.checkpoint()
        while self.seq - self._sent >= _AHEAD and not self.over.is_set():
            await self._change()
        self.put(**frame)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """A block in which something is being answered."""
        self._talking += 1
        try:
            yield
        finally:
            self._talking -= 1
            self._room.set()

    async def settled(self) -> None:
        """Wait until everything is answered, and the answers are with the client's system."""
        await trio.lowlevel.checkpoint()
        while (self._talking or self._sent < self.seq) and not self.over.is_set():
            await self._change()

    async def _change(self) -> None:
        # One event for all who wait: with one each, only the last of them would be woken.
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def attach(self, socket: object, last_seen: int) -> bool:
        """Have the frames after `last_seen` sent by this socket from now on; False: they are not there."""
        if not self.seq - len(self._frames) <= last_seen <= self.seq:
            return False
        self._socket, self._sent, self.gone = socket, last_seen, None
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

    async def following(self, socket: object) -> list[dict[str, Any]] | None:
        """The frames to be sent next; None: this socket has nothing to send any more."""
        while True:
            if self._socket is not socket or self.over.is_set():
                await trio.lowlevel.checkpoint()
                return None
            if self.seq - len(self._frames) > self._sent:
                return None  # it fell too far behind
            if self._sent < self.seq:
                await trio.lowlevel.checkpoint()
                behind = self.seq - self._sent
                return list(self._frames)[-behind:]
            self._news = trio.Event()
            await self._news.wait()

    def sent(self, socket: object, seq: int) -> None:
        """Frames up to this one are with the client's system. O(1)."""
        if self._socket is socket:
            self._sent = max(self._sent, seq)
            self._room.set()
