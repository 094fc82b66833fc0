"""When somebody should look: values compared with thresholds, without flapping.

A value that reaches a threshold raises an alert; the alert ends when the value has fallen clearly below the
threshold, not when it is just under it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, final

import attrs

from .._checks import refuse
from .._message import Priority, check_priority
from .lanes import INF

CLEAR, WARNING, CRITICAL = range(3)
LEVELS = ("clear", "warning", "critical")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@final
@attrs.frozen
class Threshold:
    """The values from which on there is an alert.

    Args:
        warning: > 0.
        critical: >= `warning`; infinite for never.
    """

    warning: float
    critical: float

    def __attrs_post_init__(self) -> None:
        if not _is_number(self.warning) or not 0 < self.warning < INF:
            raise refuse("warning", self.warning, "a finite number > 0")
        if not _is_number(self.critical) or not self.critical >= self.warning:
            raise refuse("critical", self.critical, f"a number >= warning ({self.warning!r})")

    def level(self, value: float, held: int, hysteresis: float) -> int:
        """The level of `value` when the level has been `held` so far. O(1)."""
        keep = 1.0 - hysteresis
        if value >= (self.critical * keep if held == CRITICAL else self.critical):
            return CRITICAL
        return WARNING if value >= (self.warning * keep if held else self.warning) else CLEAR

    def of(self, level: int) -> float:
        """The threshold of a level."""
        return self.critical if level == CRITICAL else self.warning


def _per_class(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise refuse("wait", value, "a mapping from Priority to a Threshold")
    return MappingProxyType({check_priority(key): item for key, item in value.items()})


def _check_threshold(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, Threshold):
        raise refuse(field.name, value, "a Threshold, or None for off")


def _check_wait(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
    for priority, item in value.items():
        if not isinstance(item, Threshold):
            raise refuse(f"wait[{priority.name}]", item, "a Threshold")


def _check_number(low: float, high: float, *, above: bool = False) -> Any:
    allowed = f"a number {'>' if above else '>='} {low:g} and <= {high:g}"

    def check(instance: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if not _is_number(value) or not low <= value <= high or (above and value == low):
            raise refuse(field.name, value, allowed)

    return check


_WAIT: Final[Mapping[Priority, Threshold]] = MappingProxyType(
    {
        Priority.CRITICAL: Threshold(1, 5),
        Priority.HIGH: Threshold(5, 15),
        Priority.NORMAL: Threshold(30, 60),
    }
)


@final
@attrs.frozen(kw_only=True)
class AlertRules:
    """What raises an alert; each threshold may be None for off.

    Attributes:
        depth: items that wait at a service.
        dead_letters: dead letters that are kept.
        idle: seconds for which a service has had nothing in hand.
        wait: by class, seconds for which the oldest waiting turn has waited.
        error_rate: share of the turns which ended in the last `window` seconds that failed, 0 to 1; judged
            when there were at least `least`.
        shed_rate: turns per second that were shed, expired or refused for overload in the last `window`.
        stuck: turns that were told to end and do not.
        storage: seconds for which the storage has failed, or has kept the oldest operation waiting.
        hysteresis: how far below its threshold a value must fall to end an alert, as a share of it, >= 0
            and < 1.
        window: seconds, 1 to 3600.
        least: turns that must have ended in the window for an error rate, 1 to 1,000,000.
        interval: seconds between two looks, 0.01 to 3600.

    Raises:
        ConfigError, TypeError, ValueError: names the field, the value and what is allowed.
    """

    depth: Threshold | None = attrs.field(default=Threshold(10, 20), validator=_check_threshold)
    dead_letters: Threshold | None = attrs.field(default=Threshold(5, 10), validator=_check_threshold)
    idle: Threshold | None = attrs.field(default=Threshold(300, 600), validator=_check_threshold)
    wait: Mapping[Priority, Threshold] = attrs.field(
        default=_WAIT, converter=_per_class, validator=_check_wait
    )
    error_rate: Threshold | None = attrs.field(default=Threshold(0.1, 0.5), validator=_check_threshold)
    shed_rate: Threshold | None = attrs.field(default=Threshold(1, 10), validator=_check_threshold)
    stuck: Threshold | None = attrs.field(default=Threshold(1, 5), validator=_check_threshold)
    storage: Threshold | None = attrs.field(default=Threshold(1, 10), validator=_check_threshold)
    hysteresis: float = attrs.field(default=0.2, validator=_check_number(0, 0.99))
    window: float = attrs.field(default=10.0, validator=_check_number(1, 3600))
    least: int = attrs.field(default=10, validator=_check_number(1, 1_000_000))
    interval: float = attrs.field(default=1.0, validator=_check_number(0.01, 3600))

    def threshold(self, kind: str, subject: str) -> Threshold | None:
        """What values of this kind are compared with. O(1)."""
        if kind == "wait":
            return self.wait.get(Priority[subject])
        threshold: Threshold | None = getattr(self, kind)
        return threshold


@final
@attrs.frozen
class Reading:
    """One value: of which kind (a field of `AlertRules`), and whose ("" is the manager's).

    None is not known: an alert that is active stays as it is.
    """

    kind: str
    subject: str
    value: float | None


@final
@attrs.frozen(kw_only=True)
class Alert:
    """Something that somebody should look at.

    Attributes:
        kind: the field of `AlertRules` it belongs to: "depth", "dead_letters", "idle", "wait", "error_rate",
            "shed_rate", "stuck" or "storage".
        subject: the service for "depth" and "idle", the class for "wait", else "".
        level: "warning" or "critical".
        value: the value when it was looked at last; `threshold` is what it reached.
        since: when the alert was raised, on Trio's clock.
    """

    kind: str
    subject: str
    level: str
    value: float
    threshold: float
    since: float

    def __str__(self) -> str:
        whose = f" of {self.subject}" if self.subject else ""
        return f"{self.level}: {self.kind}{whose} is {self.value:.4g} (threshold {self.threshold:g})"


@final
@attrs.frozen
class Change:
    """An alert was raised, got another level, or (`cleared`) ended."""

    alert: Alert
    cleared: bool


@final
@attrs.frozen(kw_only=True)
class AlertStatistics:
    """What became of alerts so far; `failed_callbacks` counts calls of `on_alert` that raised or hung."""

    active: int = 0
    raised: int = 0
    cleared: int = 0
    failed_callbacks: int = 0


@final
class AlertBoard:
    """The active alerts.

    Invariants: an alert is active under its kind and subject; raised == cleared + active.
    """

    def __init__(self, rules: AlertRules) -> None:
        self._rules = rules
        self._active: dict[tuple[str, str], Alert] = {}
        self._raised = self._cleared = 0

    def update(self, readings: Iterable[Reading], now: float) -> list[Change]:
        """Compare with the thresholds: what has changed. O(readings + active alerts).

        What is not among the readings is over: its alert is cleared.
        """
        changes: list[Change] = []
        missing = dict(self._active)
        for reading in readings:
            held = missing.pop((reading.kind, reading.subject), None)
            if (change := self._judge(reading, held, now)) is not None:
                changes.append(change)
        changes += [self._clear(alert) for alert in missing.values()]
        return changes

    def _judge(self, reading: Reading, held: Alert | None, now: float) -> Change | None:
        threshold, value = self._rules.threshold(reading.kind, reading.subject), reading.value
        if threshold is None or value is None:
            return None
        before = CLEAR if held is None else LEVELS.index(held.level)
        level = threshold.level(value, before, self._rules.hysteresis)
        if level == CLEAR:
            return None if held is None else self._clear(attrs.evolve(held, value=value))
        alert = Alert(
            kind=reading.kind, subject=reading.subject, level=LEVELS[level], value=value,
            threshold=threshold.of(level), since=now if held is None else held.since,
        )  # fmt: skip
        self._active[reading.kind, reading.subject] = alert
        self._raised += held is None
        return None if level == before else Change(alert, cleared=False)

    def _clear(self, alert: Alert) -> Change:
        del self._active[alert.kind, alert.subject]
        self._cleared += 1
        return Change(alert, cleared=True)

    def active(self) -> tuple[Alert, ...]:
        """The active alerts: critical ones first, then the oldest. O(n log n)."""
        # "critical" comes before "warning" in the alphabet, too.
        worst = sorted(self._active.values(), key=lambda a: (a.level, a.since, a.kind, a.subject))
        return tuple(worst)

    def statistics(self) -> AlertStatistics:
        """A frozen picture of this instant. O(1)."""
        return AlertStatistics(active=len(self._active), raised=self._raised, cleared=self._cleared)

    def _check(self) -> None:
        """Assert every invariant. O(active alerts)."""
        for key, alert in self._active.items():
            assert key == (alert.kind, alert.subject)
            assert alert.level in LEVELS[1:]
        assert self._raised == self._cleared + len(self._active)


@final
class Window:
    """Differences of counts that only rise, over the last `seconds`.

    Invariants: `_samples` are in the order of time; the first is the latest that is at least `seconds` old,
    or the first ever taken.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque()

    def add(self, now: float, *counts: int) -> tuple[float, ...]:
        """Note the counts at `now`.

        Returns:
            How much each has risen in the window, and at last the seconds the window covers so far. O(1),
            amortised.
        """
        samples = self._samples
        samples.append((now, counts))
        while len(samples) > 1 and samples[1][0] <= now - self._seconds:
            samples.popleft()
        since, first = samples[0]
        return (*(count - before for count, before in zip(counts, first, strict=True)), now - since)

    def _check(self) -> None:
        times = [at for at, _ in self._samples]
        assert times == sorted(times)
        assert all(at > times[-1] - self._seconds for at in times[1:])
