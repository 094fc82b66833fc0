"""The rate limiter against a list of every event, with exact fractions for the windows."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm._core.ratelimit import RateLimiter
from ccm._policies import RateLimit

TENANTS = ("", "strict", "slow", "free")
USERS = ("ann", "bob", "cid", "dee")
PEOPLE = st.tuples(st.sampled_from(TENANTS), st.sampled_from(USERS))
# Sums of these are exact, so that releases fall on the same instants as later events …
ROUND = st.integers(0, 64).map(lambda n: n / 16)
# … and sums of these are not, so that rounding shows.
CROOKED = st.floats(0.0, 5.0)
PERS = st.integers(1, 64).map(lambda n: n / 16) | st.floats(1e-9, 10.0)


class RateLimitMachine(RuleBasedStateMachine):
    @initialize(
        counts=st.lists(st.integers(1, 4), min_size=3, max_size=3),
        pers=st.lists(PERS, min_size=3, max_size=3),
        start=st.sampled_from([0.0, 0.1, 1e5 + 0.3]),
        max_users=st.integers(1, 12),
    )
    def begin(self, counts: list[int], pers: list[float], start: float, max_users: int) -> None:
        default, strict, slow = (RateLimit(n, per=per) for n, per in zip(counts, pers, strict=True))
        self.limits: dict[str, RateLimit | None] = {"": default, "strict": strict, "slow": slow, "free": None}
        self.limiter = RateLimiter(
            default=default, overrides={"strict": strict, "slow": slow, "free": None}, max_users=max_users
        )
        self.max_users = max_users
        self.now = start
        # Every event of whom the limiter must remember, the user with the oldest last event first.
        self.events: dict[tuple[str, str], list[float]] = {}
        self.evicted = 0

    def in_window(self, who: tuple[str, str], now: float) -> int:
        limit = self.limits[who[0]]
        assert limit is not None
        begin = Fraction(now) - Fraction(limit.per)
        return sum(begin < Fraction(at) for at in self.events.get(who, ()) if at <= now)

    def allowed(self, who: tuple[str, str], now: float) -> bool:
        limit = self.limits[who[0]]
        return limit is None or self.in_window(who, now) < limit.count

    def live(self) -> list[tuple[str, str]]:
        return [who for who in self.events if self.in_window(who, self.now)]

    @rule(step=ROUND | CROOKED)
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(who=PEOPLE)
    def wait_as_told(self, who: tuple[str, str]) -> None:
        self.now += self.limiter.check(*who, self.now)
        assert self.limiter.check(*who, self.now) == 0.0

    @rule(who=PEOPLE)
    def send_if_allowed(self, who: tuple[str, str]) -> None:
        if self.limiter.check(*who, self.now) == 0.0:
            assert self.allowed(who, self.now)
            self.record(who)

    @rule(who=PEOPLE)
    def record(self, who: tuple[str, str]) -> None:
        before = self.limiter.evicted
        self.limiter.record(*who, self.now)
        if self.limits[who[0]] is None:
            return
        self.events = {known: self.events[known] for known in self.live()}
        if who not in self.events and len(self.events) == self.max_users:
            self.evicted += 1
            self.forget_the_evicted()
        self.events[who] = [*self.events.pop(who, ()), self.now]
        assert self.limiter.evicted == self.evicted
        assert self.limiter.evicted - before <= 1

    def forget_the_evicted(self) -> None:
        """Of several whose last events were at one time it may be any; the limiter knows which."""
        oldest = min(events[-1] for events in self.events.values())
        candidates = [who for who, events in self.events.items() if events[-1] <= nextafter(oldest, inf)]
        known = {key for group in self.limiter._groups for key in group.logs}
        gone = [who for who in self.events if who not in known]
        assert len(gone) == 1
        assert gone[0] in candidates
        del self.events[gone[0]]

    @rule()
    def expire(self) -> None:
        tracked = self.limiter.tracked
        assert self.limiter.expire(self.now) == tracked - len(self.live())
        assert self.limiter.tracked == len(self.live())
        assert self.limiter.next_deadline() > self.now

    @precondition(lambda self: self.limiter.next_deadline() < inf)
    @rule()
    def expire_at_the_deadline(self) -> None:
        deadline = self.limiter.next_deadline()
        self.now = max(self.now, deadline)
        assert self.limiter.expire(self.now) >= 1

    @invariant()
    def waits_are_exact(self) -> None:
        if not hasattr(self, "limiter"):
            return
        for who in [(tenant, user) for tenant in TENANTS for user in USERS]:
            wait = self.limiter.check(*who, self.now)
            then = self.now + wait
            assert (wait == 0.0) == self.allowed(who, self.now)
            assert self.allowed(who, then)
            assert self.limiter.check(*who, then) == 0.0
            if wait > 0.0:
                earlier = self.now + nextafter(wait, 0.0)
                assert earlier == then or not self.allowed(who, earlier)
                assert self.limiter.check(*who, (self.now + then) / 2) > 0.0 or then == nextafter(
                    self.now, inf
                )

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "limiter"):
            return
        self.limiter._check()
        assert len(self.live()) <= self.limiter.tracked <= self.max_users


TestRateLimit = RateLimitMachine.TestCase


@given(
    st.integers(1, 5),
    st.floats(1e-300, 1e300),
    st.lists(st.floats(-1e6, 1e6) | st.floats(-1e300, 1e300), min_size=1, max_size=20).map(sorted),
)
def test_windows_are_exact_in_any_arithmetic(count: int, per: float, times: list[float]) -> None:
    limiter = RateLimiter(default=RateLimit(count, per=per))
    recorded: list[Fraction] = []
    for now in times:
        inside = sum(Fraction(now) - Fraction(per) < at for at in recorded)
        assert (limiter.check("", "ann", now) == 0.0) == (inside < count)
        if inside < count:
            limiter.record("", "ann", now)
            recorded.append(Fraction(now))
        limiter._check()


@given(st.floats(0.0, 1e9), st.floats(1e-6, 1e6), st.floats(0.0, 1.0))
def test_the_wait_is_the_shortest_that_helps(at: float, per: float, share: float) -> None:
    limiter = RateLimiter(default=RateLimit(1, per=per))
    limiter.record("", "ann", at)
    now = at + per * share
    wait = limiter.check("", "ann", now)
    assert limiter.check("", "ann", now + wait) == 0.0
    if wait > 0.0:
        shorter = nextafter(wait, 0.0)
        assert now + shorter == now + wait or limiter.check("", "ann", now + shorter) > 0.0
        assert Fraction(now + wait) >= Fraction(at) + Fraction(per)


def test_a_wait_that_rounding_cut_short_is_lengthened() -> None:
    per, now = 1.75 + 2**-52, 2**-53
    limiter = RateLimiter(default=RateLimit(1, per=per))
    limiter.record("", "ann", 0.0)
    assert now + (per - now) < per
    assert limiter.check("", "ann", now) == nextafter(per - now, inf)
    assert limiter.check("", "ann", now + limiter.check("", "ann", now)) == 0.0


def test_five_in_ten_seconds_and_the_sixth_is_told_when() -> None:
    limiter = RateLimiter(default=RateLimit(5, per=10))
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        assert limiter.check("guild", "ann", now) == 0.0
        limiter.record("guild", "ann", now)
    assert limiter.check("guild", "ann", 4.0) == 6.0
    assert limiter.check("guild", "ann", 9.75) == 0.25
    assert limiter.check("guild", "ann", 10.0) == 0.0
    limiter.record("guild", "ann", 10.0)
    assert limiter.check("guild", "ann", 10.0) == 1.0
    assert limiter.check("guild", "bob", 10.0) == limiter.check("other", "ann", 10.0) == 0.0


def test_without_a_limit_nothing_is_remembered() -> None:
    limiter = RateLimiter(default=None, overrides={"strict": RateLimit(1, per=1)})
    for _ in range(100):
        limiter.record("any", "ann", 0.0)
        assert limiter.check("any", "ann", 0.0) == 0.0
    assert limiter.tracked == 0
    assert limiter.next_deadline() == inf
    limiter.record("strict", "ann", 0.0)
    assert limiter.check("strict", "ann", 0.0) == 1.0


def test_the_user_recorded_longest_ago_goes_first() -> None:
    limiter = RateLimiter(default=RateLimit(1, per=100), overrides={"t": RateLimit(1, per=7)}, max_users=3)
    for now, (tenant, user) in enumerate([("", "ann"), ("t", "bob"), ("", "cid"), ("", "ann"), ("", "dee")]):
        limiter.record(tenant, user, float(now))
    assert limiter.evicted == 1
    assert limiter.check("t", "bob", 4.0) == 0.0  # forgotten
    assert min(limiter.check("", user, 4.0) for user in ("ann", "cid", "dee")) > 0.0


def test_idle_users_make_room_before_anyone_is_evicted() -> None:
    limiter = RateLimiter(default=RateLimit(1, per=100), overrides={"t": RateLimit(1, per=1)}, max_users=2)
    limiter.record("", "ann", 0.0)
    limiter.record("t", "bob", 1.0)
    limiter.record("", "cid", 2.0)
    assert limiter.evicted == 0
    assert limiter.check("", "ann", 2.0) == 98.0


def test_idle_users_are_forgotten_as_others_come() -> None:
    limiter = RateLimiter(default=RateLimit(1, per=1))
    for n in range(1000):
        limiter.record("", str(n), 0.0)
    for n in range(1000):
        limiter.record("", f"new {n}", 1.0)
    assert limiter.tracked == 1000
    assert limiter.evicted == 0


def test_a_clock_that_goes_back_stands_still() -> None:
    limiter = RateLimiter(default=RateLimit(2, per=10))
    limiter.record("", "ann", 100.0)
    limiter.record("", "ann", 50.0)
    limiter.record("", "bob", 20.0)
    limiter._check()
    assert limiter.check("", "ann", 100.0) == 10.0
    assert limiter.expire(110.0) == 2


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_users must be 1 or more"):
        RateLimiter(default=None, max_users=0)
