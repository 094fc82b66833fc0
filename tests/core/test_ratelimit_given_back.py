"""Events that are given back: from then on the limiter is as one that has never seen them."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._core.ratelimit import RateLimiter, _at_or_after
from ccm._policies import RateLimit

PEOPLE = [(tenant, user) for tenant in ("", "strict", "free") for user in ("ann", "bob")]
# Sums of the first are exact, so that releases fall on later events; those of the others show rounding.
STEPS = st.integers(0, 32).map(lambda n: n / 16) | st.floats(0.0, 3.0)
PERS = st.integers(1, 64).map(lambda n: n / 16) | st.floats(1e-3, 5.0)
LIMITS = st.builds(lambda count, per: RateLimit(count, per=per), st.integers(1, 4), PERS)
# Somebody takes one; time passes; the n-th of those that are left is given back.
Step = tuple[str, str] | float | int
PROGRAMS: st.SearchStrategy[list[Step]] = st.lists(
    st.sampled_from(PEOPLE) | STEPS | st.integers(0, 100), min_size=1, max_size=40
)
Event = tuple[tuple[str, str], float]


def limiter_of(limits: tuple[RateLimit, RateLimit], events: list[Event]) -> RateLimiter:
    """A limiter that has seen only these events; each of them must be allowed."""
    fresh = RateLimiter(default=limits[0], overrides={"strict": limits[1], "free": None})
    for who, at in events:
        assert fresh.take(*who, at) == 0.0
    return fresh


def check_alike(limiter: RateLimiter, fresh: RateLimiter, now: float, later: list[float]) -> None:
    for who in PEOPLE:
        for then in (now, now + fresh.check(*who, now), *(now + step for step in later)):
            assert limiter.check(*who, then) == fresh.check(*who, then)


def check_order(limiter: RateLimiter, seen: dict[tuple[str, str], float]) -> None:
    """Users stand in the order of their last events, given back or not, and sweeping begins in time."""
    for group in limiter._groups:
        order = [_at_or_after(seen[who], group.per) for who in group.logs]
        assert order == sorted(order)
        assert not order or group.due <= order[0]


@given(
    limits=st.tuples(LIMITS, LIMITS),
    start=st.sampled_from([0.0, 0.1, 1e5 + 0.3]),
    program=PROGRAMS,
    later=st.lists(STEPS, max_size=3),
)
def test_what_is_given_back_has_never_been(
    limits: tuple[RateLimit, RateLimit], start: float, program: list[Step], later: list[float]
) -> None:
    limiter = RateLimiter(default=limits[0], overrides={"strict": limits[1], "free": None})
    events: list[Event] = []
    seen: dict[tuple[str, str], float] = {}
    now = start
    for step in program:
        if isinstance(step, float):
            now += step
        elif isinstance(step, tuple):
            wait = limiter.check(*step, now)
            assert limiter.take(*step, now) == wait
            if not wait:
                events.append((step, now))
                seen[step] = now
        elif events:
            who, at = events.pop(step % len(events))
            limiter.give_back(*who, at)
        limiter._check()
        fresh = limiter_of(limits, events)
        check_alike(limiter, fresh, now, later)
        assert limiter.tracked >= sum(fresh.check(*who, now) > 0.0 for who in PEOPLE)
        check_order(limiter, seen)
    limiter.expire(now)
    for group in limiter._groups:  # nobody is held for longer than without giving back
        assert all(_at_or_after(seen[who], group.per) > now for who in group.logs)
    limiter.expire(now + 10.0)
    assert limiter.tracked == 0
    assert limiter.next_deadline() == inf


@pytest.mark.parametrize("given_back", [0, 1, 2])
def test_the_others_count_on_from_their_own_times(given_back: int) -> None:
    limiter = RateLimiter(default=RateLimit(3, per=10))
    times = [1.0, 2.0, 3.0]
    for at in times:
        assert limiter.take("", "ann", at) == 0.0
    assert limiter.check("", "ann", 3.0) == 8.0
    limiter.give_back("", "ann", times.pop(given_back))
    assert limiter.take("", "ann", 4.0) == 0.0
    assert limiter.check("", "ann", 4.0) == times[0] + 6.0


def test_a_full_ring_is_given_back_from_its_middle() -> None:
    limiter = RateLimiter(default=RateLimit(3, per=10))
    for at in (0.0, 1.0, 2.0, 10.0):
        assert limiter.take("", "ann", at) == 0.0  # the last takes the place of the first
    limiter.give_back("", "ann", 2.0)
    assert limiter.take("", "ann", 10.5) == 0.0
    assert limiter.check("", "ann", 10.5) == 0.5
    limiter._check()


def test_a_lone_event_leaves_nothing_behind() -> None:
    limiter = RateLimiter(default=RateLimit(1, per=10))
    limiter.take("", "ann", 0.0)
    limiter.give_back("", "ann", 0.0)
    assert limiter.tracked == 0
    assert limiter.check("", "ann", 0.0) == 0.0


def test_an_event_that_has_left_the_window_takes_no_other_with_it() -> None:
    limiter = RateLimiter(default=RateLimit(1, per=10))
    assert limiter.take("", "ann", 0.0) == 0.0
    assert limiter.take("", "ann", 10.0) == 0.0  # in its place
    limiter.give_back("", "ann", 0.0)
    assert limiter.check("", "ann", 10.0) == 10.0


def test_what_was_never_counted_gives_nothing_back() -> None:
    limiter = RateLimiter(default=RateLimit(2, per=10), overrides={"free": None})
    limiter.give_back("", "ann", 0.0)
    limiter.give_back("free", "ann", 0.0)
    limiter.take("", "ann", 0.0)
    limiter.take("", "ann", 1.0)
    limiter.give_back("", "ann", 0.5)
    assert limiter.check("", "ann", 1.0) == 9.0
    assert limiter.tracked == 1


def test_of_the_same_time_one_is_given_back() -> None:
    limiter = RateLimiter(default=RateLimit(2, per=10))
    limiter.take("", "ann", 0.0)
    limiter.take("", "ann", 0.0)
    limiter.give_back("", "ann", 0.0)
    assert limiter.take("", "ann", 1.0) == 0.0
    assert limiter.check("", "ann", 1.0) == 9.0


def test_who_gave_back_is_evicted_as_if_he_had_not() -> None:
    limiter = RateLimiter(default=RateLimit(2, per=10), max_users=2)
    limiter.take("", "ann", 0.0)
    limiter.take("", "bob", 1.0)
    limiter.take("", "ann", 2.0)
    limiter.give_back("", "ann", 2.0)
    limiter.take("", "cid", 3.0)
    assert [user for _, user in limiter._groups[0].logs] == ["ann", "cid"]
    limiter.give_back("", "cid", 3.0)  # who made room for it does not come back
    assert limiter.tracked == limiter.evicted == 1
    limiter._check()


def test_an_event_of_a_clock_that_went_back_may_go_on_counting() -> None:
    limiter = RateLimiter(default=RateLimit(2, per=10))
    limiter.take("", "bob", 100.0)
    limiter.take("", "ann", 50.0)
    limiter.give_back("", "ann", 50.0)
    assert limiter.tracked == 2
    limiter._check()
