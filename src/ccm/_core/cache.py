"""What handlers have loaded for a conversation: fresh for a while, loaded once for all who ask together.

One load is a `Flight`: the first caller of a key leads it, those who come meanwhile join it. The cache never
runs anything; it says who loads (`Load`), who waits (`Join`), and whom to tell at the end. Callers are opaque
hashable values (the shell gives it tasks).

Values belong to a conversation *and* a name. Nothing in here can be found by the name alone, so what one
conversation has loaded is never answered to another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from math import inf
from typing import Any, Final, final

import attrs

__all__ = ["STALE", "CacheStatistics", "ContextCache", "Flight", "Hit", "Join", "Load", "Raise", "Serve"]

STALE: Final = 600.0
"""Seconds for which an expired value may still be served when its loader fails."""


@final
class Flight:
    """One load on its way.

    Attributes:
        slot: where its value will go, as long as the slot names this flight: an invalidation lets go of it,
            and what it brings is then told to its callers but not kept.
        leader: who loads.
        waiters: who waits for it, in order of arrival.
        patience: the age below which an expired value is served should the load fail.
    """

    __slots__ = ("leader", "patience", "slot", "waiters")

    def __init__(self, slot: _Slot, leader: Hashable, patience: float) -> None:
        self.slot = slot
        self.leader = leader
        self.patience = patience
        self.waiters: dict[Hashable, None] = {}


@final
class _Slot:
    """One name of one conversation: a value with the time it was loaded (-inf: none), a flight, or both."""

    __slots__ = ("conversation", "flight", "loaded", "name", "value")

    def __init__(self, conversation: str, name: str) -> None:
        self.conversation = conversation
        self.name = name
        self.value: Any = None
        self.loaded = -inf
        self.flight: Flight | None = None


@final
@attrs.define(eq=False)
class Hit:
    """The value is here."""

    value: Any


@final
@attrs.define(eq=False)
class Join:
    """Somebody loads it already: wait to be told, as one of the flight's waiters."""

    flight: Flight


@final
@attrs.define(eq=False)
class Load:
    """Load it and say how that ended: `succeed`, `fail` or `abandon`, exactly once."""

    flight: Flight


@final
@attrs.define(eq=False)
class Serve:
    """Leader and waiters get this value."""

    value: Any
    waiters: tuple[Hashable, ...]


@final
@attrs.define(eq=False)
class Raise:
    """Leader and waiters get the loader's error."""

    waiters: tuple[Hashable, ...]


