"""From frames to payloads. An event that nobody wants is recognized by its first bytes and not parsed."""

from __future__ import annotations

import json
import re
from typing import Any, Final, final

from ._inflate import Inflater

__all__ = ["MORE", "Decoder"]

MORE: Final = object()
"""There is no whole payload yet."""
HEAD = r'\{"t":"([A-Z_]{1,100})","s":(0|[1-9][0-9]{0,17}),"op":0,"d":'
"""How Discord begins an event. What begins in another way, with spaces or another key first, is parsed."""
HEADS: Final[tuple[Any, Any]] = re.compile(HEAD), re.compile(HEAD.encode())
PROTOCOL: Final = frozenset({"READY", "RESUMED"})
"""The protocol itself reads these."""


@final
class Decoder:
    """The decoder of one connection.

    Args:
        unpack: its inflate context; None when nothing is packed.
        wanted: names of the events that somebody reads; None: all.
    """

    __slots__ = ("_unpack", "_wanted")

    def __init__(self, unpack: Inflater | None, wanted: frozenset[str] | None) -> None:
        self._unpack = unpack
        self._wanted = None if wanted is None else wanted | PROTOCOL

    def feed(self, frame: str | bytes) -> Any:
        """The payload that `frame` completes, or `MORE`. O(bytes).

        An event that is not wanted comes without its `d`. It is not looked into, so it may be broken without
        being noticed: nobody would have got it.

        Raises:
            UnpackError: the connection cannot be read any further.
            ValueError, RecursionError: this payload cannot be decoded.
        """
        if self._unpack is not None and isinstance(frame, bytes):
            text = self._unpack.feed(frame)
            if text is None:
                return MORE
            frame = text
        if self._wanted is not None:
            packed = isinstance(frame, bytes)
            head = HEADS[packed].match(frame)
            if head is not None:
                kind = head[1].decode() if packed else head[1]
                if kind not in self._wanted:
                    return {"op": 0, "t": kind, "s": int(head[2]), "d": None}
        return json.loads(frame)
