"""The frames for one client: numbered, kept for its return, bounded. It neither waits nor sends."""

from __future__ import annotations

import json
from collections import deque
from itertools import islice
from typing import Any, final

import attrs

FRAMES = 1000
"""Frames that are kept for one client; who falls further behind has to begin anew."""
BYTES = 512 * 1024
"""The same in bytes. The newest frame is kept whatever its size."""
_AHEAD_FRAMES = 100
_AHEAD_BYTES = 128 * 1024


@final
@attrs.frozen
class Numbered:
    """A frame to be sent: its number, its text, and the bytes of all frames up to and with it."""

    seq: int
    text: str
    end: int


@final
class Backlog:
    """What one client was told lately, and how far it has been sent.

    Invariant: the kept frames are the last ones, with rising numbers that end with `seq`; they are at most
    `FRAMES`, and of at most `BYTES` bytes unless there is only one.

    Attributes:
        seq: number of the last frame.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._kept: deque[Numbered] = deque()
        self._end = 0
        self._begin = 0  # bytes of what is not kept any more
        self._sent = 0
        self._sent_end = 0

    @property
    def sent(self) -> int:
        """Number of the last frame that was sent."""
        return self._sent

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._end - self._begin

    def put(self, frame: dict[str, Any]) -> None:
        """Add a frame; the oldest ones go where they are too many. Amortised O(length)."""
        self.seq += 1
        text = json.dumps({**frame, "seq": self.seq}, separators=(",", ":"), default=str)
        self._end += len(text)  # ASCII: characters are bytes
        self._kept.append(Numbered(self.seq, text, self._end))
        while len(self._kept) > FRAMES or (self.size > BYTES and len(self._kept) > 1):
            self._begin = self._kept.popleft().end

    @property
    def full(self) -> bool:
        """Whether what is not sent yet is enough: who can wait with more should. O(1)."""
        return self.seq - self._sent >= _AHEAD_FRAMES or self._end - self._sent_end >= _AHEAD_BYTES

    @property
    def lost(self) -> bool:
        """Whether a frame that was not sent is not kept any more. O(1)."""
        return self._sent < self.seq - len(self._kept)

    def unsent(self) -> list[Numbered]:
        """What is to be sent next, in order. O(returned)."""
        return list(islice(reversed(self._kept), self.seq - self._sent))[::-1]

    def note_sent(self, frame: Numbered) -> None:
        """Frames up to this one are with the client's system. O(1)."""
        if frame.seq > self._sent:
            self._sent, self._sent_end = frame.seq, frame.end

    def rewind(self, last_seen: int) -> bool:
        """Begin again after `last_seen`; False: not everything after it is kept. O(kept)."""
        first = self.seq - len(self._kept)
        if not first <= last_seen <= self.seq:
            return False
        self._sent = last_seen
        self._sent_end = self._begin if last_seen == first else self._kept[last_seen - first - 1].end
        return True
