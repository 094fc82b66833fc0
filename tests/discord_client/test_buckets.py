"""The limits of requests against a server that answers anything, in any order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm.discord._breaker import Breaker
from ccm.discord._buckets import Again, Answer, Go, RestLimits, Route, Stopped, Wait

ROUTES = [
    Route("POST", "/a", "1"), Route("POST", "/a", "2"), Route("GET", "/b", "1"),
    Route("POST", "/x", "9", exempt=True, bot=False),
]  # fmt: skip
NUMBERS = st.sampled_from([None, "0", "1", "5", "-1", "nan", "inf", "", "1e999", "0.5"])
NAMES = st.sampled_from([None, "red", "blue"])
PAUSES: Any = st.sampled_from([None, 0, 0.5, 3, 30, -1, math.inf, math.nan, "2", "x", True, []])
INVALID = 8


class LimitsMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.limits = RestLimits(INVALID)
        self.now = 0.0
        self.flying: list[Go] = []
        self.departures: list[float] = []
        self.paused: dict[Route, float] = {}
        self.everything = -math.inf
        self.stopped = -math.inf
        self.invalid: list[float] = []

    @rule(step=st.integers(0, 640).map(lambda n: n / 64))
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(route=st.sampled_from(ROUTES), many=st.integers(1, 70))
    def ask(self, route: Route, many: int) -> None:
        for _ in range(many):
            step = self.limits.ask(route, self.now)
            if not isinstance(step, Go):
                assert step.until > self.now
                if isinstance(step, Wait) and step.until == math.inf:
                    assert any(go.bucket is self.limits._bucket(route, self.now) for go in self.flying)
                return
            self.flying.append(step)
            assert self.now >= self.stopped
            assert self.now >= self.paused.get(route, -math.inf)
            assert len([time for time in self.invalid if time > self.now - 600]) < INVALID
            if not route.exempt:
                assert self.now >= self.everything
                self.departures.append(self.now)
                assert len([time for time in self.departures if time > self.now - 1]) <= 50

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        status=st.sampled_from([200, 204, 403, 404, 500]),
        name=NAMES,
        left=NUMBERS,
        after=NUMBERS,
        limit=NUMBERS,
    )
    def answer(self, data: st.DataObject, status: int, name: Any, left: Any, after: Any, limit: Any) -> None:
        go = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        found = {
            "x-ratelimit-bucket": name, "x-ratelimit-remaining": left, "x-ratelimit-reset-after": after,
            "x-ratelimit-limit": limit,
        }  # fmt: skip
        headers = {key: value for key, value in found.items() if value is not None}
        assert self.limits.answered(go, status, headers, None, self.now) == Answer()
        if status == 403:
            self.invalid.append(self.now)

    @precondition(lambda self: self.flying)
    @rule(
        data=st.data(),
        pause=PAUSES,
        scope=st.sampled_from([None, "user", "global", "shared"]),
        told=st.booleans(),
        via=st.booleans(),
        everywhere=st.booleans(),
        name=NAMES,
    )
    def turn_away(
        self,
        data: st.DataObject,
        pause: Any,
        scope: str | None,
        told: bool,
        via: bool,
        everywhere: bool,
        name: Any,
    ) -> None:
        go = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        headers = {"via": "1.1 google"} if via else {}
        headers |= {"x-ratelimit-scope": scope} if scope else {}
        headers |= {"x-ratelimit-bucket": name} if name else {}
        body = {"retry_after": pause, "global": everywhere} if told else None
        assert self.limits.answered(go, 429, headers, body, self.now) == Again()
        least = 0.0
        if told and isinstance(pause, int | float) and pause is not True and 0 <= pause < math.inf:
            least = float(pause)
        if not told and not via:
            self.stopped = self.now + 600
            return
        if scope != "shared":
            self.invalid.append(self.now)
        if scope == "global" or (told and everywhere):
            self.everything = max(self.everything, self.now + least)
        else:
            self.paused[go.route] = max(self.paused.get(go.route, 0.0), self.now + least)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        self.limits.lost(self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1))), self.now)

    @precondition(lambda self: not self.flying)
    @rule(route=st.sampled_from(ROUTES))
    def patience_is_rewarded(self, route: Route) -> None:
        for _ in range(20):
            step = self.limits.ask(route, self.now)
            if isinstance(step, Go):
                self.limits.lost(step, self.now)
                if not route.exempt:
                    self.departures.append(self.now)
                return
            assert self.now < step.until < math.inf
            self.now = step.until
        raise AssertionError("it is never let through")

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "limits"):
            self.limits._check()


TestLimits = LimitsMachine.TestCase


def go(limits: RestLimits, route: Route, now: float) -> Go:
    step = limits.ask(route, now)
    assert isinstance(step, Go), step
    return step


def told(remaining: int, after: float, limit: int = 5, name: str = "b") -> dict[str, str]:
    return {
        "x-ratelimit-bucket": name, "x-ratelimit-remaining": str(remaining), "x-ratelimit-limit": str(limit),
        "x-ratelimit-reset-after": str(after),
    }  # fmt: skip


def test_one_at_a_time_until_the_limit_is_known_then_as_many_as_remain() -> None:
    limits, route = RestLimits(), ROUTES[0]
    first = go(limits, route, 0.0)
    assert limits.ask(route, 0.0) == Wait(math.inf)
    limits.answered(first, 200, told(2, 4.0), {}, 0.0)
    for _ in range(2):
        go(limits, route, 1.0)
    assert limits.ask(route, 1.0) == Wait(4.0)
    assert isinstance(limits.ask(ROUTES[1], 1.0), Go)  # another channel
    go(limits, route, 4.0)


def test_nothing_in_flight_reopens_a_pause() -> None:
    limits, route = RestLimits(), ROUTES[0]
    limits.answered(go(limits, route, 0.0), 200, told(5, 10.0), {}, 0.0)
    early, late = go(limits, route, 0.0), go(limits, route, 0.0)
    limits.answered(early, 429, told(0, 2.0), {"retry_after": 2.0}, 1.0)
    limits.answered(late, 200, told(4, 0.1, name="renamed"), {}, 1.25)
    assert limits.ask(route, 1.25) == Wait(3.0)
    assert limits.ask(route, 2.0) == Wait(3.0)


def test_a_refused_token_stops_everything_for_good_but_not_a_commands_own() -> None:
    limits = RestLimits()
    limits.answered(go(limits, ROUTES[3], 0.0), 401, {}, None, 0.0)
    asked = go(limits, ROUTES[0], 0.0)
    limits.answered(asked, 401, {}, {"message": "401"}, 0.0)
    for route in ROUTES:
        step = limits.ask(route, 1e9)
        assert isinstance(step, Stopped)
        assert step.until == math.inf
    with pytest.raises(RuntimeError, match="once"):
        limits.lost(asked, 1.0)


def test_a_429_without_a_body_that_discord_wrote_says_in_its_headers_how_long() -> None:
    limits, route = RestLimits(), ROUTES[0]
    limits.answered(go(limits, route, 0.0), 429, {"via": "1.1 x", "retry-after": "40"}, None, 1.0)
    assert limits.ask(route, 1.0) == Wait(41.0)
    limits.answered(go(limits, route, 41.0), 429, {"via": "1.1 x"}, None, 41.0)
    assert limits.ask(route, 41.0) == Wait(46.0)  # a few seconds when nobody says
    limits = RestLimits()
    told = {"via": "1.1 x", "retry-after": "9", "x-ratelimit-global": "true"}
    limits.answered(go(limits, route, 0.0), 429, told, {"retry_after": 7}, 0.0)
    assert limits.ask(ROUTES[2], 0.0) == Wait(7.0)
    assert isinstance(limits.ask(ROUTES[3], 0.0), Go)


def test_shared_limits_are_not_our_fault() -> None:
    limits = RestLimits(max_invalid=2)
    for time in range(10):
        asked = go(limits, ROUTES[0], float(time))
        limits.answered(asked, 429, {"x-ratelimit-scope": "shared"}, {"retry_after": 0.5}, time)
    assert limits.stopped(10.0) is None


def test_a_full_table_of_limits_forgets_idle_ones_only() -> None:
    limits = RestLimits()
    limits.answered(go(limits, ROUTES[0], 0.0), 429, {"via": "x"}, {"retry_after": 5000}, 0.0)
    for number in range(5000):
        limits.lost(go(limits, Route("GET", "/c", str(number), exempt=True), float(number) / 10), 0.0)
    assert len(limits._buckets) <= 2002
    assert limits.ask(ROUTES[0], 501.0) == Wait(5000.0)


def test_the_breaker_opens_after_ten_failures_and_probes() -> None:
    breaker = Breaker()
    for _ in range(10):
        assert breaker.ask(1.0) is None
        breaker.failed(1.0)
    assert breaker.ask(2.0) == 6.0
    assert breaker.ask(6.0) is None
    assert breaker.ask(6.0) == 11.0
    breaker.succeeded()
    assert breaker.ask(6.0) is None
    assert breaker.ask(6.0) is None
