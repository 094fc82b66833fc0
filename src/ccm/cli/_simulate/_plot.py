"""Simulations as pictures. The only module that needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ccm import Priority

from .._console import UsageError
from ._report import Report

COLOURS = {
    Priority.CRITICAL: "tab:red", Priority.HIGH: "tab:orange", Priority.NORMAL: "tab:green",
    Priority.LOW: "tab:blue",
}  # fmt: skip
OUTCOMES = {
    "replied": "tab:green", "rejected": "tab:red", "shed": "tab:purple", "expired": "tab:orange",
    "failed": "tab:brown", "cancelled": "tab:gray", "merged": "tab:olive", "superseded": "tab:pink",
}  # fmt: skip
LEAST_WAIT = 0.01
"""Seconds from which on the axis of waits is logarithmic; below it is linear, so that 0 has a place."""


def draw(reports: Sequence[Report], path: str) -> None:
    """Draw the timeline of one run, or what was varied, into a .png or .svg file. The same runs, the same
    bytes.

    Raises:
        UsageError: the file cannot be written.
    """
    style: Any = {
        "svg.hashsalt": "ccm",
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "legend.fontsize": 8,
    }
    with matplotlib.rc_context(style):
        figure = _timeline(reports[0]) if len(reports) == 1 else _variants(reports)
        metadata = {"Date": None} if path.lower().endswith(".svg") else {"Software": None}
        try:
            figure.savefig(path, dpi=110, metadata=metadata)
        except OSError as error:
            raise UsageError(f"cannot write {path!r}: {error.strerror}; name another --plot file") from None


def _timeline(report: Report) -> Figure:
    line = report.rehearsal.timeline
    figure = Figure(figsize=(10, 9), layout="constrained")
    rates, waits, slots, queue = figure.subplots(4, sharex=True, height_ratios=(3, 3, 2, 2))
    unit, name = _unit(len(line.arrivals) * line.step)
    at = [(number + 0.5) * line.step / unit for number in range(len(line.arrivals))]
    rates.plot(at, [count / line.step for count in line.arrivals], color="black", lw=0.8, label="arrivals")
    for outcome, counts in line.outcomes.items():
        if any(counts):
            rates.plot(
                at, [n / line.step for n in counts], color=OUTCOMES.get(outcome), lw=1.2, label=outcome
            )
    rates.set_ylabel("messages a second")
    for priority in Priority:
        _wait(waits, at, line.wait_p99[priority], color=COLOURS[priority], label=f"{priority.name} p99")
        _wait(
            waits, at, line.wait_p50[priority], color=COLOURS[priority], ls=":", label=f"{priority.name} p50"
        )
    _scale(waits)
    waits.set_ylabel("wait, seconds")
    slots.plot(at, line.limit, color="black", lw=0.8, label="limit")
    slots.fill_between(at, line.running, color="tab:cyan", alpha=0.6, label="running")
    slots.set_ylabel("slots")
    queue.fill_between(at, line.waiting, color="tab:gray", alpha=0.6, label="waiting")
    queue.set_ylabel("turns that wait")
    queue.set_xlabel(name)
    for axes in (rates, waits, slots, queue):
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.suptitle(report.scenario.title or "ccm simulate")
    return figure


def _wait(axes: Any, at: Sequence[float], waits: Sequence[float | None], **style: Any) -> None:
    if any(wait is not None for wait in waits):
        axes.plot(at, [float("nan") if wait is None else wait for wait in waits], lw=1.0, **style)


def _scale(waits: Any) -> None:
    waits.set_yscale("symlog", linthresh=LEAST_WAIT)
    waits.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _unit(seconds: float) -> tuple[float, str]:
    """In what a timeline of `seconds` is best read."""
    if seconds > 3 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds > 300 else (1.0, "seconds")


def _variants(reports: Sequence[Report]) -> Figure:
    figure = Figure(figsize=(10, 7), layout="constrained")
    waits, shares = figure.subplots(2, sharex=True)
    places = list(range(len(reports)))
    for priority in Priority:
        histograms = [report.rehearsal.classes[priority].wait for report in reports]
        p99 = [histogram.quantile(0.99) if histogram.count else None for histogram in histograms]
        _wait(waits, places, p99, color=COLOURS[priority], marker="o", label=f"{priority.name} p99")
    _scale(waits)
    waits.set_ylabel("wait, seconds")
    shares.plot(
        places, [100 * report.rehearsal.total.loss for report in reports], "o-", color="tab:red", label="lost"
    )
    goodput = [100 * report.rehearsal.goodput for report in reports]
    shares.plot(places, goodput, "o-", color="tab:green", label="goodput")
    shares.set_ylabel("% of messages, of slot-seconds")
    labels = ["\n".join(map(str, report.varied.values())) for report in reports]
    shares.set_xticks(places, labels, rotation=45 if len(max(labels, key=len)) * len(labels) > 80 else 0)
    shares.set_xlabel(", ".join(reports[0].varied))
    for axes in (waits, shares):
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    figure.suptitle(reports[0].scenario.title or "ccm simulate")
    return figure
