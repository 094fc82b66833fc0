"""What a run found, as data: rows per class, checks, one verdict. Pure: figures in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from ccm import LatencySummary, Priority, Statistics

from ._run import Finished
from ._witness import Check, Witness


@attrs.frozen(kw_only=True)
class ClassRow:
    """One class: its turns, and seconds of wait (arrival to start) and response (arrival to end).

    Attributes:
        target: what the 99th percentile of the response must stay below, in seconds; None is no target.
    """

    priority: Priority
    outcomes: Mapping[str, int]
    wait: LatencySummary
    response: LatencySummary
    target: float | None

    @property
    def turns(self) -> int:
        """How many turns ended."""
        return sum(self.outcomes.values())

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without a target or without an answer to judge."""
        if self.target is None or not self.response.count:
            return None
        return self.response.p99 < self.target


@attrs.frozen(kw_only=True)
class Report:
    """All of it. `lost_allowed` None: unanswered messages are shown, but are no target."""

    command: str
    rows: tuple[ClassRow, ...]
    checks: tuple[Check, ...]
    statistics: Statistics
    sent: int
    seconds: float
    failures: tuple[tuple[str, int], ...]
    answer_all: bool
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def unanswered(self) -> int:
        """Messages whose outcome is not an answer, or that have none."""
        outcomes = self.statistics.outcomes
        return self.sent - outcomes["replied"] - outcomes["merged"]

    @property
    def misses(self) -> tuple[str, ...]:
        """What was missed, in words; empty when all is well."""
        found = [f"{check.law}: {check.promise}" if check.law.startswith("G") else check.promise
                 for check in self.checks if not check.ok]  # fmt: skip
        found += [f"target of {row.priority.name}" for row in self.rows if row.met is False]
        if self.answer_all and self.unanswered:
            found.append(f"loss 0: {self.unanswered} unanswered")
        return tuple(found)

    @property
    def ok(self) -> bool:
        """Whether every law and every target held."""
        return not self.misses

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; times in seconds."""
        statistics = self.statistics
        return {
            "command": self.command,
            "ok": self.ok,
            "missed": list(self.misses),
            "settings": dict(self.settings),
            "seconds": self.seconds,
            "sent": self.sent,
            "unanswered": self.unanswered,
            "per_second": self.sent / self.seconds if self.seconds else None,
            "limit": statistics.limit,
            "peak_running": statistics.peak_running,
            "conservation": statistics.conservation(),
            "received": statistics.received,
            "outcomes": dict(statistics.outcomes),
            "rejected": {str(reason): count for reason, count in statistics.rejected.items()},
            "side_received": statistics.side_received,
            "side_outcomes": dict(statistics.side_outcomes),
            "classes": [_row_as_json(row) for row in self.rows],
            "checks": [attrs.asdict(check) for check in self.checks],
            "failures": [{"error": error, "count": count} for error, count in self.failures],
            "notes": list(self.notes),
        }


def _row_as_json(row: ClassRow) -> dict[str, Any]:
    return {
        "class": row.priority.name,
        "turns": row.turns,
        "outcomes": dict(row.outcomes),
        "wait": attrs.asdict(row.wait),
        "response": attrs.asdict(row.response),
        "target": row.target,
        "met": row.met,
    }


def build_report(
    command: str, witness: Witness, finished: Finished, *, targets: Mapping[Priority, float],
    answer_all: bool, settings: Mapping[str, Any], notes: tuple[str, ...] = (),
) -> Report:  # fmt: skip
    """Put together what the witness saw and how the run ended."""
    rows = tuple(
        ClassRow(
            priority=priority,
            outcomes=dict(figures.outcomes),
            wait=figures.wait.summary(),
            response=figures.response.summary(),
            target=targets.get(priority),
        )
        for priority, figures in witness.classes.items()
    )
    return Report(
        command=command, rows=rows, checks=tuple(witness.checks(finished.statistics)),
        statistics=finished.statistics, sent=witness.sent, seconds=finished.seconds,
        failures=finished.failures, answer_all=answer_all, settings=settings, notes=notes,
    )  # fmt: skip