@final
@attrs.frozen(kw_only=True)
class CacheStatistics:
    """A cache at one instant.

    Attributes:
        size: values held.
        max: the bound of size.
        hits: lookups answered at once.
        misses: lookups that began a load.
        coalesced: lookups that joined a load on its way; hits + misses + coalesced = lookups.
        takeovers: loads begun again by a waiter because their caller was cancelled.
        errors: loads that failed.
        stale: callers who got an expired value because the load failed.
        evictions: values that went to make room.
        forgotten: values that went by an invalidation or with their session.
    """

    size: int = 0
    max: int = 0
    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    takeovers: int = 0
    errors: int = 0
    stale: int = 0
    evictions: int = 0
    forgotten: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of the lookups that began no load; 0.0 before the first."""
        lookups = self.hits + self.misses + self.coalesced
        return (self.hits + self.coalesced) / lookups if lookups else 0.0


@final
class ContextCache:
    """Values by (conversation, name), at most `size` of them over all conversations.

    A value loaded at ``t`` answers a lookup at ``now < t + ttl`` for that lookup's own `ttl`. The value used
    least recently goes first when there are too many. Errors are never kept, nor is None ("there is none").

    Args:
        size: values held at most, 1 or more.
        stale: seconds beyond its ttl for which a value is served when its loader fails, >= 0.
    """

    __slots__ = (
        "_conversations",
        "_lru",
        "_size",
        "_stale",
        "_waits",
        "coalesced",
        "errors",
        "evictions",
        "forgotten",
        "hits",
        "misses",
        "stale",
        "takeovers",
    )

    # _conversations  conversation -> name -> slot; no empty inner dict, no slot with neither value nor flight
    # _lru            the slots with a value, least recently used first; at most _size
    # _waits          waiter -> the flight it waits for, flights that were let go of included. Following
    #                 flight -> leader -> flight ... from anywhere ends: a wait that would close a circle is
    #                 refused in `look_up`
    # _size, _stale   as given

    def __init__(self, *, size: int, stale: float = STALE) -> None:
        if size < 1:
            raise ValueError(f"size must be 1 or more, not {size!r}")
        if not stale >= 0.0:
            raise ValueError(f"stale must be 0 seconds or more, not {stale!r}")
        self._size = size
        self._stale = stale
        self._conversations: dict[str, dict[str, _Slot]] = {}
        self._lru: OrderedDict[_Slot, None] = OrderedDict()
        self._waits: dict[Hashable, Flight] = {}
        self.hits = self.misses = self.coalesced = self.takeovers = 0
        self.errors = self.stale = self.evictions = self.forgotten = 0

    def __len__(self) -> int:
        """Values held, expired ones included. O(1)."""
        return len(self._lru)

    # -- callers ---------------------------------------------------------------------------------

    def look_up(
        self, conversation: str, name: str, caller: Hashable, ttl: float, now: float
    ) -> Hit | Join | Load:
        """What `caller` does to get the value. O(1); O(loads that wait for each other) when it joins.

        Raises:
            RuntimeError: it would wait for itself, or it waits already; nothing was changed.
        """
        names = self._conversations.get(conversation)
        slot = None if names is None else names.get(name)
        if slot is not None:
            if now < slot.loaded + ttl:
                self.hits += 1
                self._lru.move_to_end(slot)
                return Hit(slot.value)
            if slot.flight is not None:
                return self._join(slot.flight, caller)
        if caller in self._waits:
            raise RuntimeError(f"{caller!r} waits for another load; it cannot begin one meanwhile")
        if slot is None:
            slot = _Slot(conversation, name)
            self._conversations.setdefault(conversation, {})[name] = slot
        self.misses += 1
        slot.flight = flight = Flight(slot, caller, ttl + self._stale)
        return Load(flight)

    def _join(self, flight: Flight, caller: Hashable) -> Join:
        if caller in self._waits:
            raise RuntimeError(f"{caller!r} waits for another load; it cannot join one meanwhile")
        ahead: Flight | None = flight
        while ahead is not None:
            if ahead.leader == caller:
                slot = flight.slot
                raise RuntimeError(
                    f"the loader of {ahead.slot.name!r} needs {slot.name!r} of conversation "
                    f"{slot.conversation!r}, whose load waits for it; load one of them without the other"
                )
            ahead = self._waits.get(ahead.leader)
        self.coalesced += 1
        flight.waiters[caller] = None
        self._waits[caller] = flight
        return Join(flight)

    def leave(self, flight: Flight, waiter: Hashable) -> None:
        """A waiter has been cancelled; the load goes on. O(1).

        Raises:
            RuntimeError: it does not wait for this flight; nothing was changed.
        """
        if waiter not in flight.waiters:
            raise RuntimeError(f"{waiter!r} does not wait for {flight.slot.name!r} (any more); leave once")
        del flight.waiters[waiter]
        del self._waits[waiter]

    # -- the leader of a flight ------------------------------------------------------------------

    def succeed(self, flight: Flight, value: Any, now: float) -> tuple[Hashable, ...]:
        """The value has come: keep it, and tell these waiters. O(waiters).

        None is not kept, and what was there before is not, either: it is known to be outdated.
        """
        waiters = self._land(flight)
        slot = flight.slot
        if slot.flight is flight:
            slot.flight = None
            if value is None:
                self._drop_value(slot)
                self._drop_empty(slot)
            else:
                slot.value, slot.loaded = value, now
                self._lru[slot] = None
                self._lru.move_to_end(slot)
                if len(self._lru) > self._size:
                    self._evict()
        return waiters

    def fail(self, flight: Flight, now: float) -> Serve | Raise:
        """The loader has raised: its callers get the expired value if there still is one. O(waiters)."""
        waiters = self._land(flight)
        self.errors += 1
        slot = flight.slot
        if slot.flight is flight:
            slot.flight = None
            if now < slot.loaded + flight.patience:
                self.stale += 1 + len(waiters)
                self._lru.move_to_end(slot)
                return Serve(slot.value, waiters)
            self._drop_empty(slot)
        return Raise(waiters)

    def abandon(self, flight: Flight) -> Hashable | None:
        """The leader is cancelled: the first waiter, if any, leads now and must be told. O(1)."""
        self._check_flying(flight)
        for heir in flight.waiters:
            self.leave(flight, heir)
            flight.leader = heir
            self.takeovers += 1
            return heir
        self._land(flight)
        slot = flight.slot
        if slot.flight is flight:
            slot.flight = None
            self._drop_empty(slot)
        return None

    def _land(self, flight: Flight) -> tuple[Hashable, ...]:
        """End a flight, once; returns who waited for it."""
        self._check_flying(flight)
        flight.leader = None
        waiters = tuple(flight.waiters)
        flight.waiters.clear()
        for waiter in waiters:
            del self._waits[waiter]
        return waiters

    @staticmethod
    def _check_flying(flight: Flight) -> None:
        if flight.leader is None:
            raise RuntimeError(f"the load of {flight.slot.name!r} has ended already; end it once")

    # -- forgetting ------------------------------------------------------------------------------

    def forget(self, conversation: str, name: str) -> int:
        """Forget one value; a load on its way will not be kept. Returns the values forgotten. O(1)."""
        slot = self._conversations.get(conversation, {}).get(name)
        return 0 if slot is None else self._forget((slot,))

    def forget_conversation(self, conversation: str) -> int:
        """Forget everything of a conversation, as `forget` does. O(its names)."""
        return self._forget(tuple(self._conversations.get(conversation, {}).values()))

    def forget_where(self, match: Callable[[str], bool], conversation: str | None = None) -> int:
        """Forget every name that matches, of one conversation or of all, as `forget` does. O(names)."""
        if conversation is None:
            groups: Iterable[dict[str, _Slot]] = self._conversations.values()
        else:
            groups = (self._conversations.get(conversation, {}),)
        return self._forget([slot for names in groups for slot in names.values() if match(slot.name)])

    def _forget(self, slots: Iterable[_Slot]) -> int:
        before = len(self._lru)
        for slot in slots:
            slot.flight = None
            self._drop_value(slot)
            self._drop_empty(slot)
        forgotten = before - len(self._lru)
        self.forgotten += forgotten
        return forgotten

    def _evict(self) -> None:
        slot, _ = self._lru.popitem(last=False)
        self.evictions += 1
        self._drop_value(slot)
        self._drop_empty(slot)

    def _drop_value(self, slot: _Slot) -> None:
        self._lru.pop(slot, None)
        slot.value, slot.loaded = None, -inf

    def _drop_empty(self, slot: _Slot) -> None:
        """Remove a slot that has neither a value nor a flight."""
        if slot.flight is None and slot not in self._lru:
            names = self._conversations[slot.conversation]
            del names[slot.name]
            if not names:
                del self._conversations[slot.conversation]

    # -- looking at it ---------------------------------------------------------------------------

    def statistics(self) -> CacheStatistics:
        """A frozen picture of this instant. O(1)."""
        return CacheStatistics(
            size=len(self._lru), max=self._size, hits=self.hits, misses=self.misses, coalesced=self.coalesced,
            takeovers=self.takeovers, errors=self.errors, stale=self.stale, evictions=self.evictions,
            forgotten=self.forgotten,
        )  # fmt: skip

    def _check(self) -> None:
        """Assert every invariant. O(names + waiters)."""
        assert len(self._lru) <= self._size
        valued = 0
        for conversation, names in self._conversations.items():
            assert names
            for name, slot in names.items():
                assert (slot.conversation, slot.name) == (conversation, name)
                assert (slot in self._lru) == (slot.loaded > -inf)
                assert slot in self._lru or (slot.value is None and slot.flight is not None)
                valued += slot in self._lru
                if slot.flight is not None:
                    assert slot.flight.slot is slot
                    assert slot.flight.leader is not None
        assert valued == len(self._lru)
        for waiter, flight in self._waits.items():
            assert waiter in flight.waiters
            assert waiter != flight.leader
            assert flight.leader is not None
            seen, ahead = 0, self._waits.get(flight.leader)
            while ahead is not None:
                seen += 1
                assert seen <= len(self._waits)
                ahead = self._waits.get(ahead.leader)
