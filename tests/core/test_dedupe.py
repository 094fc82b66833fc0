"""The dedupe window against a list of everything put, oldest first."""

from __future__ import annotations

from math import inf, nan, nextafter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm._core.dedupe import DedupeWindow

KEYS = st.tuples(st.sampled_from(["", "t"]), st.sampled_from(["1", "2", "3", "4"]))
STEPS = st.integers(0, 128).map(lambda n: n / 64)


class DedupeMachine(RuleBasedStateMachine):
    @initialize(window=st.integers(1, 256).map(lambda n: n / 64), max_rows=st.integers(1, 6))
    def begin(self, window: float, max_rows: int) -> None:
        self.rows = DedupeWindow[int](window=window, max_rows=max_rows)
        self.window, self.max_rows = window, max_rows
        self.now = 0.0
        self.model: list[tuple[tuple[str, str], int, float]] = []  # key, value, put at
        self.serial = self.dropped = 0

    def live(self) -> list[tuple[tuple[str, str], int, float]]:
        return [row for row in self.model if self.now < row[2] + self.window]

    @rule(step=STEPS)
    def pass_time(self, step: float) -> None:
        self.now += step

    @rule(key=KEYS)
    def put(self, key: tuple[str, str]) -> None:
        self.serial += 1
        self.rows.put(key, self.serial, self.now)
        self.model = [row for row in self.live() if row[0] != key] + [(key, self.serial, self.now)]
        if len(self.model) > self.max_rows:
            del self.model[0]
            self.dropped += 1

    @rule(key=KEYS)
    def forget(self, key: tuple[str, str]) -> None:
        known = any(row[0] == key for row in self.live())
        assert self.rows.forget(key) >= known
        self.model = [row for row in self.model if row[0] != key]

    @rule()
    def expire(self) -> None:
        held = len(self.rows)
        assert self.rows.expire(self.now) == held - len(self.live())
        assert len(self.rows) == len(self.live())
        assert self.rows.next_deadline() == min((at + self.window for _, _, at in self.live()), default=inf)

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "rows"):
            return
        self.rows._check()
        values = {key: value for key, value, _ in self.live()}
        for key in [(tenant, id) for tenant in ("", "t") for id in "1234"]:
            assert self.rows.get(key, self.now) == values.get(key)
        assert self.rows.dropped == self.dropped
        # What is over is swept faster than it comes in, but at the latest when a new row comes.
        assert len(self.live()) <= len(self.rows) <= self.max_rows
        assert self.rows.next_deadline() <= min((at + self.window for _, _, at in self.live()), default=inf)


TestDedupe = DedupeMachine.TestCase


def test_a_row_lives_until_exactly_the_end_of_its_window() -> None:
    rows = DedupeWindow[str](window=10.0)
    rows.put(("t", "1"), "first", 5.0)
    assert rows.get(("t", "1"), nextafter(15.0, 0.0)) == "first"
    assert rows.get(("t", "1"), 15.0) is None
    assert rows.get(("other", "1"), 5.0) is None


def test_what_is_over_is_swept_as_new_rows_come() -> None:
    rows = DedupeWindow[int](window=1.0)
    for n in range(1000):
        rows.put(("", str(n)), n, 0.0)
    for n in range(1000):
        rows.put(("", f"new {n}"), n, 1.0)
    assert len(rows) == 1000
    assert rows.dropped == 0


def test_a_clock_that_goes_back_stands_still() -> None:
    rows = DedupeWindow[int](window=10.0)
    rows.put(("", "1"), 1, 100.0)
    rows.put(("", "2"), 2, 50.0)
    rows._check()
    assert rows.get(("", "2"), 109.0) == 2
    assert rows.expire(110.0) == 2


@pytest.mark.parametrize("window", [0.0, -1.0, inf, nan])
def test_a_window_outside_its_range_is_refused(window: float) -> None:
    with pytest.raises(ValueError, match="window must be above 0"):
        DedupeWindow[int](window=window)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rows must be 1 or more"):
        DedupeWindow[int](window=1.0, max_rows=0)
