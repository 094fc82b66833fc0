"""From which event on a session must go on after a restart, while events are handled in any order."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

__all__ = ["Progress"]


@final
class Progress:
    """The events of one shard that were taken in and are not handled."""

    __slots__ = ("_open",)

    # _open  (session, seq) in order of arrival

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int], None] = OrderedDict()

    def __len__(self) -> int:
        """Events that are not handled. O(1)."""
        return len(self._open)

    def admit(self, session: int, seq: int) -> None:
        """An event was taken in; one that came again is the same one. O(1)."""
        self._open[session, seq] = None

    def done(self, session: int, seq: int) -> None:
        """It was handled, or given up. One that is not known was done before. O(1)."""
        self._open.pop((session, seq), None)

    def safe(self, session: int, received: int | None) -> int | None:
        """The last number of the session that is handled with all before it. O(1).

        None: events of an earlier session are still open. Whoever restarted from this session would never
        hear of them, so the earlier one must stay the one to go on with.
        """
        first = next(iter(self._open), None)
        if first is None:
            return received
        return first[1] - 1 if first[0] == session else None
