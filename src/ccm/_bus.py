"""Events for any number of readers, none of which the manager ever waits for."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from ._events import Event, Lagged


@final
class EventStream:
    """An async iterator over events; ends when the manager has closed. Made by `manager.events()`."""

    def __init__(self, buffer: int) -> None:
        self._send, self._receive = trio.open_memory_channel[Event](buffer)
        self._missed = 0
        self._missed_at = 0.0

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        """The next event, or `Lagged` in the place of those that were lost."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._missed:
                # No later event will come and tell.
                missed, self._missed = self._missed, 0
                await trio.lowlevel.cancel_shielded_checkpoint()
                return Lagged(self._missed_at, missed)
            raise StopAsyncIteration from None

    def put(self, event: Event) -> None:
        """Hand over an event if there is room, else count it as missed. O(1)."""
        try:
            if self._missed:
                self._send.send_nowait(Lagged(event.at, self._missed))
                self._missed = 0
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._missed += 1
            self._missed_at = event.at
        except trio.BrokenResourceError:
            pass  # the reader left and is about to be taken off the list

    def close(self) -> None:
        """No more events; the reader sees the end after those it has not read. O(1)."""
        self._send.close()


@final
class Bus:
    """The readers of one manager. With no reader, `active` is False and no event is even made."""

    def __init__(self) -> None:
        self._readers: list[EventStream] = []
        self._closed = False
        self.active = False

    def publish(self, event: Event) -> None:
        """Give `event` to every reader; never waits. O(readers)."""
        for reader in self._readers:
            reader.put(event)

    @asynccontextmanager
    async def listen(self, buffer: int) -> AsyncIterator[EventStream]:
        """A reader that keeps at most `buffer` events it has not read (whole, >= 1)."""
        if not isinstance(buffer, int) or not 1 <= buffer < math.inf:
            raise ValueError(f"buffer must be a whole number >= 1, got {buffer!r}")
        reader = EventStream(buffer)
        if self._closed:
            reader.close()
        self._readers.append(reader)
        self.active = True
        try:
            yield reader
        finally:
            self._readers.remove(reader)
            self.active = bool(self._readers)
            reader._receive.close()

    def close(self) -> None:
        """End every reader's stream. O(readers)."""
        self._closed = True
        for reader in self._readers:
            reader.close()
