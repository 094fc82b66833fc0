"""Alerts: a state machine against a naive model, the rules, and the window of the rates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ccm import Alert, AlertRules, ConfigError, Priority, Threshold
from ccm._core.alerts import AlertBoard, Change, Reading, Window

INF = float("inf")
SUBJECTS = st.sampled_from(["a", "b", "c"])


class Machine(RuleBasedStateMachine):
    """`depth` has thresholds 8 and 16, left below 6 and 12; `idle` is off."""

    @initialize()
    def begin(self) -> None:
        self.board = AlertBoard(AlertRules(depth=Threshold(8, 16), idle=None, hysteresis=0.25))
        self.levels: dict[str, str] = {}
        self.since: dict[str, float] = {}
        self.now = 0.0
        self.raised = self.cleared = 0

    @rule(values=st.dictionaries(SUBJECTS, st.none() | st.integers(0, 20)), idle=st.integers(0, 10**6))
    def update(self, values: dict[str, int | None], idle: int) -> None:
        self.now += 1.0
        readings = [Reading("idle", "a", idle), *(Reading("depth", *item) for item in values.items())]
        changes = self.board.update(readings, self.now)
        expected = {}
        for subject in {*values, *self.levels}:
            held = self.levels.get(subject, "clear")
            level = self.level(values.get(subject, 0), held)
            if level != held:
                expected[subject] = level
        told = {c.alert.subject: "clear" if c.cleared else c.alert.level for c in changes}
        assert told == expected
        assert len(changes) == len(told)
        for subject, level in expected.items():
            self.raised += subject not in self.levels
            if level == "clear":
                del self.levels[subject], self.since[subject]
                self.cleared += 1
            else:
                self.levels[subject] = level
                self.since.setdefault(subject, self.now)

    @staticmethod
    def level(value: int | None, held: str) -> str:
        if value is None:
            return held
        if value >= 16 or (held == "critical" and value >= 12):
            return "critical"
        return "warning" if value >= 8 or (held != "clear" and value >= 6) else "clear"

    @invariant()
    def agrees(self) -> None:
        self.board._check()
        active = self.board.active()
        assert {alert.subject: alert.level for alert in active} == self.levels
        assert {alert.subject: alert.since for alert in active} == self.since
        assert list(active) == sorted(active, key=lambda a: (a.level != "critical", a.since, a.subject))
        figures = self.board.statistics()
        assert (figures.active, figures.raised, figures.cleared) == (len(active), self.raised, self.cleared)


TestMachine = Machine.TestCase


def only(changes: list[Change]) -> tuple[Alert, bool]:
    (change,) = changes
    return change.alert, change.cleared


def test_a_value_at_its_threshold_does_not_flap() -> None:
    board = AlertBoard(AlertRules())
    alert, cleared = only(board.update([Reading("dead_letters", "", 5)], 1.0))
    assert (alert.level, alert.threshold, alert.value, cleared) == ("warning", 5, 5, False)
    assert board.update([Reading("dead_letters", "", 4)], 2.0) == []
    assert board.update([Reading("dead_letters", "", 5)], 3.0) == []
    alert, cleared = only(board.update([Reading("dead_letters", "", 3)], 4.0))
    assert (alert.value, alert.since, cleared) == (3, 1.0, True)
    assert board.active() == ()


def test_an_alert_says_what_it_is_about() -> None:
    board = AlertBoard(AlertRules())
    alert, _ = only(board.update([Reading("depth", "memory", 25)], 0.0))
    assert str(alert) == "critical: depth of memory is 25 (threshold 20)"


def test_classes_have_thresholds_of_their_own() -> None:
    board = AlertBoard(AlertRules(wait={Priority.HIGH: Threshold(1, 2)}))
    readings = [Reading("wait", p.name, 1.5) for p in Priority]
    alert, _ = only(board.update(readings, 0.0))
    assert (alert.kind, alert.subject) == ("wait", "HIGH")


def test_the_defaults_are_those_that_are_documented() -> None:
    rules = AlertRules()
    assert rules.depth == Threshold(10, 20)
    assert rules.dead_letters == Threshold(5, 10)
    assert rules.idle == Threshold(300, 600)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", 10),
        ("idle", (1, 2)),
        ("wait", 3),
        ("wait", {Priority.LOW: 3}),
        ("hysteresis", 1),
        ("hysteresis", -0.1),
        ("window", 0),
        ("least", 0),
        ("interval", 0),
        ("interval", True),
    ],
)
def test_bad_rules_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        AlertRules(**{field: value})


@pytest.mark.parametrize(("warning", "critical"), [(0, 1), (-1, 1), (2, 1), (INF, INF), ("1", 2), (1, None)])
def test_bad_thresholds_are_refused(warning: Any, critical: Any) -> None:
    with pytest.raises(ConfigError, match=r"warning|critical"):
        Threshold(warning, critical)


def test_a_threshold_may_have_no_critical_value() -> None:
    assert Threshold(1, INF).level(1e300, 0, 0.0) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9))), st.integers(1, 10))
def test_the_window_covers_the_last_seconds(steps: list[tuple[int, int]], seconds: int) -> None:
    window = Window(seconds)
    now, count = 0.0, 0
    history = [(now, count)]
    window.add(now, count)
    for passed, added in steps:
        now, count = now + passed, count + added
        history.append((now, count))
        old = [sample for sample in history if sample[0] <= now - seconds]
        since, before = old[-1] if old else history[0]
        assert window.add(now, count) == (count - before, now - since)
        window._check()
