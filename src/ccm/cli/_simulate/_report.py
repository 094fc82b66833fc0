"""What a simulation found, as data: a row per class and tenant, targets, one verdict. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from ccm import LatencySummary, Priority
from ccm.testing import GroupFigures, Rehearsal

from ._scenario import Scenario, Target

WAITS = ("p50", "p90", "p99", "max")


@attrs.frozen
class Aimed:
    """A target and what became of it: `met` is None when there was nothing to judge."""

    target: Target
    value: float | None
    met: bool | None

    @property
    def words(self) -> str:
        """As people say it: `wait_p99 of CRITICAL <= 0.1, is 0.02`."""
        target = self.target
        of = {"all": "", "class": f" of {target.name}", "tenants": f" of tenants {target.name!r}"}[
            target.scope
        ]
        sign = ">=" if target.at_least else "<="
        is_ = "not judged" if self.value is None else f"is {self.value:.4g}"
        return f"{target.figure}{of} {sign} {target.bound:g}, {is_}"


@attrs.frozen(kw_only=True)
class Report:
    """All of one run. `varied` are the settings that make it differ from its neighbours."""

    scenario: Scenario
    varied: Mapping[str, Any]
    rehearsal: Rehearsal
    busy: int
    calls: int
    aimed: tuple[Aimed, ...]

    @property
    def misses(self) -> tuple[str, ...]:
        """What was missed, in words; empty when all is well."""
        laws = [f"{c.law}: {c.promise} ({c.detail})" for c in self.rehearsal.checks if not c.ok]
        return (*laws, *(aimed.words for aimed in self.aimed if aimed.met is False))

    @property
    def ok(self) -> bool:
        """Whether every law and every target held."""
        return not self.misses

    @property
    def label(self) -> str:
        """What was varied, for a row or an axis."""
        return ", ".join(f"{name}={value}" for name, value in self.varied.items())

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; times in seconds."""
        run = self.rehearsal
        statistics = run.statistics
        return {
            "varied": dict(self.varied),
            "ok": self.ok,
            "missed": list(self.misses),
            "scenario": plain(self.scenario.source),
            "sent": run.sent,
            "duration": run.duration,
            "seconds": run.seconds,
            "limit": statistics.limit,
            "peak_running": statistics.peak_running,
            "peak_waiting": run.peak_waiting,
            "used": run.used,
            "goodput": run.goodput,
            "replies_per_second": run.replies_per_second,
            "calls": self.calls,
            "busy": self.busy,
            "retries": sum(route.retries for route in statistics.routes.values()),
            "timeouts": sum(route.timeouts for route in statistics.routes.values()),
            "fallbacks": statistics.fallbacks,
            "conservation": statistics.conservation(),
            "total": figures(run.total),
            "classes": [{"class": p.name, **figures(group)} for p, group in run.classes.items()],
            "tenants": [{"tenant": name, **figures(group)} for name, group in biggest(run)],
            "targets": [_target(aimed) for aimed in self.aimed],
            "checks": [attrs.asdict(check) for check in run.checks],
            "timeline": _timeline(run),
        }


def figures(group: GroupFigures) -> dict[str, Any]:
    """The figures of a class or a tenant as plain data."""
    reasons: dict[str, dict[str, int]] = {}
    for (outcome, reason), count in sorted(group.reasons.items()):
        reasons.setdefault(outcome, {})[reason] = count
    return {
        "messages": group.messages,
        "answered": group.answered,
        "loss": group.loss,
        "outcomes": dict(group.outcomes),
        "reasons": reasons,
        "wait": attrs.asdict(group.wait.summary()),
        "service": attrs.asdict(group.service.summary()),
        "response": attrs.asdict(group.response.summary()),
    }


def _target(aimed: Aimed) -> dict[str, Any]:
    return {
        **attrs.asdict(aimed.target),
        "at_least": aimed.target.at_least,
        "value": aimed.value,
        "met": aimed.met,
    }


def _timeline(run: Rehearsal) -> dict[str, Any]:
    line = run.timeline
    return {
        "step": line.step,
        "arrivals": list(line.arrivals),
        "outcomes": {name: list(counts) for name, counts in line.outcomes.items() if any(counts)},
        "running": list(line.running),
        "limit": list(line.limit),
        "waiting": list(line.waiting),
        "wait_p50": {priority.name: list(waits) for priority, waits in line.wait_p50.items()},
        "wait_p99": {priority.name: list(waits) for priority, waits in line.wait_p99.items()},
    }


def plain(value: Any) -> Any:
    """Data of a TOML file as data that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def biggest(run: Rehearsal) -> list[tuple[str, GroupFigures]]:
    """The tenants, those with the most messages first; of equals, the one that spoke first."""
    return sorted(run.tenants.items(), key=lambda item: -item[1].messages)


# -- targets -----------------------------------------------------------------------------------------------


def judged(scenario: Scenario, run: Rehearsal) -> tuple[Aimed, ...]:
    """Every target of the scenario with its figure."""
    return tuple(_judge(target, run) for target in scenario.targets)


def _judge(target: Target, run: Rehearsal) -> Aimed:
    value = _value(target, run)
    if value is None:
        return Aimed(target, None, None)
    return Aimed(target, value, value >= target.bound if target.at_least else value <= target.bound)


def _value(target: Target, run: Rehearsal) -> float | None:
    if target.at_least:
        return float(getattr(run, target.figure))
    group = GroupFigures.sum(list(_meant(target, run)))
    if not group.messages:
        return None
    if target.figure == "loss":
        return group.loss
    what, _, quantile = target.figure.partition("_")
    summary: LatencySummary = getattr(group, what).summary()
    return float(getattr(summary, quantile)) if summary.count else None


def _meant(target: Target, run: Rehearsal) -> Iterator[GroupFigures]:
    if target.scope == "tenants":
        yield from (group for name, group in run.tenants.items() if fnmatchcase(name, target.name))
    elif target.scope == "class":
        yield run.classes[Priority[target.name]]
    else:
        yield from run.classes.values()
