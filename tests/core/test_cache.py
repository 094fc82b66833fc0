"""The cache of contexts against a plain list of values, least recently used first, and a list of loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan, nextafter

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm._core.cache import CacheStatistics, ContextCache, Flight, Hit, Join, Load, Raise, Serve

CONVERSATIONS = st.sampled_from(["ann", "bob"])
NAMES = st.sampled_from(["profile", "profile:x", "mood"])
CALLERS = st.integers(1, 5)
SECONDS = st.integers(0, 128).map(lambda n: n / 64)
TTLS = st.sampled_from([0.0, 0.5, 1.5, inf])
STALE = 0.5

Key = tuple[str, str]


@dataclass
class Value:
    key: Key
    value: int
    loaded: float


@dataclass(eq=False)
class Trip:
    """A load on its way, as the model knows it."""

    key: Key
    flight: Flight
    leader: int
    ttl: float
    kept: bool = True
    waiters: list[int] = field(default_factory=list)


class CacheMachine(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 4))
    def begin(self, size: int) -> None:
        self.cache = ContextCache(size=size, stale=STALE)
        self.size = size
        self.now = 0.0
        self.serial = 0
        self.values: list[Value] = []  # least recently used first
        self.trips: list[Trip] = []
        self.counts = CacheStatistics(max=size)

    def count(self, **more: int) -> None:
        changed = {name: getattr(self.counts, name) + number for name, number in more.items()}
        self.counts = attrs.evolve(self.counts, **changed)

    def value_of(self, key: Key) -> Value | None:
        return next((value for value in self.values if value.key == key), None)

    def waits_for(self, caller: int) -> Trip | None:
        return next((trip for trip in self.trips if caller in trip.waiters), None)

    def closes_a_circle(self, trip: Trip | None, caller: int) -> bool:
        while trip is not None and trip.leader != caller:
            trip = self.waits_for(trip.leader)
        return trip is not None

    @rule(step=SECONDS)
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(conversation=CONVERSATIONS, name=NAMES, caller=CALLERS, ttl=TTLS)
    def look_up(self, conversation: str, name: str, caller: int, ttl: float) -> None:
        key = (conversation, name)
        value = self.value_of(key)
        trip = next((trip for trip in self.trips if trip.key == key and trip.kept), None)
        if value is not None and self.now < value.loaded + ttl:
            step = self.cache.look_up(conversation, name, caller, ttl, self.now)
            assert isinstance(step, Hit)
            assert step.value == value.value
            self.values.remove(value)
            self.values.append(value)
            self.count(hits=1)
        elif self.waits_for(caller) or self.closes_a_circle(trip, caller):
            with pytest.raises(RuntimeError, match=r"another load|loader of"):
                self.cache.look_up(conversation, name, caller, ttl, self.now)
        elif trip is not None:
            step = self.cache.look_up(conversation, name, caller, ttl, self.now)
            assert isinstance(step, Join)
            assert step.flight is trip.flight
            trip.waiters.append(caller)
            self.count(coalesced=1)
        else:
            step = self.cache.look_up(conversation, name, caller, ttl, self.now)
            assert isinstance(step, Load)
            self.trips.append(Trip(key, step.flight, caller, ttl))
            self.count(misses=1)

    @precondition(lambda self: self.trips)
    @rule(data=st.data(), there_is_one=st.booleans())
    def succeed(self, data: st.DataObject, there_is_one: bool) -> None:
        trip = data.draw(st.sampled_from(self.trips))
        self.serial += 1
        value = self.serial if there_is_one else None
        assert list(self.cache.succeed(trip.flight, value, self.now)) == trip.waiters
        self.trips.remove(trip)
        if trip.kept:
            self.values = [known for known in self.values if known.key != trip.key]
            if value is not None:
                self.values.append(Value(trip.key, value, self.now))
            if len(self.values) > self.size:
                del self.values[0]
                self.count(evictions=1)

    @precondition(lambda self: self.trips)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        trip = data.draw(st.sampled_from(self.trips))
        step = self.cache.fail(trip.flight, self.now)
        assert list(step.waiters) == trip.waiters
        self.trips.remove(trip)
        self.count(errors=1)
        value = self.value_of(trip.key)
        if trip.kept and value is not None and self.now < value.loaded + trip.ttl + STALE:
            assert isinstance(step, Serve)
            assert step.value == value.value
            self.values.remove(value)
            self.values.append(value)
            self.count(stale=1 + len(trip.waiters))
        else:
            assert isinstance(step, Raise)

    @precondition(lambda self: self.trips)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        trip = data.draw(st.sampled_from(self.trips))
        heir = self.cache.abandon(trip.flight)
        if trip.waiters:
            trip.leader = trip.waiters.pop(0)
            assert heir == trip.leader
            self.count(takeovers=1)
        else:
            assert heir is None
            self.trips.remove(trip)

    @precondition(lambda self: self.trips)
    @rule(data=st.data(), caller=CALLERS)
    def leave(self, data: st.DataObject, caller: int) -> None:
        trip = data.draw(st.sampled_from(self.trips))
        if caller in trip.waiters:
            self.cache.leave(trip.flight, caller)
            trip.waiters.remove(caller)
        else:
            with pytest.raises(RuntimeError, match="does not wait"):
                self.cache.leave(trip.flight, caller)

    def expect_forgotten(
        self, got: int, conversation: str | None, name: str = "", exact: bool = False
    ) -> None:
        def gone(key: Key) -> bool:
            there = key[1] == name if exact else key[1].startswith(name)
            return there and conversation in (None, key[0])

        kept = [value for value in self.values if not gone(value.key)]
        assert got == len(self.values) - len(kept)
        self.count(forgotten=got)
        self.values = kept
        for trip in self.trips:
            trip.kept = trip.kept and not gone(trip.key)

    @rule(conversation=CONVERSATIONS, name=NAMES)
    def forget(self, conversation: str, name: str) -> None:
        self.expect_forgotten(self.cache.forget(conversation, name), conversation, name, exact=True)

    @rule(conversation=CONVERSATIONS)
    def forget_conversation(self, conversation: str) -> None:
        self.expect_forgotten(self.cache.forget_conversation(conversation), conversation)

    @rule(
        conversation=CONVERSATIONS | st.none(), prefix=st.sampled_from(["", "pro", "profile:", "mood", "z"])
    )
    def forget_where(self, conversation: str | None, prefix: str) -> None:
        got = self.cache.forget_where(lambda name: name.startswith(prefix), conversation)
        self.expect_forgotten(got, conversation, prefix)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.cache._check()
        self.count(size=len(self.values) - self.counts.size)
        assert self.cache.statistics() == self.counts
        assert [(s.conversation, s.name) for s in self.cache._lru] == [value.key for value in self.values]

    def teardown(self) -> None:
        """What is over leaves nothing behind."""
        if not hasattr(self, "cache"):
            return
        for trip in self.trips:
            self.cache.succeed(trip.flight, None, self.now)
        self.cache.forget_where(lambda name: True)
        self.cache._check()
        assert not self.cache._conversations
        assert not self.cache._lru
        assert not self.cache._waits


TestCache = CacheMachine.TestCase


def load(cache: ContextCache, key: Key, value: object, now: float) -> None:
    step = cache.look_up(*key, "loader", 0.0, now)
    assert isinstance(step, Load)
    cache.succeed(step.flight, value, now)


def found(cache: ContextCache, key: Key, ttl: float, now: float) -> object:
    """The value if it is fresh; else the load that was begun is given up."""
    step = cache.look_up(*key, "looker", ttl, now)
    if isinstance(step, Hit):
        return step.value
    assert isinstance(step, Load)
    cache.abandon(step.flight)
    return None


A, B = ("a", "profile"), ("b", "profile")


def test_a_value_is_fresh_until_exactly_the_end_of_its_ttl() -> None:
    cache = ContextCache(size=10)
    load(cache, A, "v", 5.0)
    assert found(cache, A, 10.0, nextafter(15.0, 0.0)) == "v"
    assert found(cache, A, 10.0, 15.0) is None
    assert found(cache, A, 11.0, 15.0) == "v", "each call says how old a value may be for it"
    assert found(cache, A, inf, 1e9) == "v"
    assert found(cache, A, 0.0, 5.0) is None


def test_a_name_of_one_conversation_is_not_found_by_another() -> None:
    cache = ContextCache(size=10)
    load(cache, A, "of a", 0.0)
    assert found(cache, B, inf, 0.0) is None


def test_an_expired_value_serves_until_exactly_the_stated_bound() -> None:
    for now, serves in ((nextafter(70.0, 0.0), True), (70.0, False)):
        cache = ContextCache(size=10, stale=60.0)
        load(cache, A, "old", 0.0)
        step = cache.look_up(*A, 1, 10.0, now)
        assert isinstance(step, Load)
        assert isinstance(cache.look_up(*A, 2, 10.0, now), Join)
        end = cache.fail(step.flight, now)
        assert isinstance(end, Serve) is serves
        assert end.waiters == (2,)
        assert cache.statistics().stale == (2 if serves else 0)


def test_none_is_not_kept_and_ends_what_was() -> None:
    cache = ContextCache(size=10)
    load(cache, A, "old", 0.0)
    load(cache, A, None, 1.0)
    assert len(cache) == 0
    step = cache.look_up(*A, 1, 10.0, 1.0)
    assert isinstance(step, Load)
    assert isinstance(cache.fail(step.flight, 1.0), Raise), "what is known to be gone is not served"


def test_a_load_is_taken_over_in_the_order_of_waiting() -> None:
    cache = ContextCache(size=10)
    step = cache.look_up(*A, 1, 10.0, 0.0)
    assert isinstance(step, Load)
    for caller in (2, 3, 4):
        cache.look_up(*A, caller, 10.0, 0.0)
    assert [cache.abandon(step.flight) for _ in range(2)] == [2, 3]
    assert cache.succeed(step.flight, "v", 1.0) == (4,)


def test_an_invalidation_in_flight_lets_later_callers_load_anew() -> None:
    cache = ContextCache(size=10)
    first = cache.look_up(*A, 1, 10.0, 0.0)
    assert isinstance(first, Load)
    assert cache.forget(*A) == 0
    second = cache.look_up(*A, 2, 10.0, 0.0)
    assert isinstance(second, Load)
    cache.succeed(second.flight, "new", 0.0)
    assert cache.succeed(first.flight, "old", 1.0) == ()
    assert found(cache, A, 10.0, 1.0) == "new"


def test_the_least_recently_used_value_makes_room() -> None:
    cache = ContextCache(size=2)
    load(cache, A, "a", 0.0)
    load(cache, B, "b", 0.0)
    assert found(cache, A, inf, 1.0) == "a"
    load(cache, ("c", "profile"), "c", 2.0)
    assert (found(cache, A, inf, 3.0), found(cache, B, inf, 3.0)) == ("a", None)
    assert cache.statistics().evictions == 1


def test_a_value_loaded_again_is_the_last_to_go() -> None:
    cache = ContextCache(size=2)
    load(cache, A, "old", 0.0)
    load(cache, B, "b", 1.0)
    load(cache, A, "new", 2.0)
    load(cache, ("c", "profile"), "c", 3.0)
    assert (found(cache, A, inf, 4.0), found(cache, B, inf, 4.0)) == ("new", None)


def test_a_value_evicted_while_it_is_loaded_again_keeps_its_load() -> None:
    cache = ContextCache(size=1)
    load(cache, A, "old", 0.0)
    step = cache.look_up(*A, 1, 0.0, 1.0)
    assert isinstance(step, Load)
    load(cache, B, "b", 1.0)
    assert isinstance(cache.look_up(*A, 2, inf, 1.0), Join)
    assert cache.succeed(step.flight, "new", 2.0) == (2,)
    assert found(cache, A, inf, 2.0) == "new"
    cache._check()


def test_a_circle_of_loads_is_refused_however_long() -> None:
    cache = ContextCache(size=10)
    keys = [("a", str(n)) for n in range(5)]
    for caller, key in enumerate(keys):
        assert isinstance(cache.look_up(*key, caller, 1.0, 0.0), Load)
    for caller, key in enumerate(keys[1:]):
        assert isinstance(cache.look_up(*key, caller, 1.0, 0.0), Join)
    before = cache.statistics()
    with pytest.raises(RuntimeError, match="the loader of '4' needs '0'"):
        cache.look_up(*keys[0], 4, 1.0, 0.0)
    assert cache.statistics() == before
    cache._check()


def test_a_load_ends_once() -> None:
    cache = ContextCache(size=10)
    step = cache.look_up(*A, 1, 1.0, 0.0)
    assert isinstance(step, Load)
    cache.succeed(step.flight, "v", 0.0)
    with pytest.raises(RuntimeError, match="ended already"):
        cache.succeed(step.flight, "v", 0.0)
    with pytest.raises(RuntimeError, match="ended already"):
        cache.fail(step.flight, 0.0)
    with pytest.raises(RuntimeError, match="ended already"):
        cache.abandon(step.flight)
    cache._check()


def test_rates_of_hits() -> None:
    assert CacheStatistics().hit_rate == 0.0
    assert CacheStatistics(hits=2, coalesced=1, misses=1).hit_rate == 0.75


def test_settings_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be 1 or more"):
        ContextCache(size=0)
    for stale in (-1.0, nan):
        with pytest.raises(ValueError, match="stale must be 0 seconds or more"):
            ContextCache(size=1, stale=stale)
