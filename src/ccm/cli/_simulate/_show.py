"""Simulations in the terminal: tables, a timeline of small charts, variants side by side. Needs rich."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ccm import Priority
from ccm.testing import GroupFigures, Rehearsal, Timeline

from .._tables import STYLES, duration, make_console, make_table, verdict
from ._report import Report, biggest

TENANTS = 8
"""Tenants that get a row of their own; the rest shares one."""
COLUMNS = 72
"""Characters of a chart, where there is room."""
WIDE = 100
"""Columns of a terminal from which on every figure has its place."""
BARS = " ▁▂▃▄▅▆▇█"
PLAIN_BARS = " .:-=+*#@"
BAD = {"rejected": "red", "shed": "magenta", "expired": "yellow", "failed": "red", "cancelled": "dim"}
"""Outcomes without an answer, with their colours in charts."""


def print_reports(reports: Sequence[Report]) -> None:
    """The tables and charts of one run, or the comparison of several, on stdout."""
    console = make_console()
    if len(reports) == 1:
        _print_one(console, reports[0])
    else:
        console.print(_comparison(reports))
        for report in reports:
            for line in _losses(report):
                console.print(Text(f"  {report.label}:{line[1:]}"))
    missed = [(report.label, report.misses) for report in reports if report.misses]
    if not missed:
        console.print(Text("OK: every law and target held", style="bold green"))
    for label, misses in missed:
        console.print(
            Text(f"MISSED{f' with {label}' if label else ''}: {'; '.join(misses)}", style="bold red")
        )


def _print_one(console: Console, report: Report) -> None:
    run, wide = report.rehearsal, console.width >= WIDE
    if report.scenario.title:
        console.print(Text(report.scenario.title, style="bold"))
        console.print()
    console.print(_groups("per class", [(_class(p), group) for p, group in run.classes.items()], wide))
    tenants = biggest(run)
    if len(tenants) > 1:
        rows = [(Text(name or "(default)"), group) for name, group in tenants[:TENANTS]]
        if len(tenants) > TENANTS:
            rest = GroupFigures.sum([group for _, group in tenants[TENANTS:]])
            rows.append((Text(f"{len(tenants) - TENANTS} others", style="dim"), rest))
        console.print(_groups("per tenant, the biggest first", rows, wide))
    for line in _facts(report):
        console.print(Text(line))
    console.print()
    console.print(_timeline(run, _bars(), min(COLUMNS, console.width - 32)))
    console.print()
    if report.aimed:
        console.print(_targets(report))
    console.print(_laws(run))


def _class(priority: Priority) -> Text:
    return Text(priority.name, style=STYLES[priority])


# -- tables ------------------------------------------------------------------------------------------------


def _groups(title: str, rows: Sequence[tuple[Text, GroupFigures]], wide: bool) -> Table:
    ends = [name for name in rows[0][1].outcomes if any(group.outcomes[name] for _, group in rows)]
    figures = ["wait p50", "p90", "p99", "max", "service p50", "p99", "response p99"]
    if not wide:
        figures = ["wait p50", "p99", "max", "response p99"]
    table = make_table(title, title.split(",")[0].removeprefix("per "), "messages", *ends, *figures)
    for name, group in rows:
        wait, service = group.wait.summary(), group.service.summary()
        waits = (wait.p50, wait.p90, wait.p99, wait.max) if wide else (wait.p50, wait.p99, wait.max)
        services = (service.p50, service.p99) if wide else ()
        table.add_row(
            name, str(group.messages), *(str(group.outcomes[end] or "-") for end in ends),
            *_times(waits, wait.count), *_times(services, service.count),
            *_times((group.response.quantile(0.99),), group.response.count),
        )  # fmt: skip
    return table


def _times(seconds: Sequence[float], count: int) -> list[str]:
    """As people read them; of nothing at all, dashes."""
    return [(duration(value) if value else "0") if count else "-" for value in seconds]


def _facts(report: Report) -> Iterator[str]:
    run = report.rehearsal
    statistics = run.statistics
    rate = run.sent / run.duration if run.duration else 0.0
    yield (
        f"  {run.sent} messages in {run.duration:g} s, {rate:.1f} a second; "
        f"the last one ended at {run.seconds:.1f} s"
    )
    yield (
        f"  slots: limit {statistics.limit}, at most {statistics.peak_running} at work; "
        f"{_percent(run.used)} of the slot-seconds used, {_percent(run.goodput)} for answers; "
        f"{run.replies_per_second:.1f} replies a second"
    )
    yield f"  queue: at most {run.peak_waiting} waited"
    retries = sum(route.retries for route in statistics.routes.values())
    timeouts = sum(route.timeouts for route in statistics.routes.values())
    if retries or report.busy or timeouts or statistics.fallbacks:
        yield (
            f"  handler: {report.calls} calls, {report.busy} of them told that the provider is busy; "
            f"{retries} retries, {timeouts} time-outs, {statistics.fallbacks} fallbacks"
        )
    yield from _losses(report)


def _losses(report: Report) -> Iterator[str]:
    for (outcome, reason), count in sorted(report.rehearsal.total.reasons.items()):
        yield f"  {outcome}: {count} {reason}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _targets(report: Report) -> Table:
    table = make_table("targets", "of", "figure", "bound", "is", "verdict", left=2)
    for aimed in report.aimed:
        target = aimed.target
        of = {"all": "all messages", "class": target.name, "tenants": f"tenants {target.name}"}[target.scope]
        table.add_row(
            Text(of), target.figure.replace("_", " "),
            f"{'>=' if target.at_least else '<='} {_figure(target.figure, target.bound)}",
            "-" if aimed.value is None else _figure(target.figure, aimed.value), verdict(aimed.met),
        )  # fmt: skip
    return table


def _figure(name: str, value: float) -> str:
    if name in ("loss", "goodput"):
        return f"{value * 100:.4g} %"
    if name == "replies_per_second":
        return f"{value:.4g} /s"
    return duration(value) if value else "0"


def _laws(run: Rehearsal) -> Table:
    table = make_table("laws", "law", "promise", "figures", "verdict", left=3)
    for check in run.checks:
        table.add_row(check.law, check.promise, Text(check.detail), verdict(check.ok))
    return table


def _comparison(reports: Sequence[Report]) -> Table:
    names = list(reports[0].varied)
    waits = [
        priority for priority in Priority if any(r.rehearsal.classes[priority].wait.count for r in reports)
    ]
    table = make_table(
        "side by side; of each class the 99th percentile of the wait", *names, "messages", "lost", "goodput",
        "replies/s", "queue", *(priority.name for priority in waits), "verdict", left=len(names),
    )  # fmt: skip
    for report in reports:
        run, total = report.rehearsal, report.rehearsal.total
        p99 = [run.classes[p].wait.quantile(0.99) for p in waits]
        table.add_row(
            *map(str, report.varied.values()), str(run.sent), _percent(total.loss), _percent(run.goodput),
            f"{run.replies_per_second:.1f}", str(run.peak_waiting), *_times(p99, 1), verdict(report.ok),
        )  # fmt: skip
    return table


# -- the timeline ------------------------------------------------------------------------------------------


def _bars() -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        BARS.encode(encoding)
    except UnicodeEncodeError:
        return PLAIN_BARS
    return BARS


def _timeline(run: Rehearsal, bars: str, columns: int) -> Table:
    line = run.timeline
    per = max(1, math.ceil(len(line.arrivals) / columns))
    grid = Table(
        title=f"timeline, {per * line.step:g} s a character", title_justify="left", title_style="bold",
        box=None, pad_edge=False, padding=(0, 1),
    )  # fmt: skip
    grid.add_column("")
    grid.add_column("", no_wrap=True, min_width=columns)
    grid.add_column("most", justify="right")
    for name, style, values, unit in _charts(line, per):
        most = max((value for value in values if value is not None), default=0.0)
        grid.add_row(
            name,
            Text(chart(values, most, bars), style=style),
            f"{most:.4g}{unit}" if unit else duration(most),
        )
    return grid


def _charts(line: Timeline, per: int) -> Iterator[tuple[str, str, list[float | None], str]]:
    """Name, colour, values and unit ("": seconds) of each chart."""
    seconds = per * line.step
    yield "arrivals", "", [sum(part) / seconds for part in _parts(line.arrivals, per)], " /s"
    for outcome, counts in line.outcomes.items():
        if any(counts):
            style = BAD.get(outcome, "green")
            yield outcome, style, [sum(part) / seconds for part in _parts(counts, per)], " /s"
    yield "running", "cyan", [sum(part) / len(part) for part in _parts(line.running, per)], " slots"
    if len(set(line.limit)) > 1:
        yield "limit", "cyan", [float(max(part)) for part in _parts(line.limit, per)], " slots"
    yield "waiting", "", [float(max(part)) for part in _parts(line.waiting, per)], " turns"
    for priority, waits in line.wait_p99.items():
        tops = [max((wait for wait in part if wait is not None), default=None) for part in _parts(waits, per)]
        if any(tops):
            yield f"wait p99 {priority.name}", STYLES[priority], tops, ""


def _parts(
    values: Sequence[float | None] | Sequence[float] | Sequence[int], per: int
) -> Iterable[Sequence[float]]:
    return (values[start : start + per] for start in range(0, len(values), per))  # type: ignore[misc]


def chart(values: Sequence[float | None], most: float, bars: str) -> str:
    """One character for each value: blank for none and 0, the highest bar for `most`."""
    top = len(bars) - 1
    return "".join(
        bars[math.ceil(value / most * top)] if value is not None and value > 0.0 else bars[0]
        for value in values
    )


# -- while it runs -----------------------------------------------------------------------------------------


@contextmanager
def progress(runs: int) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr that is told how many of the runs are done; without a terminal, None."""
    console = make_console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("simulate"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=runs)
        yield lambda done: bar.update(task, completed=done, refresh=True)
