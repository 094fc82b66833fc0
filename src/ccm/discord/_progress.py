"""From which event on a session must go on after a restart, while events are handled in any order."""

from __future__ import annotations

from collections import Counter
from typing import Final, final

from ._models import Event, Gap, Ready, Resumed

__all__ = ["Place", "Progress", "place_of"]

Place = tuple[int, int]
"""(session, seq): a restart must go on in front of it."""
BEFORE: Final = 0


def place_of(item: Event | Ready | Resumed | Gap) -> Place | None:
    """What a restart must go on in front of while the item is not handled; None: of no consequence.

    For a new session that is the end of the one before: who goes on with the new one would never hear that
    something was lost in between.
    """
    if isinstance(item, Ready):
        return item.session - 1, BEFORE
    if isinstance(item, Resumed) or item.seq is None:
        return None
    return item.session, item.seq


@final
class Progress:
    """What one shard took in and was not handled: events, and what says that some are missing."""

    __slots__ = ("_held", "_open")

    # _open  of events
    # _held  of other items, with how many there are of each; several may be at one place

    def __init__(self) -> None:
        self._open: set[Place] = set()
        self._held: Counter[Place] = Counter()

    def __len__(self) -> int:
        """Events that are not handled. O(1)."""
        return len(self._open)

    def admit(self, session: int, seq: int) -> None:
        """An event was taken in; one that came again is the same one. O(1)."""
        self._open.add((session, seq))

    def done(self, session: int, seq: int) -> None:
        """It was handled, or given up. One that is not known was done before. O(1)."""
        self._open.discard((session, seq))

    def hold(self, place: Place) -> None:
        """A restart goes on in front of this place until it is released. O(1)."""
        self._held[place] += 1

    def release(self, place: Place) -> None:
        """One that holds this place is handled; one that is not known was before. O(1)."""
        if self._held[place] > 1:
            self._held[place] -= 1
        else:
            del self._held[place]

    def safe(self, session: int, received: int | None, missing: Place | None = None) -> int | None:
        """The last number of the session that is handled with all before it. O(events).

        None: something of an earlier session is still open. Whoever restarted from this session would never
        hear of it, so the earlier one must stay the one to go on with.

        Args:
            session, received: which, and the last number that came.
            missing: one more place to stay in front of.
        """
        places = [*self._open, *self._held] if missing is None else [*self._open, *self._held, missing]
        if not places:
            return received
        first = min(places)
        return first[1] - 1 if first[0] == session else None
